"""What every sparse coder is to the rest: where it reads, and hidden states to active latents.

Shapes: N tokens, D width of the hidden state, L latents, M activations, O width decoded to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from lakeinterp.coders.inputs import Inputs

Site = Literal["input", "output"]
"""Which side of its module a coder reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoderSpec:
    """A coder's place and size, known before its weights are loaded."""

    hookpoint: str
    """Name of the coder within its folder, for example `layers.3.mlp`."""
    format: str
    """File format, for example `sparsify`."""
    architecture: str
    """Kind of coder and activation, for example `topk-sae` or `topk-transcoder`."""
    module: str
    """Where the coder reads, as its format names it: a module path, or a hook name of
    TransformerLens such as `blocks.5.hook_resid_pre`, which also says the site."""
    site: Site
    d_in: int
    n_latents: int
    k: int | None
    """Latents kept at each token; None where no fixed number is."""
    target: str | None = None
    """Where a transcoder's prediction is found, a module path or hook name; None is the output of
    its own module, and for an SAE what it reads."""
    target_site: Site = "output"
    centred: bool = False
    """Whether it was trained on hidden states less their mean over the width."""
    published_l0: float | None = None
    """Mean number of active latents at a token, as its makers measured it."""
    published_explained_variance: float | None = None
    control: bool = False
    """Whether it is there to be compared with, and need not explain any variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoderFiles:
    """Where one coder's files are."""

    hookpoint: str
    path: Path
    """Its folder, or the file where a coder is one file."""
    origin: str
    """Full name it was found under: folder or hub id, then its path within."""
    reads: str | None = None
    """`capture.reads`: where it reads, for formats that do not say so."""


class Active(NamedTuple):
    """The non-zero activations of N tokens, in token order."""

    token_M: Tensor
    """Index of the token, 0 to N-1, ascending; int64."""
    latent_M: Tensor
    """Latent; int32."""
    value_M: Tensor
    """Activation; float32, never zero; NaN where the hidden state or the weights are no numbers."""


class SparseCoder(Protocol):
    """A loaded coder."""

    spec: CoderSpec
    inputs: Inputs
    """What is done to hidden states before they are encoded."""

    @property
    def centre_D(self) -> Tensor | None:
        """What is subtracted from the prepared hidden states before they are encoded."""
        ...

    def encode(self, x_ND: Tensor) -> Active:
        """Return the active latents of hidden states; no dense [N, L] result leaves a chunk."""
        ...

    def decode(self, active: Active, x_ND: Tensor) -> Tensor:
        """Return the reconstruction (SAE) or prediction (transcoder), [N, O], of [N, D] states."""
        ...
