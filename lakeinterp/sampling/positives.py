"""The activating windows drawn for each latent and role, without replacement.

Two tiles side by side can be shown as almost the same text. Of two windows that overlap the later
in the draw waits until all others are taken, and a window equal to an earlier one is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lakeinterp.sampling.arrays import hindered, mix, order_by, places, ranks, starts_of
from lakeinterp.sampling.orders import DRAWS, LEADING, Pool
from lakeinterp.sampling.placing import Setting, place

if TYPE_CHECKING:
    import numpy.typing as npt

    from lakeinterp.config import SamplingConfig
    from lakeinterp.config.sampling import Draw
    from lakeinterp.sampling.orders import Order
    from lakeinterp.sampling.runs import Windows
    from lakeinterp.sampling.tiles import Tiles

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Positives:
    """Drawn windows of one role; shape [windows] where not said."""

    window: Ints
    """Place in `Windows`."""
    group: Ints
    """Place of the latent among those drawn for."""
    draw: Ints
    """Order of the draw within the latent, 0-based."""
    start: Ints
    length: Ints
    population: Ints
    """Windows that the quantile stands for."""
    weight: Floats
    """Windows that this one stands for; NaN where not all windows could be drawn."""
    n_windows: Ints
    """All windows of the role, shape [latents]."""


class _Candidates(NamedTuple):
    """The first windows of each cell; shape [windows] each."""

    of: Ints
    """Place in the pool."""
    group: Ints
    cell: Ints
    turn: Ints
    round: Ints


class _Chosen(NamedTuple):
    """Windows that are drawn, by latent in the order of the draw; shape [windows] each."""

    of: Ints
    """Place in the pool."""
    cell: Ints
    start: Ints
    length: Ints

    def take(self, which: Ints) -> _Chosen:
        """Return some of them."""
        return _Chosen(*(column[which] for column in self))

    def joined(self, other: _Chosen, group: Ints) -> _Chosen:
        """Return those of other latents with them, given the latent of each of the pool."""
        both = _Chosen(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))
        return both.take(np.argsort(group[both.of], kind="stable"))


def positives(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    role: int,
    n: int,
    draw: Draw,
    config: SamplingConfig,
    setting: Setting,
) -> Positives:
    """Draw activating windows of one role.

    Args:
        windows: Of the unit.
        tiles: Of the corpus.
        latents: Those to draw for, ascending.
        role: Number of the role in `tiles.ROLES`.
        n: Windows wanted of each latent.
        draw: Name of the draw.
        config: The settings.
        setting: How windows are shown.
    """
    of, pool = pool_of(windows, tiles, latents, role, config, has_mass=draw == "importance")
    order = DRAWS[draw](pool, n, config)
    sizes = _sizes(pool, order, (len(latents), config.n_quantiles + 1))

    def draw_from(reserve: Ints) -> tuple[_Chosen, Ints]:
        found = _candidates(pool, order, reserve)
        number, peak = windows.number[of[found.of]], windows.peak_token[of[found.of]]
        shown = place(tiles, number, peak, setting)
        span = np.unique(tiles.first[number], return_inverse=True)[1]
        chosen, is_open = _take(found, sizes, span, shown.start, n, setting)
        return _Chosen(found.of, found.cell, *shown).take(chosen), is_open

    chosen, is_open = draw_from(_reserve(order, sizes, n))
    if is_open.any():
        again, _ = draw_from(np.where(is_open[:, None], sizes, 0))
        chosen = chosen.take(~is_open[pool.group[chosen.of]]).joined(again, pool.group)
    kept = chosen.of
    return Positives(
        window=of[kept],
        group=pool.group[kept],
        draw=places(pool.group[kept]),
        start=chosen.start,
        length=chosen.length,
        population=_populations(pool, kept, config.n_quantiles, len(latents)),
        weight=_weights(order, sizes, n, pool.group[kept], chosen.cell, kept),
        n_windows=sizes.sum(axis=1),
    )


def pool_of(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    role: int,
    config: SamplingConfig,
    *,
    has_mass: bool,
) -> tuple[Ints, Pool]:
    """Return the windows of some latents and a role: their places in `windows`, and the pool."""
    first = starts_of(windows.latent)
    there = windows.latent[first]
    place_of = np.searchsorted(latents, there)
    is_wanted = np.append(latents, -1)[place_of] == there
    sizes = np.diff(first, append=len(windows))
    group = np.repeat(np.where(is_wanted, place_of, -1), sizes)
    of = np.flatnonzero((group >= 0) & (tiles.role[windows.number] == role))
    salts = mix(config.seed, latents)
    return of, Pool(
        group=group[of],
        rank=windows.rank[of],
        quantile=windows.quantile[of],
        chance=mix(salts[group[of]], tiles.tile[windows.number[of]]),
        mass=windows.mass()[of] if has_mass else np.empty(0),
    )


def _sizes(pool: Pool, order: Order, shape: tuple[int, int]) -> Ints:
    """Return how many windows each cell has, [latents, cells]."""
    cell = pool.group * shape[1] + order.cell
    return np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)


def _reserve(order: Order, sizes: Ints, n: int) -> Ints:
    """Return how many windows of each cell are looked at first; nearly always they do."""
    n_rest = n - np.minimum(sizes[:, LEADING], order.n_leading)
    reserve = np.empty_like(sizes)
    reserve[:] = 2 * _rounds(sizes[:, LEADING + 1 :], n_rest, n)[:, None] + 2
    reserve[:, LEADING] = 2 * n + 2
    return reserve


def _candidates(pool: Pool, order: Order, reserve: Ints) -> _Candidates:
    """Return the first windows of each cell, as many as its reserve says."""
    n_cells = reserve.shape[1]
    cells = pool.group * n_cells + order.cell
    low = _low(cells, order.key, reserve.ravel())
    by_key = low[order_by(cells[low], order.key[low])]
    round_ = places(cells[by_key])
    is_near = round_ < reserve.ravel()[cells[by_key]]
    of, round_ = by_key[is_near], round_[is_near]
    turn = np.array([0, *turns(n_cells - 1)])
    return _Candidates(of, pool.group[of], order.cell[of], turn[order.cell[of]], round_)


def _low(cells: Ints, key: Ints, reserve: Ints) -> Ints:
    """Return windows among which the first of each cell are, ascending: most need no sorting.

    As if keys were random: those below the one that twice the reserve should stay below. A cell of
    which that leaves too few keeps all its windows.
    """
    sizes = np.bincount(cells, minlength=len(reserve))
    edge = (float(key.max(initial=0)) + 1) * (2 * reserve / np.maximum(sizes, 1))
    is_low = key < edge[cells]
    n_low = np.bincount(cells[is_low], minlength=len(reserve))
    is_low |= (n_low < np.minimum(reserve, sizes))[cells]
    return np.flatnonzero(is_low)


def _rounds(sizes: Ints, n_rest: Ints, n: int) -> Ints:
    """Return how many rounds it takes to draw `n_rest` windows from cells; n if they are short."""
    low, high = np.ones_like(n_rest), np.full_like(n_rest, n)
    while np.any(low < high):
        middle = (low + high) // 2
        is_enough = np.minimum(sizes, middle[:, None]).sum(axis=1) >= n_rest
        low, high = np.where(is_enough, low, middle + 1), np.where(is_enough, middle, high)
    return low


def _take(
    found: _Candidates, sizes: Ints, span: Ints, start: Ints, n: int, setting: Setting
) -> tuple[Ints, Ints]:
    """Return the candidates that are drawn, and for which latents others may have to be.

    Args:
        found: The candidates.
        sizes: Windows of each cell, shape [latents, cells].
        span: Of the document that each candidate is from; windows of others do not meet it.
        start: First token of each.
        n: Windows wanted of each latent.
        setting: How windows are shown.

    Returns:
        Places in the candidates, by latent in the order of the draw; and for each latent whether
        one beyond its candidates may come before one of these.
    """
    n_turns = int(found.turn.max(initial=0)) + 1
    n_rounds = int(found.round.max(initial=0)) + 1
    # Windows of the leading cell come before all others, whatever their number.
    step = _steps(found.cell, found.round, found.turn, n_rounds, n_turns)
    n_spans = int(span.max(initial=0)) + 1
    late, equal = hindered(found.group * n_spans + span, start, step, setting.window_tokens)
    left = np.flatnonzero(~equal)
    late, step, cell, group = late[left], step[left], found.cell[left], found.group[left]
    n_steps = int(step.max(initial=0)) + 1
    # What is left of a cell moves up, so that each round has one of it again.
    cells = group * sizes.shape[1] + cell
    round_ = ranks(cells, late * n_steps + step)
    again = _steps(cell, round_, found.turn[left], n_rounds, n_turns)
    order = order_by(group, again + late * (n_rounds * (n_turns + 1)))
    drawn = order[places(group[order]) < n]
    is_chance = cell[drawn] != LEADING
    last = np.where(late[drawn], len(found.of), np.where(is_chance, round_[drawn], -1))
    seen = np.bincount(found.group * sizes.shape[1] + found.cell, minlength=sizes.size)
    n_free = np.bincount(cells[~late], minlength=sizes.size)
    return left[drawn], _open(sizes, seen, n_free, group[drawn], last, n)


def _open(sizes: Ints, seen: Ints, n_free: Ints, group: Ints, last: Ints, n: int) -> Ints:
    """Return for which latents a window that is no candidate may come before a drawn one.

    Args:
        sizes: Windows of each cell, shape [latents, cells].
        seen: Candidates of each cell; shape [latents x cells], as `n_free`.
        n_free: Those that overlap none before them.
        group: Of each drawn window.
        last: Its round; larger than all if it overlaps another.
        n: Windows wanted of each latent.
    """
    is_short = np.bincount(group, minlength=len(sizes)) < n
    round_ = np.where(is_short, sizes.max(initial=0), -1)
    np.maximum.at(round_, group, last)
    is_unfinished = seen.reshape(sizes.shape) < sizes
    is_behind = n_free.reshape(sizes.shape) <= round_[:, None]
    found: Ints = np.any(is_unfinished & is_behind, axis=1)
    return found


def _steps(cell: Ints, round_: Ints, turn: Ints, n_rounds: int, n_turns: int) -> Ints:
    """Return what orders windows: those of the leading cell, then the others round by round."""
    return np.where(cell == LEADING, round_, n_rounds + round_ * n_turns + turn)


def _populations(pool: Pool, kept: Ints, n_quantiles: int, n_groups: int) -> Ints:
    """Return how many windows the quantile of each drawn window stands for."""
    shape = (n_groups, n_quantiles)
    cells = pool.group * n_quantiles + pool.quantile - 1
    sizes = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    drawn = np.bincount(cells[kept], minlength=shape[0] * shape[1]).reshape(shape)
    population: Ints = stood_for(sizes, drawn).ravel()[cells[kept]]
    return population


def stood_for(sizes: Ints, drawn: Ints) -> Ints:
    """Return how many windows each part stands for: its own and those of undrawn parts near it.

    The windows of a part of which nothing was drawn go to the nearest one of which something was,
    of two as near to the earlier, so that all parts of a row still add up. Shape [rows, parts] of
    arguments and result.
    """
    n_parts = sizes.shape[1]
    part = np.arange(n_parts)
    before = np.maximum.accumulate(np.where(drawn > 0, part, -n_parts * 2), axis=1)
    after = np.where(drawn > 0, part, n_parts * 3)[:, ::-1]
    after = np.minimum.accumulate(after, axis=1)[:, ::-1]
    nearest = np.where(part - before <= after - part, before, after)
    found = np.zeros_like(sizes)
    row, column = np.nonzero((sizes > 0) & (nearest >= 0) & (nearest < n_parts))
    np.add.at(found, (row, nearest[row, column]), sizes[row, column])
    return found


def _weights(order: Order, sizes: Ints, n: int, group: Ints, cell: Ints, kept: Ints) -> Floats:
    """Return how many windows of the role each drawn window stands for, NaN if none can say.

    Sums over the drawn windows are then unbiased for sums over all, as long as no window had to
    wait for one that it overlaps. None can say where fewer windows are wanted than there are cells
    to draw from: those of the cells left out had no chance.
    """
    if order.weight is not None:
        return order.weight[kept]
    shape = sizes.shape
    drawn = np.bincount(group * shape[1] + cell, minlength=sizes.size).reshape(shape)
    n_alone = np.minimum(sizes[:, LEADING], order.n_leading)
    has_chance = np.count_nonzero(sizes[:, LEADING + 1 :], axis=1) <= n - n_alone
    alone = n_alone * (drawn[:, LEADING] > 0)
    stands = np.column_stack([alone, stood_for(sizes[:, LEADING + 1 :], drawn[:, LEADING + 1 :])])
    is_whole = stands.sum(axis=1) == sizes.sum(axis=1)
    weight = stands[group, cell] / np.maximum(drawn[group, cell], 1)
    return np.where((is_whole & has_chance)[group], weight, np.nan)


def turns(n_quantiles: int) -> list[int]:
    """Return the turn of each quantile within a round of draws, 0-based.

    Any first few turns are spread over the quantiles: the order is the van der Corput sequence
    in base 2 (each quantile's place read with its bits reversed).
    """
    n_bits = max(1, (n_quantiles - 1).bit_length())
    reversed_bits = [int(f"{i:0{n_bits}b}"[::-1], 2) for i in range(n_quantiles)]
    order = {place: rank for rank, place in enumerate(sorted(reversed_bits))}
    return [order[place] for place in reversed_bits]


def eligible(windows: Windows, latents: Ints, min_windows: int) -> Ints:
    """Return those of some latents that have enough windows, ascending."""
    first = starts_of(windows.latent)
    n = np.diff(first, append=len(windows.latent))
    found: Ints = np.intersect1d(windows.latent[first[n >= min_windows]], latents)
    return found
