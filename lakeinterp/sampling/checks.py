"""The audits' rules in one pass over arrays: whether rows are beyond doubt before they are written.

A statement of `sql/audit/` says which rows break a rule; to read the rows nine times for that costs
as much as to draw them. Here nothing is named: rows pass or they do not, and those that do not are
put to the statements. So this may be stricter than they are, never milder. It knows nothing of how
rows are drawn and shares no arithmetic with it: it has the rows, the tiles of the corpus, and the
activations as the lake holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeinterp.lake import queries
from lakeinterp.lake.tables import where
from lakeinterp.sampling.draws import asked
from lakeinterp.sampling.fired import read
from lakeinterp.sampling.session import unit_key
from lakeinterp.sampling.shown import Shown
from lakeinterp.sampling.silence import NONE, STRATA
from lakeinterp.sampling.tiles import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from lakeinterp.config import SamplingConfig
    from lakeinterp.sampling.session import Session
    from lakeinterp.sampling.tiles import Tiles
    from lakeinterp.terms import Unit

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[Any]

COVERED = frozenset(
    f"audit/{name}"
    for name in (
        *("counts", "duplicates", "negatives", "populations", "quantile_order"),
        *("spans", "split_overlap", "values", "weights"),
    )
)
"""Statements whose rules are checked here."""
_ACTIVATING, _NEIGHBOUR, _RANDOM = (STRATA.index(n) for n in ("activating", "neighbour", "random"))
_EXACT = 1e-6
"""Of a population; sums of weights are rounded."""


def is_sound(session: Session, unit: Unit, rows: pa.Table) -> bool:
    """Return whether rows break no rule of `sql/audit/`; False also where that is not certain.

    Args:
        session: Of the unit's hookpoint.
        unit: Whose rows they are.
        rows: Of one unit and sample.
    """
    if not _is_filled(rows):
        return False
    try:
        shown = Shown.of(rows)
    except KeyError:
        return False
    if not len(shown.group):
        return True
    rules: tuple[Callable[[], bool], ...] = (
        lambda: _is_text(shown, session.tiles, session.config),
        lambda: _is_numbered(shown),
        lambda: _are_negatives(shown),
        lambda: _adds_up(shown, session, unit),
        lambda: _is_true(shown, session, unit),
    )
    return all(rule() for rule in rules)


def _is_filled(rows: pa.Table) -> bool:
    """Whether there is a value wherever one must be, so that none is lost on the way to arrays."""
    never_null = ("latent", "example", "document", "start", "tokens", "values", "peak")
    lists = [chunk for name in ("tokens", "values") for chunk in rows[name].chunks]
    return not (
        any(rows[name].null_count for name in never_null)
        or any(chunk.flatten().null_count for chunk in lists)
        or pc.any(pc.is_nan(rows["weight"])).as_py()
    )


def _is_text(shown: Shown, tiles: Tiles, config: SamplingConfig) -> bool:
    """Rules of audit/spans and audit/split_overlap."""
    length, start = shown.length, shown.start
    if start.min() < 0 or length.min() < 1:
        return False
    if int((start + length).max()) > len(tiles.text) or int(start.max()) >= len(tiles.of_token):
        return False
    number = tiles.of_token[start]
    if number.min() < 0:
        return False
    if config.placement == "aligned":
        due = tiles.length[number]
        is_placed = start == tiles.tile[number]
    else:
        due = np.minimum(config.window_tokens, tiles.stop[number] - tiles.first[number])
        is_placed = start + length <= tiles.stop[number]
    of_both = np.intersect1d(*(shown.document[shown.role == role] for role in range(len(ROLES))))
    return bool(
        not len(of_both)
        and np.array_equal(tiles.document[number], shown.document)
        and np.array_equal(tiles.role[number], shown.role)
        and np.array_equal(length, due)
        and np.all(is_placed)
        and _is_read_at(start, length, shown.tokens, tiles.text)
    )


def _is_read_at(start: Ints, length: Ints, tokens: Ints, text: Ints) -> bool:
    """Whether tokens are the text from each start on; compared by length, whole rows at a time."""
    begin = np.cumsum(length) - length
    for width in np.flatnonzero(np.bincount(length)).tolist():
        mine = length == width
        shown, there = (np.lib.stride_tricks.sliding_window_view(t, width) for t in (tokens, text))
        if not np.array_equal(shown[begin[mine]], there[start[mine]]):
            return False
    return True


def _is_numbered(shown: Shown) -> bool:
    """Rules of audit/duplicates, and of audit/counts but for how many were asked for."""
    order = np.lexsort((shown.example, shown.group))
    group = shown.group[order]
    number = shown.example[order]
    is_first = np.append(True, group[1:] != group[:-1])[: len(group)]
    if np.any(number[is_first] != 0) or np.any(np.diff(number)[~is_first[1:]] != 1):
        return False
    order = np.lexsort((shown.start, shown.group))
    group, start = shown.group[order], shown.start[order]
    return not np.any((group[1:] == group[:-1]) & (start[1:] == start[:-1]))


def _are_negatives(shown: Shown) -> bool:
    """Rules of audit/negatives."""
    if not np.array_equal(shown.length, shown.n_values):
        return False
    silent = shown.stratum != _ACTIVATING
    return not (
        np.any(shown.peak[silent] != 0)
        or np.any(shown.peak_offset[silent] != NONE)
        or np.any(shown.quantile[silent] != NONE)
        or np.any(shown.neighbour[shown.stratum == _NEIGHBOUR] == NONE)
        or np.any(shown.values[np.repeat(silent, shown.length)] != 0)
    )


def _adds_up(shown: Shown, session: Session, unit: Unit) -> bool:
    """Rules of audit/counts, audit/populations, audit/quantile_order and audit/weights."""
    config = session.config
    active = shown.stratum == _ACTIVATING
    if np.any(active & ((shown.quantile < 1) | (shown.quantile > config.n_quantiles))):
        return False
    shape = (len(shown.latents), len(ROLES), len(STRATA), config.n_quantiles + 1)
    cell = _cells(shown, shape[-1])
    n = np.bincount(cell, minlength=int(np.prod(shape)))
    population = np.zeros_like(n)
    population[cell] = shown.population
    is_same = np.array_equal(population[cell], shown.population)
    is_known = shown.population != NONE
    if not is_same or np.any(is_known & (shown.population < n[cell])):
        return False
    if np.any(~is_known & (active | (shown.stratum == _RANDOM))):
        return False
    n, population = n.reshape(shape), population.reshape(shape)
    return bool(
        np.all(n.sum(axis=3) <= _asked(config))
        and _are_peaks_ordered(shown, config.n_quantiles + 1)
        and _is_whole(population, n, session.tiles, _n_windows(session, unit, shown.latents))
        and _are_weights_right(shown, population, n, config)
    )


def _are_peaks_ordered(shown: Shown, width: int) -> bool:
    """Rule of audit/quantile_order."""
    active = np.flatnonzero(shown.stratum == _ACTIVATING)
    cell, peak = (shown.group * width + shown.quantile)[active], shown.peak[active]
    largest = np.full((len(shown.latents), width), -np.inf, dtype=np.float32)
    smallest = np.full_like(largest, np.inf)
    np.maximum.at(largest.reshape(-1), cell, peak)
    np.minimum.at(smallest.reshape(-1), cell, peak)
    # The smallest peak of all stronger quantiles; those without examples are passed over.
    stronger = np.minimum.accumulate(smallest, axis=1)[:, :-1]
    return not np.isnan(peak).any() and bool(np.all(largest[:, 1:] <= stronger))


def _is_whole(population: Ints, n: Ints, tiles: Tiles, n_windows: Ints) -> bool:
    """Rules of audit/populations on what adds up.

    Args:
        population: Shape [latents, roles, strata, quantiles], as `n`.
        n: Examples.
        tiles: Of the corpus.
        n_windows: Of each latent that has rows, -1 where it was not counted.
    """
    n_tiles = np.bincount(tiles.role, minlength=len(ROLES))
    active = population[:, :, _ACTIVATING].sum(axis=2)
    silent, has_random = population[:, :, _RANDOM, 0], n[:, :, _RANDOM, 0] > 0
    has_any = has_random | (n[:, :, _ACTIVATING].sum(axis=2) > 0)
    together = active + silent
    is_right = np.where(has_random, together == n_tiles, together <= n_tiles) | ~has_any
    is_known = n_windows >= 0
    has_active = n[:, :, _ACTIVATING].sum(axis=(1, 2)) > 0
    left, silent = n_tiles.sum() - n_windows, silent.sum(axis=1)
    is_rest = np.where(has_random.all(axis=1), silent == left, silent <= left)
    return bool(
        is_right.all()
        and np.all((active.sum(axis=1) == n_windows) | ~has_active | ~is_known)
        and np.all(is_rest | ~has_random.any(axis=1) | ~is_known)
    )


def _are_weights_right(shown: Shown, population: Ints, n: Ints, config: SamplingConfig) -> bool:
    """Rules of audit/weights; shapes as for `_is_whole`."""
    is_weighed = ~np.isnan(shown.weight)
    if np.any(shown.weight[is_weighed] < 1 - 1e-9):
        return False
    cell = _cells(shown, n.shape[3])
    n_weighed = np.bincount(cell[is_weighed], minlength=n.size).reshape(n.shape)
    weight = np.bincount(cell[is_weighed], shown.weight[is_weighed], minlength=n.size)
    weight = weight.reshape(n.shape)
    draws = (config.explain_draw, config.score_draw)
    wanted = (config.n_explain, config.n_score)
    for role, stratum in np.ndindex(len(ROLES), len(STRATA)):
        draw = {_ACTIVATING: draws[role]}.get(stratum, STRATA[stratum])
        mine = (slice(None), role, stratum)
        sums = (n[mine], n_weighed[mine], weight[mine], population[mine])
        if not _are_weights(draw, wanted[role], config.n_quantiles, *sums):
            return False
    return True


def _are_weights(
    draw: str,
    n_asked: int,
    n_quantiles: int,
    n: Ints,
    n_weighed: Ints,
    weight: Floats,
    population: Ints,
) -> bool:
    """Whether weights of one role and stratum are right; shape [latents, quantiles]."""
    each, weighed, stands = n.sum(axis=1), n_weighed.sum(axis=1), population.sum(axis=1)
    some, total = weighed > 0, weight.sum(axis=1)
    if draw in ("same_token", "neighbour", "similar"):
        return not some.any()
    is_due = draw in ("random", "importance") or (draw == "quantiles" and n_asked >= n_quantiles)
    wrong = (some | is_due) & (weighed < each)
    if draw == "top":
        wrong |= some & (stands > n_asked)
    if draw != "importance":
        wrong |= some & (np.abs(total - stands) > _EXACT * stands)
    if draw == "quantiles":
        is_off = np.abs(weight - population) > _EXACT * population
        wrong |= np.any(is_off & (n_weighed > 0), axis=1)
    return not wrong.any()


def _is_true(shown: Shown, session: Session, unit: Unit) -> bool:
    """Rules of audit/values."""
    width = len(session.tiles.of_token)
    first, last = int(shown.latents[0]), int(shown.latents[-1])
    rows = read(session.lake, where(**unit_key(unit)), first=first, last=last, n_tokens=width)
    latent, token, value = (rows[name].to_numpy() for name in ("latent", "token", "value"))
    key = latent * np.int64(width) + token
    begin = shown.latents.astype(np.int64)[shown.group] * width + shown.start
    low = np.searchsorted(key, begin)
    n = np.searchsorted(key, begin + shown.length) - low
    row, of = _each(low, n), np.repeat(np.arange(len(n)), n)
    edges = np.cumsum(shown.length) - shown.length
    expected = np.zeros_like(shown.values)
    expected[edges[of] + token[row] - shown.start[of]] = value[row]
    active = np.flatnonzero(shown.stratum == _ACTIVATING)
    at, peak = shown.peak_offset[active], shown.peak[active]
    return bool(
        np.array_equal(expected, shown.values)
        and np.all(value[row] != 0)
        and np.all((at >= 0) & (at < shown.length[active]))
        and np.array_equal(shown.values[edges[active] + at], peak)
        and np.all(peak != 0)
    )


def _n_windows(session: Session, unit: Unit, latents: Ints) -> Ints:
    """Return the windows of some latents as `latents` has them, `NONE` where it has no row."""
    counted = session.derived("latents").get(unit.hookpoint)
    if counted is None:
        rows = queries.load("stats/windows").table(
            session.con, capture=unit.capture, hookpoint=unit.hookpoint
        )
        counted = rows["latent"].to_numpy(), rows["n_windows"].to_numpy()
        session.derived("latents")[unit.hookpoint] = counted
    known, n = counted
    if not len(known):
        return np.full(len(latents), NONE)
    at = np.minimum(np.searchsorted(known, latents), len(known) - 1)
    found: Ints = np.where(known[at] == latents, n[at], NONE)
    return found


def _cells(shown: Shown, width: int) -> Ints:
    """Number of latent, role, stratum and quantile, which silent windows have none of."""
    found: Ints = shown.kind * width + np.maximum(shown.quantile, 0)
    return found


def _asked(config: SamplingConfig) -> Ints:
    """Return how many examples are wanted, [role, stratum]."""
    wanted = asked(config)
    found = np.zeros((len(ROLES), len(STRATA)), dtype=np.int64)
    for role, stratum, n in zip(*(wanted[k] for k in ("roles", "strata", "n_asked")), strict=True):
        found[ROLES.index(role), STRATA.index(stratum)] = n
    return found


def _each(first: Ints, n: Ints) -> Ints:
    """Return the n places from first on, of one range after the other."""
    place = np.ones(int(n.sum()), dtype=np.int64)
    some = n > 0
    first, n = first[some].astype(np.int64), n[some]
    place[np.append(0, np.cumsum(n)[:-1])[: len(n)]] = (
        np.diff(first, prepend=0) - np.append(0, n[:-1] - 1)[: len(n)]
    )
    found: Ints = np.cumsum(place)
    return found
