"""Text and JSON of other tools: one list of a big file at a time, and text that can be stored."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 2**20
"""Characters read at one time."""
_SPACE = re.compile(r"[\s,]*")
_ENDS = frozenset(",]}: \t\r\n")
"""What may follow a value."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class Member(NamedTuple):
    """One member of a JSON object, or one element of the member that is a long list."""

    name: str
    value: Any


def storable(text: str) -> str:
    """Return text as UTF-8 can hold it: halves of characters are joined, or become U+FFFD."""
    if not _SURROGATES.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def members(path: Path, long: str) -> Iterator[Member]:
    """Yield the members of the JSON object in a file; of the one named `long` each element.

    Memory holds one element at a time, whatever the length of the list.

    Raises:
        ConfigError: the file is cut off, no JSON object, or `long` is no list.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file, long).members()
    except (ValueError, IndexError) as exc:
        said = "it ends too early" if isinstance(exc, (EOFError, IndexError)) else exc
        raise ConfigError(f"{path} cannot be read as JSON: {said}") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line of a JSONL file, gzipped or not.

    Raises:
        ConfigError: a line is no JSON object, or the file is cut off.
    """
    number = 0
    try:
        with cast("TextIO", _text(path)) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ConfigError(f"{path}, line {number}: expected an object, not {row!r:.40}")
                yield number, row
    except (ValueError, EOFError, OSError) as exc:
        raise ConfigError(f"{path}, line {number}: cannot be read: {exc}") from exc


def _text(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8-sig")


class _Reader:
    """A window on a file that moves on as values are read."""

    def __init__(self, file: TextIO, long: str) -> None:
        self._file, self._long = file, long
        self._text, self._at, self._is_whole = "", 0, False
        self._decoder = json.JSONDecoder()

    def members(self) -> Iterator[Member]:
        self._expect("{")
        while self._next() != "}":
            name = self._value()
            if name == self._long:
                yield from self._elements()
                continue
            self._expect(":")
            yield Member(str(name), self._value())

    def _elements(self) -> Iterator[Member]:
        self._expect(":")
        self._expect("[")
        while self._next() != "]":
            yield Member(self._long, self._value())
        self._at += 1

    def _expect(self, mark: str) -> None:
        if (found := self._next()) != mark:
            raise ValueError(f"expected {mark!r}, found {found!r}")
        self._at += 1

    def _next(self) -> str:
        """Return the next character that is neither space nor comma."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise ValueError("it ends too early")

    def _value(self) -> Any:
        """Return the next value, whole; what is cut off by the window's end is read again."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise ValueError("it ends too early, or is no JSON") from None
                continue
            # A number may go on behind the window's end: `1` of `1.5`, and `1` of `1.` too.
            if self._text[end : end + 1] in _ENDS or not self._more():
                self._at = end
                return value

    def _more(self) -> bool:
        """Read on, twice as much each time a value does not fit; False at the file's end."""
        part = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if part:
            self._text, self._at = self._text[self._at :] + part, 0
        return bool(part)
