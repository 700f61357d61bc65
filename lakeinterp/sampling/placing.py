"""Where a window is shown: about its peak, inside its document, never padded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from lakeinterp.sampling.tiles import Tiles

    Ints = npt.NDArray[Any]


class Place(NamedTuple):
    """The tokens of each window shown; shape [windows] each."""

    start: Ints
    """First token."""
    length: Ints


class Setting(NamedTuple):
    """What decides where windows are shown."""

    window_tokens: int
    at: int | None
    """Tokens before the peak; None shows tiles as they were cut."""


def place(
    tiles: Tiles,
    number: Ints,
    centre: Ints,
    setting: Setting,
    low: Ints | None = None,
    high: Ints | None = None,
) -> Place:
    """Return windows about a token of each tile.

    Args:
        tiles: Of the corpus.
        number: Of each window's tile.
        centre: Token that stands at `setting.at`, as far as the bounds allow.
        setting: Width of a window, and how it is placed.
        low: First token that may be shown; None takes the document's.
        high: Token after the last that may be shown; None takes the document's.
    """
    if setting.at is None:
        return Place(tiles.tile[number], tiles.length[number])
    first, stop = tiles.first[number], tiles.stop[number]
    length = np.minimum(setting.window_tokens, stop - first)
    low = first if low is None else low
    high = stop if high is None else high
    return Place(np.maximum(low, np.minimum(centre - setting.at, high - length)), length)
