"""What every sparse coder is to the rest: where it reads, and hidden states to active latents.

Shapes: N tokens, D width of the hidden state, L latents, M activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Site = Literal["input", "output"]
"""Which side of its module a coder reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoderSpec:
    """A coder's place and size, known before its weights are loaded."""

    hookpoint: str
    """Name of the coder's folder, for example `layers.3.mlp`."""
    format: str
    """File format, for example `sparsify`."""
    architecture: str
    """Kind of coder and activation, for example `topk-sae` or `topk-transcoder`."""
    module: str
    """Module path the coder reads at, as its format names it."""
    site: Site
    d_in: int
    n_latents: int
    k: int | None
    """Latents kept at each token; None where no fixed number is."""


class Active(NamedTuple):
    """The non-zero activations of N tokens, in token order."""

    token_M: Tensor
    """Index of the token, 0 to N-1, ascending; int64."""
    latent_M: Tensor
    """Latent; int32."""
    value_M: Tensor
    """Activation; float32, never zero."""


class SparseCoder(Protocol):
    """A loaded coder."""

    spec: CoderSpec

    def encode(self, x_ND: Tensor) -> Active:
        """Return the active latents of hidden states; no dense [N, L] result leaves a chunk."""
        ...

    def decode(self, active: Active, x_ND: Tensor) -> Tensor:
        """Return the reconstruction (SAE) or prediction (transcoder) of [N, D] states."""
        ...
