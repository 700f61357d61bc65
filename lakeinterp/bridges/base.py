"""What a bridge is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from lakeinterp.config import Config

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What to read, and what the files do not say."""

    path: Path
    """File or folder of the other tool."""
    name: str | None = None
    """Name of the capture; None derives one from what is read. What other tools say of latents
    may go to a capture that the lake holds."""
    hookpoints: tuple[str, ...] = ()
    """Only these; empty takes all."""
    model: str | None = None
    """Folder or hub id whose tokenizer made the tokens; None takes the one the files name."""
    without_text: bool = False
    """Do without the tokenizer: rows and samples are there, texts are not."""
    tokens: str | None = None
    """Ready sequences of token ids, for files that hold none; see `corpus.dataset`."""
    n_latents: int | None = None
    """Width of the coder, for files that do not say it."""
    allow_nonfinite: bool = False
    """Leave NaN and infinite activations out and count them, instead of stopping at the first."""
    config: Config = field(default_factory=Config)
    """Settings: of scores what share of failures marks one, of windows whose sample they are."""


class Imported(NamedTuple):
    """What an import did."""

    capture: str
    hookpoints: tuple[str, ...]
    n_sequences: int
    n_rows: int
    """Activations committed by this run."""
    n_dropped: int
    """Of this run: zeros, which are no rows, and what `allow_nonfinite` left out."""
    is_new: bool
    """Whether this run committed anything."""
    said: tuple[str, ...] = ()
    """What was read and what was not, a line each; empty where the counts above say it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What Neuronpedia and its like call things; None derives a name from the capture."""

    model: str | None = None
    """Model id."""
    source_set: str | None = None
    """Source set, the layer not included; of several hookpoints each adds what sets it apart."""
    layer: int | None = None
    """Layer of the hookpoint; None takes the first number in its name."""
    release: str | None = None
    """Release id."""
    creator: str = ""
    """Name of who publishes it."""
    creator_id: str = "clkht01d40000jv08hvalcvly"
    """Account of the server; the default is the one its own tools give to imported data."""
    method: str | None = None
    """How the explanations were made, as the server names it."""
    explanation_model: str | None = None
    """Model that wrote them, as the server names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What to write, and how."""

    path: Path
    """Folder to write to."""
    capture: str | None = None
    """None takes the only one there is."""
    hookpoints: tuple[str, ...] = ()
    """Only these; empty takes all."""
    n_splits: int = 5
    """Files a hookpoint is cut into; one of them is in memory when it is read."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision of the activations."""
    overwrite: bool = False
    """Replace what an earlier export wrote to the folder."""
    explainer: str | None = None
    """Only explanations by this explainer; None takes all, or the only one."""
    n_logits: int = 10
    """Output tokens that a latent raises and lowers, of each kind; they take the captured model."""
    names: Names = field(default_factory=Names)
    config: Config = field(default_factory=Config)
    """Settings: `sampling` chooses latents and the sample, `capture` says where the model is."""


class Exported(NamedTuple):
    """What an export did."""

    capture: str
    hookpoints: tuple[str, ...]
    n_rows: int
    n_rounded: int
    """Activations that the chosen precision does not hold exactly."""
    n_files: int
    said: tuple[str, ...] = ()
    """What was written and what was not, a line each; empty where the counts above say it all."""


class Progress(Protocol):
    """Called after each piece of work."""

    def __call__(self, *, done: int, total: int) -> None:
        """Say how many activations are done and how many there are."""
        ...


class Importer(Protocol):
    """Reads another tool's files into a lake; the same call again completes what was killed."""

    def __call__(
        self, lake: Lake, options: Import, *, progress: Progress | None = None
    ) -> Imported:
        """Read and return what was done."""
        ...


class Exporter(Protocol):
    """Writes a capture in another tool's format."""

    def __call__(
        self, lake: Lake, options: Export, *, progress: Progress | None = None
    ) -> Exported:
        """Write and return what was done."""
        ...
