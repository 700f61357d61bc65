"""What a coder does to real tokens, measured before anything is captured with it.

Shapes: N tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from lakeinterp.errors import ConfigError, NonFinite

if TYPE_CHECKING:
    from torch import Tensor

    from lakeinterp.coders import SparseCoder
    from lakeinterp.config import CaptureConfig


class Check(NamedTuple):
    """Measured on some thousand tokens of the corpus."""

    n_tokens: int
    l0: float
    """Mean number of active latents at a token."""
    explained_variance: float
    """1 minus the fraction of variance unexplained, of what the coder reconstructs."""
    silent_share: float
    """Share of the latents that none of these tokens activates."""


def check_coder(coder: SparseCoder, x_ND: Tensor, target_ND: Tensor) -> Check:
    """Measure a coder on hidden states it would read.

    Args:
        coder: The coder.
        x_ND: What it reads; special tokens left out.
        target_ND: What it should decode to: the same states for an SAE, the module's output
            for a transcoder.
    """
    active = coder.encode(x_ND)
    target_ND = target_ND.to(x_ND.device, torch.float32)
    error = (coder.decode(active, x_ND) - target_ND).square().sum()
    spread = (target_ND - target_ND.mean(0)).square().sum()
    used = active.latent_M.unique().numel()
    return Check(
        n_tokens=len(x_ND),
        l0=len(active.latent_M) / max(1, len(x_ND)),
        explained_variance=float(1 - error / spread),
        silent_share=1 - used / coder.spec.n_latents,
    )


def refuse_if_far(coder: SparseCoder, check: Check, place: str, settings: CaptureConfig) -> None:
    """Stop when a coder does not fit the model it is read with.

    Args:
        coder: The coder; controls fit always.
        check: What was measured.
        place: Where it was measured, for the message.
        settings: The limits.

    Raises:
        ConfigError: it explains less of the variance than `min_explained_variance`, or its L0 is
            `max_l0_ratio` times off the published one; which a wrong model, layer, site or
            scaling would look like.
    """
    spec, minimum, ratio = coder.spec, settings.min_explained_variance, settings.max_l0_ratio
    if spec.control or settings.control != "none":
        return
    seen = f"{place} on {check.n_tokens} tokens"
    if not check.explained_variance >= minimum:
        raise ConfigError(
            f"coder {spec.hookpoint}: explains {check.explained_variance:.2f} of the variance at "
            f"{seen} (L0 {check.l0:.1f}), less than capture.min_explained_variance = {minimum}; is "
            "it a coder of this model and layer?"
        )
    published = spec.published_l0
    if published and not published / ratio <= check.l0 <= published * ratio:
        raise ConfigError(
            f"coder {spec.hookpoint}: L0 is {check.l0:.1f} at {seen}, published is "
            f"{published:.1f}, more than capture.max_l0_ratio = {ratio} times off; is it a coder "
            "of this model and layer?"
        )


def refuse_nonfinite(hookpoint: str, finite_N: Tensor, keep_BT: Tensor) -> None:
    """Stop where the model itself gives NaN or infinity, before a coder is blamed for it.

    Args:
        hookpoint: For the message.
        finite_N: Whether the hidden state of each token that was kept is finite.
        keep_BT: Which tokens of the corpus's first sequences were kept.

    Raises:
        NonFinite: names the first such token.
    """
    if bool(finite_N.all()):
        return
    wrong = int((~finite_N).nonzero()[0, 0])
    sequence, position = (int(i) for i in keep_BT.nonzero()[wrong])
    raise NonFinite(
        f"{hookpoint}: the hidden state at sequence {sequence}, position {position} is NaN or "
        "infinite; try capture.dtype = float32, or --allow-nonfinite to leave such tokens out"
    )
