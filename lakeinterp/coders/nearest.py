"""Which rows of a coder point the same way.

Shapes: L latents, D width, B latents of a block, K neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from lakeinterp.coders.base import SparseCoder

Side = Literal["decoder", "encoder"]


def directions(coder: SparseCoder, side: Side) -> Tensor:
    """Return a coder's rows, [L, D], each of length one, or zero where it was zero.

    Raises:
        ConfigError: the coder has no such rows.
    """
    weights = getattr(coder, "weights", None)
    if weights is None:
        raise ConfigError(
            f"sampling.neighbour_methods: the {coder.spec.format} of {coder.spec.hookpoint} have "
            f"no {side} rows; take cooccurrence"
        )
    rows_LD = weights.decoder_LO if side == "decoder" else weights.encoder_LD
    norm_L1 = rows_LD.norm(dim=1, keepdim=True)
    unit_LD: Tensor = rows_LD / norm_L1.clamp_min(torch.finfo(rows_LD.dtype).tiny)
    return unit_LD


def nearest(
    unit_LD: Tensor, block: slice, n_nearest: int, chunk_bytes: int
) -> tuple[Tensor, Tensor]:
    """Return the nearest other rows of a block of rows by cosine, and the cosines.

    Args:
        unit_LD: As `directions` returns them.
        block: Rows whose neighbours are wanted.
        n_nearest: Neighbours of each.
        chunk_bytes: Ceiling for the cosines that exist at one time.

    Returns:
        Latents and cosines, [B, K], nearest first, of equal ones the lower first; K is `n_nearest`
        or the number of other rows, if that is less. Rows of length zero are neighbours of none and
        have none: there the cosine is -inf.
    """
    n_latents = len(unit_LD)
    k = min(n_nearest, n_latents - 1)
    is_zero_L = ~unit_LD.any(dim=1)
    step = max(1, chunk_bytes // (4 * n_latents))
    latents, cosines = [], []
    for first in range(block.start, block.stop, step):
        own_C = torch.arange(first, min(first + step, block.stop), device=unit_LD.device)
        cosine_CL = unit_LD[own_C] @ unit_LD.T
        cosine_CL[:, is_zero_L] = -torch.inf
        cosine_CL[is_zero_L[own_C]] = -torch.inf
        cosine_CL[torch.arange(len(own_C), device=own_C.device), own_C] = -torch.inf
        near_CK, latent_CK = cosine_CL.topk(k, dim=1)
        latent_CK, order_CK = latent_CK.sort(dim=1)
        near_CK, again_CK = near_CK.gather(1, order_CK).sort(dim=1, descending=True, stable=True)
        latents.append(latent_CK.gather(1, again_CK))
        cosines.append(near_CK)
    if not latents:
        empty = unit_LD.new_empty((0, max(k, 0)))
        return empty.long(), empty
    return torch.cat(latents), torch.cat(cosines)
