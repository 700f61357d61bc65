"""The evidence of one latent as columns: the texts of all its windows' tokens, and what tests find.

Windows are rows, tokens are columns. Every token carries the weight of what it stands for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lakeinterp.rules import AFFIX_LENGTHS, CLASSES, Test, keys_of, word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakeinterp.terms import Example

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

_CLASS_NAMES = tuple(CLASSES)


class Slot(NamedTuple):
    """What a condition may test, and where."""

    test: Test
    at: int = 0
    letters: int | None = None
    """Of a prefix or suffix; one length at a time, so that no two findings overlap."""


class Findings(NamedTuple):
    """What one test finds in each distinct text."""

    names: tuple[str, ...]
    of_piece: Ints
    """Numbers of the findings of each text, padded with -1; shape [pieces, findings]."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of all windows as columns; windows are padded to one length."""

    pieces: tuple[str, ...]
    """The distinct texts."""
    ids: Ints
    """Number of each token's text in `pieces`, -1 for padding; shape [windows, tokens]."""
    document: Ints
    """Number of each window's document; shape [windows]."""
    active: Bools
    """Whether the latent fires; shape [windows, tokens]."""
    weight: Floats
    """Tokens of the corpus that each token stands for; shape [windows, tokens]."""

    @cached_property
    def mass(self) -> float:
        """Weight of all tokens that fire."""
        return float(self.weight[self.active].sum())

    @cached_property
    def texts(self) -> list[tuple[str, ...]]:
        """What `_texts` finds in each distinct text, column by column."""
        return list(zip(*map(_texts, self.pieces), strict=True))

    @cached_property
    def _moved(self) -> dict[int, Ints]:
        return {0: self.ids}

    @cached_property
    def _findings(self) -> dict[tuple[Test, int | None], Findings]:
        return {}

    @cached_property
    def n_documents(self) -> int:
        """Documents that the windows are from."""
        return int(self.document.max()) + 1

    @cached_property
    def document_of_token(self) -> Ints:
        """Number of each token's document; shape [windows, tokens]."""
        return np.broadcast_to(self.document[:, None], self.ids.shape)

    def findings(self, slot: Slot) -> Findings:
        """Return what a slot's test finds in each text."""
        key = (slot.test, slot.letters)
        if key not in self._findings:
            self._findings[key] = _findings(self.texts, slot, self.pieces)
        return self._findings[key]

    def at(self, offset: int) -> Ints:
        """Return the text numbers at a distance from each token, -1 outside the window."""
        if offset not in self._moved:
            moved = np.full_like(self.ids, -1)
            if offset < 0:
                moved[:, -offset:] = self.ids[:, :offset]
            else:
                moved[:, :-offset] = self.ids[:, offset:]
            self._moved[offset] = moved
        return self._moved[offset]


def lay_out(examples: Sequence[Example]) -> Tokens:
    """Lay out examples as columns.

    Each token of a window weighs what the window does, so that shares of weight are shares of the
    corpus's windows and precision is at natural prevalence.
    """
    numbers: dict[str, int] = {}
    documents: dict[int, int] = {}
    width = max(len(example.pieces) for example in examples)
    shape = (len(examples), width)
    ids, values = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
    document, weight = np.zeros(shape[0], dtype=np.int64), np.zeros(shape)
    stands_for = weights(examples)
    for i, example in enumerate(examples):
        n = len(example.pieces)
        ids[i, :n] = [numbers.setdefault(piece, len(numbers)) for piece in example.pieces]
        values[i, :n] = example.values
        weight[i, :n] = stands_for[i]
        document[i] = documents.setdefault(example.document, len(documents))
    return Tokens(tuple(numbers), ids, document, values > 0, weight)


def weights(examples: Sequence[Example]) -> Floats:
    """Return how many windows of the corpus each example of one role stands for.

    That is its own weight. Examples that have none, since they were chosen and not drawn by
    chance, share what their stratum and quantile stand for; a guess, but the best there is. Silent
    windows chosen for being hard are among those that the random ones stand for, so all silent ones
    are brought down together to as many as there are.
    """
    drawn = Counter((example.stratum, example.quantile) for example in examples)
    found = np.array(
        [
            e.population / drawn[e.stratum, e.quantile] if e.weight is None else e.weight
            for e in examples
        ]
    )
    is_silent = np.array([not example.is_active for example in examples])
    n_silent = max((e.population for e in examples if e.stratum == "random"), default=0)
    if n_silent:
        found[is_silent] *= n_silent / found[is_silent].sum()
    return found


def _findings(texts: list[tuple[str, ...]], slot: Slot, pieces: tuple[str, ...]) -> Findings:
    if slot.test == "class":
        return Findings(_CLASS_NAMES, np.array([_classes(piece) for piece in pieces]))
    if slot.letters is None:
        found = texts[0] if slot.test == "token" else texts[1]
    else:
        first = 2 if slot.test == "prefix" else 2 + len(AFFIX_LENGTHS)
        found = texts[first + AFFIX_LENGTHS.index(slot.letters)]
    numbers = {"": -1}
    table = [numbers.setdefault(text, len(numbers) - 1) for text in found]
    return Findings(tuple(numbers)[1:], np.array(table)[:, None])


@lru_cache(maxsize=2**17)
def _texts(piece: str) -> tuple[str, ...]:
    """Return token, word, prefixes and suffixes of a text, by length; empty where there is none."""
    n = len(AFFIX_LENGTHS)
    affixes = [(*keys_of(test, piece), *[""] * n)[:n] for test in ("prefix", "suffix")]
    return (piece, word_of(piece), *affixes[0], *affixes[1])


@lru_cache(maxsize=2**17)
def _classes(piece: str) -> tuple[int, ...]:
    """Return the number of each class, -1 where the text is not of it."""
    found = keys_of("class", piece)
    return tuple(i if name in found else -1 for i, name in enumerate(_CLASS_NAMES))
