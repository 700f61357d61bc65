"""What a latent writes: its decoder row, and the tokens whose logits that row changes.

Shapes: K latents, O width decoded to, D width of the residual stream, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lakeinterp.capture.model import SubjectModel
    from lakeinterp.capture.points import Point


def decoder_rows(point: Point, latents: Sequence[int]) -> Tensor:
    """Return what one unit of each latent adds at the coder's target, [K, O], float32.

    Neurons add to what their down projection reads: a row of the identity.
    """
    weights = getattr(point.coder, "weights", None)
    device = None if weights is None else weights.decoder_LO.device
    latent_K = torch.tensor(list(latents), dtype=torch.int64, device=device)
    if weights is None:
        return torch.nn.functional.one_hot(latent_K, point.coder.spec.n_latents).float()
    rows_KO: Tensor = weights.decoder_LO[latent_K].float()
    if weights.decode_scale_L is not None:
        rows_KO = rows_KO * weights.decode_scale_L[latent_K, None]
    return rows_KO


def in_residual(model: SubjectModel, point: Point, rows_KO: Tensor) -> Tensor:
    """Return what rows at a coder's target add to the residual stream, [K, D].

    What stands in front of a projection goes through it; all else is added as it is.

    Raises:
        ConfigError: the target is no place whose states are added to the residual stream.
    """
    target, rows_KD = point.target, rows_KO
    module = model.hf.get_submodule(target.module)
    if target.site == "input" and getattr(getattr(module, "weight", None), "ndim", 0) > 1:
        rows_KD = _linear(module, rows_KO)
    width = _width(model)
    if rows_KD.shape[-1] != width:
        raise ConfigError(
            f"coder {point.coder.spec.hookpoint}: the {target.site} of {target.module} has width "
            f"{rows_KD.shape[-1]}, the residual stream {width}: it is not added to that"
        )
    return rows_KD


def direct_logits(model: SubjectModel, rows_KD: Tensor) -> Tensor:
    """Return what rows of the residual stream add to the logits, [K, V], if nothing reads them.

    The rows go through the gain of the final norm, where that is a layer norm less their mean over
    the width, and through the unembedding; the norm's division is left out, as its size depends on
    the text. Each row of logits is defined up to a constant.
    """
    norm = final_norm(model)
    if norm is not None:
        if _centres(norm):
            rows_KD = rows_KD - rows_KD.mean(-1, keepdim=True)
        rows_KD = rows_KD * gain(norm, rows_KD.shape[-1]).to(rows_KD)
    return _linear(model.causal.get_output_embeddings(), rows_KD)


def final_norm(model: SubjectModel) -> Any:
    """Return the norm between the last block and the unembedding, None if there is none.

    It is the last norm that is in no list of blocks.
    """
    found = None
    for name, module in model.hf.named_modules():
        is_norm = "norm" in type(module).__name__.lower()
        if is_norm and not any(part.isdigit() for part in name.split(".")):
            found = module
    return found


def gain(norm: Any, width: int) -> Tensor:
    """Return what a norm multiplies normalised states by, [D]; some store it less one."""
    probe_D = torch.ones(width)
    probe_D[1::2] = -1.0
    if width % 2:
        probe_D[-3:] = torch.tensor([1.0, 1.0, -2.0])  # its mean is zero whatever the width
    probe_D = probe_D * probe_D.square().mean().rsqrt()
    exact = copy.deepcopy(norm).float().cpu()
    with torch.no_grad():
        out_D = exact(probe_D[None])[0] - exact(torch.zeros(1, width))[0]
    gain_D: Tensor = out_D / probe_D
    return gain_D


def _centres(norm: Any) -> bool:
    """Whether a norm takes the mean off, as layer norms do and RMS norms do not."""
    return isinstance(norm, torch.nn.LayerNorm)


def _linear(module: Any, rows_KO: Tensor) -> Tensor:
    """Return rows times a module's matrix, whatever way round it is kept, without its bias."""
    weight = next(module.parameters())
    dtype = weight.dtype if weight.is_floating_point() else torch.float32
    with torch.no_grad():
        if isinstance(module, torch.nn.Linear) and weight.is_floating_point():
            out_KD: Tensor = rows_KO.to(weight.device) @ weight.float().T
        else:
            rows_KO = rows_KO.to(weight.device, dtype)
            out_KD = (module(rows_KO) - module(torch.zeros_like(rows_KO[:1]))).float()
    return out_KD


def _width(model: SubjectModel) -> int:
    return int(model.hf.get_input_embeddings().weight.shape[1])
