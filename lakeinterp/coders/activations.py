"""Pre-activations to active latents, one chunk at a time: the non-linearities of sparse coders.

None of them lets a NaN pass for a zero: it stays in the result, for the caller to refuse.

Shapes: C tokens of a chunk, L latents, K kept latents, M activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from lakeinterp.coders.base import Active

if TYPE_CHECKING:
    from torch import Tensor


class Activation(Protocol):
    """A sparse non-linearity."""

    @property
    def bytes_per_latent(self) -> int:
        """Memory it needs for one latent at one token, its input included."""
        ...

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the active latents of a chunk, tokens counted from its start."""
        ...


@dataclass(frozen=True)
class TopK:
    """The positive ones among the k largest (Gao et al. 2024, arXiv 2406.04093, section 2.3)."""

    k: int
    bytes_per_latent: ClassVar[int] = 4

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the kept latents of each token, in no order within a token."""
        return _positive(*pre_CL.topk(min(self.k, pre_CL.shape[-1]), dim=-1, sorted=False))


@dataclass(frozen=True)
class GroupMax:
    """The positive ones among the largest of each of k equal ranges of latents."""

    k: int
    bytes_per_latent: ClassVar[int] = 4

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the kept latents of each token, ascending."""
        size = pre_CL.shape[-1] // self.k
        value_CK, within_CK = pre_CL.view(-1, self.k, size).max(dim=-1)
        return _positive(value_CK, within_CK + torch.arange(self.k, device=pre_CL.device) * size)


@dataclass(frozen=True, eq=False)
class Above:
    """Values above a threshold of one number or one a latent, and never below zero.

    With 0 it is ReLU, else JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3).
    """

    threshold: Tensor | float = 0.0
    bytes_per_latent: ClassVar[int] = 6

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the latents above their threshold, ascending within each token."""
        floor = self.threshold
        floor = max(floor, 0.0) if isinstance(floor, float | int) else floor.clamp(min=0)
        return _kept(pre_CL, ~(pre_CL <= floor))


@dataclass(frozen=True, eq=False)
class Gated:
    """Magnitudes where a gate is open (Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2).

    The pre-activations are the gate's; the magnitude is `gate * factor + shift`, above zero.
    """

    factor_L: Tensor
    shift_L: Tensor
    bytes_per_latent: ClassVar[int] = 12

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the open latents, ascending within each token."""
        value_CL = torch.addcmul(self.shift_L, pre_CL, self.factor_L)
        return _kept(value_CL, ~(pre_CL <= 0) & ~(value_CL <= 0))


def _positive(value_CK: Tensor, latent_CK: Tensor) -> Active:
    kept_CK = ~(value_CK <= 0)
    return Active(kept_CK.nonzero()[:, 0], latent_CK[kept_CK].to(torch.int32), value_CK[kept_CK])


def _kept(value_CL: Tensor, kept_CL: Tensor) -> Active:
    token_M, latent_M = kept_CL.nonzero(as_tuple=True)
    return Active(token_M, latent_M.to(torch.int32), value_CL[kept_CL])
