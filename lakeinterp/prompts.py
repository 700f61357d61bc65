"""Prompts are Markdown files with `$slots`; slots are exact and the digest goes in every row.

What goes into the slots from a corpus or from a model is quoted first: one line, no delimiter.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakeinterp.terms import Example

OPEN, CLOSE = "<<", ">>"
"""Around highlighted tokens."""
_CONFUSABLE = re.compile(r"<(?=<|\Z)|(?<=<)<|\A<|>(?=>|\Z)|(?<=>)>|\A>")
"""An angle bracket that could be read as part of a delimiter: doubled, or at a segment's end."""
_ODD = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_ROOT = Path(__file__).parent
SHIPPED = {"explain": _ROOT / "explain" / "prompts", "score": _ROOT / "score" / "prompts"}


@dataclass(frozen=True)
class Prompt:
    """One prompt file."""

    name: str
    """Room and file stem, for example `score/detection`."""
    text: str
    """The file as it is, slots unfilled."""
    path: Path | None = None
    """Where it was read."""

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with lakeinterp."""
        return self.path is not None and self.path.parent in SHIPPED.values()

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
        ConfigError: the user's folder is not there.
    """
    if folder and not Path(folder).is_dir():
        raise ConfigError(
            f"prompts: there is no folder {folder}; `lakeinterp prompts --copy {folder}` makes one"
        )
    room, _, stem = name.partition("/")
    candidates = [Path(folder) / room / f"{stem}.md"] if folder else []
    candidates += [SHIPPED[room] / f"{stem}.md"] if room in SHIPPED else []
    for path in candidates:
        if path.is_file():
            return Prompt(name=name, text=_text(path), path=path)
    raise NotFound("prompt", name, shipped())


def shipped() -> Iterable[str]:
    """Return the names of the prompts that come with lakeinterp, sorted."""
    return sorted(f"{room}/{p.stem}" for room, root in SHIPPED.items() for p in root.glob("*.md"))


def strays(folder: str | Path) -> list[str]:
    """Return the files of a user's folder that replace no shipped prompt, sorted."""
    known = set(shipped())
    found = (path.relative_to(folder) for path in Path(folder).rglob("*.md"))
    return sorted(str(path) for path in found if path.with_suffix("").as_posix() not in known)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"prompts: {path} cannot be read as UTF-8 text: {exc}") from exc


def quote(text: str) -> str:
    """Return text on one line: line breaks, controls and backslashes written as in Python.

    Characters that turn the direction of writing and lone surrogates are written out too, so
    that what a person reads is what the model is given.
    """
    return "".join(_written(c) if _is_odd(c) else c for c in text)


def cited(piece: str) -> str:
    """Return a text on one line between double quotes."""
    return '"' + quote(piece).replace('"', '\\"') + '"'


def highlight(pieces: Sequence[str], marked: Sequence[bool]) -> str:
    r"""Return a window on one line, with runs of marked tokens between `<<` and `>>`.

    Angle brackets of the text that could be taken for a delimiter are written `\<` and `\>`.

    Args:
        pieces: Text of each token.
        marked: Whether each token is highlighted; same length.
    """
    segments: list[tuple[bool, list[str]]] = []
    for piece, mark in zip(pieces, marked, strict=True):
        if not segments or segments[-1][0] != mark:
            segments.append((mark, []))
        segments[-1][1].append(piece)
    quoted = [(mark, _CONFUSABLE.sub(r"\\\g<0>", quote("".join(run)))) for mark, run in segments]
    return "".join(f"{OPEN}{text}{CLOSE}" if mark else text for mark, text in quoted)


def marks(example: Example, above: float) -> list[bool]:
    """Return which tokens of an example reach a share of its peak; shape [tokens]."""
    floor = above * example.peak
    return [value > 0 and value >= floor for value in example.values]


def _is_odd(character: str) -> bool:
    if character == "\\" or character in _ODD:
        return True
    return unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
