"""Pre-activations to active latents, one chunk at a time: the non-linearities of sparse coders.

None of them lets a NaN pass for a zero: it stays in the result, for the caller to refuse.

Shapes: C tokens of a chunk, L latents, K kept latents, M activations or candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import torch

from lakeinterp.coders import topk
from lakeinterp.coders.base import Active

if TYPE_CHECKING:
    from torch import Tensor

    from lakeinterp.coders.topk import Candidates


class Activation(Protocol):
    """A sparse non-linearity."""

    @property
    def bytes_per_latent(self) -> int:
        """Memory it needs for one latent at one token, its input included."""
        ...

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the active latents of a chunk, tokens counted from its start."""
        ...


@runtime_checkable
class Screened(Activation, Protocol):
    """A non-linearity that can do with the pre-activations of a few latents."""

    @property
    def n_kept(self) -> int | None:
        """How many of a token's largest are kept at most; None is all above the floor."""
        ...

    @property
    def floor(self) -> Tensor | float:
        """What a pre-activation must exceed to be active, [L] or one number."""
        ...

    def among(self, found: Candidates) -> Active:
        """Return the active latents among candidates that hold all of them."""
        ...


@dataclass(frozen=True)
class TopK:
    """The positive ones among the k largest (Gao et al. 2024, arXiv 2406.04093, section 2.3)."""

    k: int
    bytes_per_latent: ClassVar[int] = 5
    floor: ClassVar[float] = 0.0

    @property
    def n_kept(self) -> int:
        """The k."""
        return self.k

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the kept latents of each token, in no order within a token."""
        return _positive(*topk.by_blocks(pre_CL, self.k))

    def among(self, found: Candidates) -> Active:
        """Return the positive ones among the k largest candidates of each token."""
        return topk.largest(found, self.k)


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
    n_kept: ClassVar[None] = None

    @property
    def floor(self) -> Tensor | float:
        """The threshold, or zero if that is more."""
        if isinstance(self.threshold, float | int):
            return max(self.threshold, 0.0)
        return self.threshold.clamp(min=0)

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the latents above their threshold, ascending within each token."""
        return _kept(pre_CL, (pre_CL <= self.floor).logical_not_())

    def among(self, found: Candidates) -> Active:
        """Return the candidates above their threshold."""
        floor = self.floor
        floor = floor if isinstance(floor, float | int) else floor[found.latent_M]
        return _chosen(found, found.pre_M, ~(found.pre_M <= floor))


@dataclass(frozen=True, eq=False)
class Gated:
    """Magnitudes where a gate is open (Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2).

    The pre-activations are the gate's; the magnitude is `gate * factor + shift`, above zero.
    """

    factor_L: Tensor
    shift_L: Tensor
    bytes_per_latent: ClassVar[int] = 12
    n_kept: ClassVar[None] = None
    floor: ClassVar[float] = 0.0

    def __call__(self, pre_CL: Tensor) -> Active:
        """Return the open latents, ascending within each token."""
        value_CL = torch.addcmul(self.shift_L, pre_CL, self.factor_L)
        return _kept(value_CL, ~((pre_CL <= 0) | (value_CL <= 0)))

    def among(self, found: Candidates) -> Active:
        """Return the open candidates."""
        factor_M, shift_M = self.factor_L[found.latent_M], self.shift_L[found.latent_M]
        value_M = torch.addcmul(shift_M, found.pre_M, factor_M)
        return _chosen(found, value_M, ~((found.pre_M <= 0) | (value_M <= 0)))


def _positive(value_CK: Tensor, latent_CK: Tensor) -> Active:
    kept_CK = ~(value_CK <= 0)
    return Active(kept_CK.nonzero()[:, 0], latent_CK[kept_CK].to(torch.int32), value_CK[kept_CK])


def _kept(value_CL: Tensor, kept_CL: Tensor) -> Active:
    flat_M, n_latents = topk.places(kept_CL), value_CL.shape[-1]
    token_M = flat_M.div(n_latents, rounding_mode="floor")
    latent_M = (flat_M - token_M * n_latents).to(torch.int32)
    return Active(token_M, latent_M, value_CL.flatten()[flat_M])


def _chosen(found: Candidates, value_M: Tensor, kept_M: Tensor) -> Active:
    latent_M = found.latent_M[kept_M].to(torch.int32)
    return Active(found.token_M[kept_M], latent_M, value_M[kept_M])
