"""Windows as the lines of a prompt: numbered, quoted, active tokens delimited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.prompts import cited, highlight, marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import ExplainConfig
    from lakeinterp.terms import Example

N_LISTED = 12
"""Marked tokens whose strength is listed below one passage: the strongest, in text order. Of those
left out the line says how many."""
STEPS = 10
"""Strengths are whole numbers from 1 to this."""


def active(
    examples: Sequence[Example], config: ExplainConfig, *, among: Sequence[Example] = ()
) -> str:
    """Return activating windows with their marks, and strengths below them if these are wanted.

    Args:
        examples: What is shown.
        config: What is marked, and whether strengths are wanted.
        among: Other windows of the same question; strengths are relative to the strongest of all.
    """
    # Not the largest peak: a peak is its tile's, and the window may show the tile beside it.
    top = max((value for e in (*examples, *among) for value in e.values), default=0.0)
    lines = []
    for number, example in enumerate(examples, start=1):
        marked = marks(example, config.highlight_above)
        lines.append(f"{number}: {highlight(example.pieces, marked)}")
        if config.show_activations:
            lines.append(f"   strengths: {_strengths(example, marked, top)}")
    return "\n".join(lines)


def plain(examples: Sequence[Example]) -> str:
    """Return windows without marks; what their text has of delimiters is escaped."""
    lines = [highlight(e.pieces, [False] * len(e.pieces)) for e in examples]
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, start=1))


def _strengths(example: Example, marked: Sequence[bool], top: float) -> str:
    """List marked tokens with their strengths, the strongest `N_LISTED` in text order."""
    found = [i for i, mark in enumerate(marked) if mark]
    kept = sorted(sorted(found, key=lambda i: (-example.values[i], i))[:N_LISTED])
    listed = [
        f"{cited(example.pieces[i])} {max(1, round(STEPS * example.values[i] / top))}" for i in kept
    ]
    n_more = len(found) - len(kept)
    return ", ".join([*listed, f"and {n_more} weaker"] if n_more else listed)
