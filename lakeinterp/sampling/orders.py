"""How activating windows are drawn: a draw says what comes before what, and in which turns.

A draw puts the windows of each latent in cells and orders those of a cell. Cells take turns: each
round takes one window of every cell that still has some, so the number asked for is met exactly
whenever the role has it. Windows of cell 0 come before all others and stand for themselves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lakeinterp.sampling.arrays import ranks

if TYPE_CHECKING:
    import numpy.typing as npt

    from lakeinterp.config.sampling import Draw, SamplingConfig

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]

LEADING = 0
"""The cell of windows that are drawn for what they are and not by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The windows of one role that can be drawn, by (latent, tile); shape [windows] each."""

    group: Ints
    """Place of the latent among those drawn for."""
    rank: Ints
    """By peak within the latent, windows of both roles counted."""
    quantile: Ints
    chance: Ints
    """A random number in [0, 2^32) of seed, latent and tile alone."""
    mass: Floats
    """Sum of the window's activations; empty unless a draw is by importance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a draw makes of a pool; shape [windows] where not said."""

    cell: Ints
    """Which group of windows takes turns with the others; `LEADING` or more."""
    key: Ints
    """Order within the cell, the lower first, then by tile; not negative."""
    n_leading: int = 0
    """Windows that the leading cell stands for, of each latent that has so many."""
    weight: Floats | None = None
    """One over the chance of each window that is drawn; None if a cell's are all equal."""


class Drawing(Protocol):
    """Orders a pool to draw `n` windows of each latent."""

    def __call__(self, pool: Pool, n: int, config: SamplingConfig) -> Order:
        """Return the order of the draw."""
        ...


def quantiles(pool: Pool, n: int, config: SamplingConfig) -> Order:
    """As many from each quantile, at random within it."""
    del n, config
    return Order(cell=pool.quantile, key=pool.chance)


def random(pool: Pool, n: int, config: SamplingConfig) -> Order:
    """Any window, each with the same chance."""
    del n, config
    return Order(cell=np.ones_like(pool.quantile), key=pool.chance)


def top(pool: Pool, n: int, config: SamplingConfig) -> Order:
    """The strongest windows."""
    del config
    return Order(cell=np.full_like(pool.quantile, LEADING), key=pool.rank, n_leading=n)


def mix(pool: Pool, n: int, config: SamplingConfig) -> Order:
    """First the strongest, a share of all, then `quantiles` of the rest."""
    n_top = int(config.mix_top * n)
    is_top = ranks(pool.group, pool.rank) < n_top
    return Order(
        cell=np.where(is_top, LEADING, pool.quantile),
        key=np.where(is_top, pool.rank, pool.chance),
        n_leading=n_top,
    )


def importance(pool: Pool, n: int, config: SamplingConfig) -> Order:
    """Any window, with a chance that grows with its mass: priority sampling.

    A window's priority is its mass over a random number in (0, 1]. The n largest are drawn; with t
    the next one, a drawn window's chance was min(1, mass / t) (Duffield, Lund and Thorup 2005,
    "Sampling to estimate arbitrary subset sums", arXiv cs/0509026). Nothing but divisions and
    products of doubles, which are equal on every machine.
    """
    del config
    mass = np.maximum(pool.mass, np.finfo(np.float32).tiny)
    priority = mass * 2.0**32 / (pool.chance + 1)
    # Positive doubles order like their bits.
    order = np.lexsort((-priority.view(np.int64), pool.group))
    place = np.empty(len(order), dtype=np.int64)
    first = np.searchsorted(pool.group, pool.group, side="left")
    place[order] = np.arange(len(order)) - first
    following = np.zeros(int(pool.group.max(initial=-1)) + 1)
    following[pool.group[place == n]] = priority[place == n]
    weight = np.maximum(1, following[pool.group] / mass)
    return Order(cell=np.ones_like(pool.quantile), key=place, weight=weight)


DRAWS: dict[Draw, Drawing] = {
    "quantiles": quantiles,
    "random": random,
    "top": top,
    "mix": mix,
    "importance": importance,
}
"""By the names of `sampling.explain_draw` and `sampling.score_draw`."""
