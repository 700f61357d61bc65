"""From active latents to sorted, rounded rows of one shard.

Shapes: M activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

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
        if not bool(torch.isfinite(value_M).all()):
            wrong = int((~torch.isfinite(value_M)).nonzero()[0, 0])
            sequence, position = divmod(int(token_M[wrong]), context_tokens)
            raise NonFinite(
                f"{self.hookpoint}: activation {float(active.value_M[wrong]):g} of latent "
                f"{int(active.latent_M[wrong])} at sequence {sequence}, position {position}; "
                "try capture.dtype = float32 and capture.value_dtype = float32"
            )
        kept = value_M != 0
        self._latents.append(active.latent_M[kept].cpu())
        self._tokens.append(token_M[kept].cpu())
        self._values.append(value_M[kept].cpu())
        return int(kept.sum())

    def sorted(self) -> Rows:
        """Return the rows ordered by (latent, token).

        Tokens arrive ascending, so one stable sort by latent gives both orders.
        """
        if not self._latents:
            empty = np.empty(0)
            return Rows(empty.astype(np.int32), empty.astype(np.int64), empty.astype(np.float32))
        latent_M, order_M = torch.cat(self._latents).sort(stable=True)
        token_M, value_M = torch.cat(self._tokens)[order_M], torch.cat(self._values)[order_M]
        return Rows(latent_M.numpy(), token_M.numpy(), value_M.numpy())
