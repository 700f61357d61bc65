"""The two versions of a fuzzing item: highlights where the latent fired, and highlights moved.

Sampling puts the peak of most windows at one place, so highlights that were merely moved would
give themselves away by where they stand. Here both versions show a part of the window, and the
part moves with the highlights: in what is shown, the highlights of the wrong version stand at
exactly the places where those of the right one stand. Their number, the lengths of their runs
and the number of tokens shown are equal too, for each example by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.prompts import highlight, marks
from lakeinterp.rules import keys_of
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.terms import Example

SHOWN_SHARES = ((3, 4), (1, 2))
"""Parts of a window to show, as fractions; the second where the first leaves no move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What both versions of one item show."""

    right: int
    """First token shown by the version with right highlights."""
    wrong: int
    """First token shown by the version with moved highlights."""
    n_shown: int
    """Tokens shown by either."""
    marked: tuple[bool, ...]
    """Whether each shown token is highlighted, in either version; shape [n_shown]."""

    def text(self, example: Example, *, is_right: bool) -> str:
        """Return one version on one line, highlights delimited."""
        first = self.right if is_right else self.wrong
        return highlight(example.pieces[first : first + self.n_shown], self.marked)


def move(example: Example, above: float, seed: Sequence[int | str]) -> Move | None:
    """Choose the two versions of an activating example, None if its highlights cannot be moved.

    A move is valid if the latent is silent at every token that is highlighted wrongly, and these
    tokens show text. Moves onto tokens of the same kinds (`lakeinterp.rules.CLASSES`) are
    preferred; among equals `seed` and the example decide.

    Args:
        example: Activating.
        above: Tokens above this share of the peak are highlighted.
        seed: Anything that tells the latent apart.
    """
    chosen = [i for i, mark in enumerate(marks(example, above)) if mark]
    kinds = [keys_of("class", piece) for piece in example.pieces]
    for part, whole in SHOWN_SHARES:
        n_shown = len(example.pieces) * part // whole
        found = _moves(example, chosen, n_shown)
        alike = [
            (right, wrong)
            for right, wrong in found
            if all(kinds[i] == kinds[i + wrong - right] for i in _inside(chosen, right, n_shown))
        ]
        if options := alike or found:
            draw = int(digest([*seed, example.example, "move"]), 16)
            right, wrong = options[draw % len(options)]
            shown = _inside(chosen, right, n_shown)
            marked = tuple(i + right in shown for i in range(n_shown))
            return Move(right=right, wrong=wrong, n_shown=n_shown, marked=marked)
    return None


def _moves(example: Example, chosen: Sequence[int], n_shown: int) -> list[tuple[int, int]]:
    """Return the valid pairs of first tokens, in order."""
    if example.peak_offset is None or n_shown < 1:
        return []
    free = [v == 0 and bool(p) for v, p in zip(example.values, example.pieces, strict=True)]
    starts = range(len(example.pieces) - n_shown + 1)
    return [
        (right, wrong)
        for right in starts
        if right <= example.peak_offset < right + n_shown
        for wrong in starts
        if all(free[i + wrong - right] for i in _inside(chosen, right, n_shown))
    ]


def _inside(chosen: Sequence[int], first: int, n_shown: int) -> list[int]:
    return [i for i in chosen if first <= i < first + n_shown]
