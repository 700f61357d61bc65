"""Where a coder reads, for formats whose files do not say it, or say it in words of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

    from lakeinterp.coders.base import CoderFiles


def part(files: CoderFiles, pattern: str) -> re.Match[str] | None:
    """Return the match of the innermost part of a coder's full name that is a pattern as a whole.

    Parts of the name are folders; a pattern never matches a piece of one.
    """
    for name in reversed(files.origin.split("/")):
        if match := re.fullmatch(pattern, name):
            return match
    return None


def place(files: CoderFiles, kind: str | None, layer: int | None, known: Mapping[str, str]) -> str:
    """Return the module path or hook name that a coder reads at.

    Args:
        files: The coder; its `reads` goes before `kind`.
        kind: One of `known`, or None if the files do not say.
        layer: Fills `{layer}`.
        known: Words of the format to places with `{layer}` in them.

    Raises:
        ConfigError: the files do not say where the coder reads, or in which layer, and no setting
            does.
    """
    word = files.reads or kind
    if word is None:
        raise ConfigError(
            f"coder {files.hookpoint}: its files do not say where it reads; set capture.reads to "
            f"{', '.join(known)}, or a module path such as layers.{{layer}}.mlp.output"
        )
    template = known.get(word, word)
    if "{layer}" in template and layer is None:
        raise ConfigError(
            f"coder {files.hookpoint}: its files do not say which layer it reads; set "
            f"capture.reads to {template} with a number for {{layer}}"
        )
    return template.replace("{layer}", str(layer))


def number(path: PurePath) -> int | None:
    """Return the number that a file is named after, None if its name is something else."""
    return int(path.stem) if path.stem.isdigit() else None
