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
    """The first windows of each cell, a reserve with them."""

    of: Ints
    """Place in the pool."""
    group: Ints
    cell: Ints
    turn: Ints
    round: Ints


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
    n_cells, n_groups = config.n_quantiles + 1, len(latents)
    sizes = np.bincount(pool.group * n_cells + order.cell, minlength=n_groups * n_cells)
    sizes = sizes.reshape(n_groups, n_cells)
    found = _candidates(pool, order, sizes, n, config)
    shown = place(tiles, windows.number[of[found.of]], windows.peak_token[of[found.of]], setting)
    chosen = _take(found, windows, tiles, of, shown.start, n, setting)
    kept, cell = found.of[chosen], found.cell[chosen]
    population = _populations(pool, kept, config.n_quantiles, n_groups)
    return Positives(
        window=of[kept],
        group=pool.group[kept],
        draw=places(pool.group[kept]),
        start=shown.start[chosen],
        length=shown.length[chosen],
        population=population,
        weight=_weights(order, sizes, pool.group[kept], cell, kept),
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
    group = np.searchsorted(latents, windows.latent)
    is_wanted = np.append(latents, -1)[group] == windows.latent
    of = np.flatnonzero(is_wanted & (tiles.role[windows.number] == role))
    salts = mix(config.seed, latents)
    return of, Pool(
        group=group[of],
        rank=windows.rank[of],
        quantile=windows.quantile[of],
        chance=mix(salts[group[of]], tiles.tile[windows.number[of]]),
        mass=windows.mass()[of] if has_mass else np.empty(0),
    )


def _candidates(
    pool: Pool, order: Order, sizes: Ints, n: int, config: SamplingConfig
) -> _Candidates:
    """Return the windows of each cell that a draw may need, the first ones in their order."""
    n_cells = sizes.shape[1]
    n_rest = n - np.minimum(sizes[:, LEADING], order.n_leading)
    reserve = np.empty_like(sizes)
    reserve[:] = 2 * _rounds(sizes[:, LEADING + 1 :], n_rest, n)[:, None] + 2
    reserve[:, LEADING] = 2 * n + 2
    cells = pool.group * n_cells + order.cell
    by_key = order_by(cells, order.key)
    round_ = places(cells[by_key])
    is_near = round_ < reserve.ravel()[cells[by_key]]
    of, round_ = by_key[is_near], round_[is_near]
    turn = np.array([0, *turns(config.n_quantiles)])
    return _Candidates(of, pool.group[of], order.cell[of], turn[order.cell[of]], round_)


def _rounds(sizes: Ints, n_rest: Ints, n: int) -> Ints:
    """Return how many rounds it takes to draw `n_rest` windows from cells; n if they are short."""
    low, high = np.ones_like(n_rest), np.full_like(n_rest, n)
    while np.any(low < high):
        middle = (low + high) // 2
        is_enough = np.minimum(sizes, middle[:, None]).sum(axis=1) >= n_rest
        low, high = np.where(is_enough, low, middle + 1), np.where(is_enough, middle, high)
    return low


def _take(
    found: _Candidates,
    windows: Windows,
    tiles: Tiles,
    of: Ints,
    start: Ints,
    n: int,
    setting: Setting,
) -> Ints:
    """Return the candidates that are drawn, by latent in the order of the draw."""
    is_leading = found.cell == LEADING
    n_turns = int(found.turn.max(initial=0)) + 1
    n_rounds = int(found.round.max(initial=0)) + 1
    # Windows of the leading cell come before all others, whatever their number.
    step = np.where(is_leading, found.round, n_rounds + found.round * n_turns + found.turn)
    documents = tiles.first[windows.number[of[found.of]]]
    spans = np.unique(documents, return_inverse=True)[1]
    n_spans = int(spans.max(initial=0)) + 1
    late, equal = hindered(found.group * n_spans + spans, start, step, setting.window_tokens)
    left = np.flatnonzero(~equal)
    late, step, group = late[left], step[left], found.group[left]
    n_steps = int(step.max(initial=0)) + 1
    # What is left of a cell moves up, so that each round has one of it again.
    cells = group * (int(found.cell.max(initial=0)) + 1) + found.cell[left]
    round_ = ranks(cells, late * n_steps + step)
    again = np.where(
        is_leading[left], round_, n_rounds + round_ * n_turns + found.turn[left]
    ) + late * (n_rounds * (n_turns + 1))
    order = order_by(group, again)
    return left[order[places(group[order]) < n]]


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


def _weights(order: Order, sizes: Ints, group: Ints, cell: Ints, kept: Ints) -> Floats:
    """Return how many windows of the role each drawn window stands for.

    Sums over the drawn windows are then unbiased for sums over all, as long as no window had to
    wait for one that it overlaps.
    """
    if order.weight is not None:
        return order.weight[kept]
    shape = sizes.shape
    drawn = np.bincount(group * shape[1] + cell, minlength=sizes.size).reshape(shape)
    alone = np.minimum(sizes[:, LEADING], order.n_leading) * (drawn[:, LEADING] > 0)
    stands = np.column_stack([alone, stood_for(sizes[:, LEADING + 1 :], drawn[:, LEADING + 1 :])])
    is_whole = stands.sum(axis=1) == sizes.sum(axis=1)
    weight = stands[group, cell] / np.maximum(drawn[group, cell], 1)
    return np.where(is_whole[group], weight, np.nan)


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
