"""Tokens of an example as runs of text shaded by activation."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from lakeinterp.report.words import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

N_LEVELS = 9
"""Levels of shading; 0 is silent, the last is the latent's strongest activation."""
_NOTHING = "▯"


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one active token, or of neighbouring silent ones."""

    text: str
    """Safe to show: no character that steers a screen; see `words.visible`. Not escaped."""
    level: int = 0
    """0 to `N_LEVELS`."""
    value: float = 0.0
    """The activation; 0 where the latent is silent."""


def runs(pieces: Sequence[str], values: Sequence[float], largest: float | None) -> tuple[Run, ...]:
    """Return a window's text, silent neighbours joined, every active token on its own.

    Args:
        pieces: Text of each token; an active one without text (part of a character) shows as a
            mark, so that no activation is unseen.
        values: The latent's activation at each token; same length.
        largest: The latent's largest activation in the corpus; what level 9 stands for.
    """
    top = max(largest or 0.0, max(values, default=0.0))
    found: list[Run] = []
    for piece, value in zip(pieces, values, strict=True):
        if value > 0:
            found.append(Run(visible(piece) or _NOTHING, level(value, top), value))
        elif found and found[-1].level == 0:
            found[-1] = Run(found[-1].text + visible(piece))
        else:
            found.append(Run(visible(piece)))
    return tuple(run for run in found if run.text)


def level(value: float, largest: float) -> int:
    """Return the level of shading of an activation, 1 to `N_LEVELS`; 0 only for silence."""
    if value <= 0 or largest <= 0:
        return 0
    return max(1, min(N_LEVELS, ceil(N_LEVELS * value / largest)))
