"""What a coder does to real tokens, measured before anything is captured with it.

Shapes: N tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from lakeinterp.coders import SparseCoder


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
    target_ND = target_ND.to(torch.float32)
    error = (coder.decode(active, x_ND) - target_ND).square().sum()
    spread = (target_ND - target_ND.mean(0)).square().sum()
    used = active.latent_M.unique().numel()
    return Check(
        n_tokens=len(x_ND),
        l0=len(active.latent_M) / max(1, len(x_ND)),
        explained_variance=float(1 - error / spread),
        silent_share=1 - used / coder.spec.n_latents,
    )


def refuse_if_far(coder: SparseCoder, check: Check, minimum: float) -> None:
    """Stop when a coder does not fit the model it is read with.

    Raises:
        ConfigError: it explains less of the variance than `minimum`, which a wrong model, layer,
            site or scaling would look like.
    """
    if check.explained_variance >= minimum:
        return
    spec = coder.spec
    raise ConfigError(
        f"coder {spec.hookpoint}: explains {check.explained_variance:.2f} of the variance at the "
        f"{spec.site} of {spec.module} on {check.n_tokens} tokens (L0 {check.l0:.1f}), less than "
        f"capture.min_explained_variance = {minimum}; is it a coder of this model and layer?"
    )
