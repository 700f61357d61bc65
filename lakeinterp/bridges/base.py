"""What a bridge is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What to read, and what the files do not say."""

    path: Path
    """File or folder of the other tool."""
    name: str | None = None
    """Name of the capture; None derives one from what is read."""
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


class Exported(NamedTuple):
    """What an export did."""

    capture: str
    hookpoints: tuple[str, ...]
    n_rows: int
    n_rounded: int
    """Activations that the chosen precision does not hold exactly."""
    n_files: int


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
