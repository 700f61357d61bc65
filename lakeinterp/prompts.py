"""Prompts are Markdown files with `$slots`; slots are exact and the digest goes in every row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT = Path(__file__).parent
SHIPPED = {"explain": _ROOT / "explain" / "prompts", "score": _ROOT / "score" / "prompts"}


@dataclass(frozen=True)
class Prompt:
    """One prompt file."""

    name: str
    """Room and file stem, for example `score/detection`."""
    text: str
    """The file as it is, slots unfilled."""

    @cached_property
    def slots(self) -> frozenset[str]:
        """The names after `$` in the text."""
        return frozenset(Template(self.text).get_identifiers())

    @cached_property
    def digest(self) -> str:
        """A digest of the text; rows made with this prompt carry it."""
        return digest(self.text)

    def fill(self, **values: str) -> str:
        """Replace every slot by its value; values are never searched for slots themselves.

        Raises:
            ConfigError: the values given are not exactly the slots of the file.
        """
        if values.keys() != self.slots:
            wanted, got = sorted(self.slots), sorted(values)
            raise ConfigError(f"prompt {self.name}: has the slots {wanted}, was given {got}")
        return Template(self.text).substitute(values)


def load(name: str, folder: str | Path | None = None) -> Prompt:
    """Load `room/stem`, from the user's folder when it has that file, else the shipped one.

    Raises:
        NotFound: neither folder has the file; the message lists the shipped prompts.
    """
    room, _, stem = name.partition("/")
    candidates = [Path(folder) / room / f"{stem}.md"] if folder else []
    candidates += [SHIPPED[room] / f"{stem}.md"] if room in SHIPPED else []
    for path in candidates:
        if path.is_file():
            return Prompt(name=name, text=path.read_text(encoding="utf-8").strip())
    raise NotFound("prompt", name, shipped())


def shipped() -> Iterable[str]:
    """Return the names of the prompts that come with lakeinterp, sorted."""
    return sorted(f"{room}/{p.stem}" for room, root in SHIPPED.items() for p in root.glob("*.md"))
