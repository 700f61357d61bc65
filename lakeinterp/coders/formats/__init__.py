"""Coder formats by name: one module each, imported when a folder is looked at.

A module says which files make up a coder (`LAYOUTS`), whether files of these names are its own
(`claims`), where the coder reads and how wide it is (`read_spec`), and loads it (`load`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from lakeinterp.errors import NotFound

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles, CoderSpec, SparseCoder


class Format(Protocol):
    """What a module of this folder holds."""

    LAYOUTS: tuple[tuple[str, ...], ...]
    """Sets of file names, relative to the coder's folder, that a coder needs all of; the first
    holds the weights. A name with `*` is a coder that is one file."""
    OPTIONAL: tuple[str, ...]
    """Files read when they are there."""

    def claims(self, files: CoderFiles) -> bool:
        """Whether a coder with one of the layouts is of this format, judged by its keys."""
        ...

    def read_spec(self, files: CoderFiles) -> CoderSpec:
        """Return a coder's place and size without loading its weights.

        Raises:
            ConfigError: a file is torn or does not hold what the format needs.
        """
        ...

    def load(
        self, files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int
    ) -> SparseCoder:
        """Return the loaded coder."""
        ...


FORMATS = {
    name: f"lakeinterp.coders.formats.{name}"
    for name in (
        "circuit_tracer",
        "dictionary_learning",
        "gemma_scope",
        "gemma_scope_2",
        "goodfire",
        "llama_scope",
        "openai",
        "qwen_scope",
        "saelens",
        "sparsify",
    )
}
"""Formats that are files. Besides them, `neurons` takes the model's own MLP neurons as latents."""


def get(name: str) -> Format:
    """Return the module of a format.

    Raises:
        NotFound: there is no such format; the message lists them.
    """
    if name not in FORMATS:
        raise NotFound("coder format", name, [*FORMATS, "neurons"])
    return cast("Format", import_module(FORMATS[name]))


def described() -> str:
    """Return every layout in one line, for messages."""
    shown = []
    for name in FORMATS:
        layouts = " or ".join(" + ".join(layout) for layout in get(name).LAYOUTS)
        shown.append(f"{name} ({layouts})")
    return ", ".join(shown)
