"""The few that matter among many latents: the largest k of a row without sorting the row.

A row of pre-activations is cut into blocks, whose maxima say where to look: one pass over the row
and a top k of a short list, instead of a top k of the row.

Shapes: C tokens of a chunk, L latents, B blocks, G latents of k blocks, M candidates, W widest
row of candidates.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import torch

from lakeinterp.coders.base import Active

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 32
"""Latents of a block; fewer where that would leave too few blocks."""
CANDIDATE_SHARE = 32
"""At most one latent in so many is scored alone; beyond, the whole row is."""
_GATHERED = 16
"""Latents of a block that is gathered whole."""
_WORD = 8
_local = threading.local()


class Candidates(NamedTuple):
    """Latents of C tokens, by token, then ascending, with all active ones among them."""

    token_M: Tensor
    """Int64."""
    latent_M: Tensor
    """Int64."""
    pre_M: Tensor
    """Pre-activations; float32."""
    n_tokens: int


def block_size(n_latents: int, k: int) -> int:
    """Return a power of two that leaves 4 k blocks or more and divides a row; 1 is of no use."""
    size = BLOCK
    while size > 1 and (n_latents % size or n_latents // size < 4 * k):
        size //= 2
    return size


def block_max(x_CL: Tensor, size: int) -> Tensor:
    """Return the largest of each block, [C, L / size]; a block's latents lie L / size apart."""
    return x_CL.reshape(len(x_CL), size, x_CL.shape[1] // size).amax(1)


def places(mask_CL: Tensor) -> Tensor:
    """Return where a mask is true, as ascending places in the flat mask.

    Eight at a time: most words of a mask that is true in few places are zero, which makes it
    about six times as fast as `nonzero` of the mask.
    """
    mask = mask_CL.flatten()
    if len(mask) % _WORD:
        return mask.nonzero()[:, 0]
    words = mask.view(torch.int64)
    word = words.nonzero()[:, 0]
    within = words[word].view(torch.bool).view(-1, _WORD).nonzero()
    return word[within[:, 0]] * _WORD + within[:, 1]


def offsets(token_M: Tensor, n_tokens: int) -> Tensor:
    """Return where the candidates of each token begin, and the end: [C + 1], int64."""
    starts = token_M.new_zeros(n_tokens + 1)
    torch.cumsum(torch.bincount(token_M, minlength=n_tokens), 0, out=starts[1:])
    return starts


def largest(found: Candidates, k: int) -> Active:
    """Return the positive ones among the k largest candidates of each token."""
    n_tokens = found.n_tokens
    starts = offsets(found.token_M, n_tokens)
    width = int(starts.diff().max()) if n_tokens else 0
    pre_CW = found.pre_M.new_full((n_tokens, width), -torch.inf)
    within_M = torch.arange(len(found.token_M), device=starts.device) - starts[found.token_M]
    pre_CW[found.token_M, within_M] = found.pre_M
    value_CK, place_CK = pre_CW.topk(min(k, width), dim=-1, sorted=False)
    kept_CK = ~(value_CK <= 0)
    token_M = kept_CK.nonzero()[:, 0]
    place_M = starts[token_M] + place_CK[kept_CK]
    return Active(token_M, found.latent_M[place_M].to(torch.int32), value_CK[kept_CK])


def by_blocks(pre_CL: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and latents of a top k of each row, in no order; NaN counts as the largest.

    The k blocks of the largest maxima hold a top k: a value of another block is no larger than
    its block's maximum, and that is no larger than k others. Long rows save a third of the time
    of `torch.topk`; short ones nothing, and take it as it is.
    """
    n_latents, k = pre_CL.shape[-1], min(k, pre_CL.shape[-1])
    size = _GATHERED
    if n_latents % size or n_latents < size * size * k:
        return torch.topk(pre_CL, k, dim=-1, sorted=False)
    block_CK = block_max(pre_CL, size).topk(k, sorted=False).indices
    apart = torch.arange(size, device=pre_CL.device) * (n_latents // size)
    latent_CG = (block_CK[:, :, None] + apart).flatten(1)
    value_CK, place_CK = pre_CL.gather(1, latent_CG).topk(k, sorted=False)
    return value_CK, latent_CG.gather(1, place_CK)


def scratch(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory for one chunk, with anything in it, that the thread's next call takes back.

    On a CPU fresh memory costs a page fault for each 4 KiB, a quarter of a matrix product's time;
    on a GPU the allocator of torch keeps what was freed.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    kept: dict[torch.dtype, Tensor] = _local.__dict__.setdefault("kept", {})
    n = shape[0] * shape[1]
    if dtype not in kept or len(kept[dtype]) < n:
        kept[dtype] = torch.empty(n, dtype=dtype)
    return kept[dtype][:n].view(shape)
