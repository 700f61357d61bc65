"""From active latents to sorted, rounded rows of one shard.

Shapes: M activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import torch

from lakeinterp.errors import NonFinite

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from lakeinterp.coders import Active


class Rows(NamedTuple):
    """Rows of one hookpoint and shard, ordered by (latent, token)."""

    latents: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int64]
    """Corpus index of the token."""
    values: npt.NDArray[np.float32]


@dataclass
class ShardBuffer:
    """Gathers one hookpoint's rows of a shard as they leave the model, in token order."""

    hookpoint: str
    value_dtype: torch.dtype
    _latents: list[Tensor] = field(default_factory=list)
    _tokens: list[Tensor] = field(default_factory=list)
    _values: list[Tensor] = field(default_factory=list)
    _copied: torch.cuda.Event | None = None
    """Comes after the last copy from a GPU."""

    def add(self, active: Active, token_M: Tensor, context_tokens: int) -> int:
        """Keep the active latents of one batch.

        Args:
            active: In token order.
            token_M: Corpus index of each activation's token.
            context_tokens: Length of a sequence, for the message.

        Returns:
            The number of rows kept: activations that are zero after rounding are not rows.

        Raises:
            NonFinite: an activation is NaN, infinite, or too large for `value_dtype`.
        """
        value_M = active.value_M.to(self.value_dtype).to(torch.float32)
        kept_M, finite_M = value_M != 0, torch.isfinite(value_M)
        # Both counts in one wait for the device.
        n_kept, n_finite = torch.stack((kept_M.sum(), finite_M.sum())).tolist()
        if n_finite < len(value_M):
            self._refuse(active, token_M, int((~finite_M).nonzero()[0, 0]), context_tokens)
        rows = (active.latent_M, token_M, value_M)
        if n_kept < len(value_M):
            rows = (active.latent_M[kept_M], token_M[kept_M], value_M[kept_M])
        for held, part_M in zip((self._latents, self._tokens, self._values), rows, strict=True):
            held.append(_to_host(part_M))
        if value_M.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(value_M.device))
        return int(n_kept)

    def sorted(self) -> Rows:
        """Return the rows ordered by (latent, token), once.

        Tokens arrive ascending, so one stable sort by latent gives both orders.
        """
        if self._copied is not None:
            self._copied.synchronize()
        latents = _taken(self._latents, np.int32)
        order = _order(latents)
        tokens, values = _taken(self._tokens, np.int64), _taken(self._values, np.float32)
        return Rows(latents[order], tokens[order], values[order])

    def _refuse(self, active: Active, token_M: Tensor, wrong: int, context_tokens: int) -> NoReturn:
        sequence, position = divmod(int(token_M[wrong]), context_tokens)
        raise NonFinite(
            f"{self.hookpoint}: activation {float(active.value_M[wrong]):g} of latent "
            f"{int(active.latent_M[wrong])} at sequence {sequence}, position {position}; "
            "try capture.dtype = float32 and capture.value_dtype = float32"
        )


def _to_host(x_M: Tensor) -> Tensor:
    """Return a copy in host memory, from a GPU one that may still be on its way."""
    if not x_M.is_cuda:
        return x_M.cpu()
    held_M = torch.empty(x_M.shape, dtype=x_M.dtype, pin_memory=True)
    return held_M.copy_(x_M, non_blocking=True)


def _taken(parts: list[Tensor], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the parts as one array, and let go of them."""
    whole = np.concatenate([np.empty(0, dtype), *(part.numpy() for part in parts)])
    parts.clear()
    return whole


def _order(latents: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the stable order of latents.

    NumPy sorts 16-bit integers by their digits: one thread takes as long as two threads of torch,
    and leaves the other to the model.
    """
    low = (latents & 0xFFFF).astype(np.uint16)
    order = np.argsort(low, kind="stable")
    if len(latents) and latents.max() > 0xFFFF:
        high = (latents >> 16).astype(np.uint16)[order]
        order = order[np.argsort(high, kind="stable")]
    return order
