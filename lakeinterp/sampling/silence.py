"""Windows on which a latent is silent: random ones, and those that a stratum offers.

Tiles lie on a ring in an order that the seed decides, and each latent walks it from a place of its
own: the first tiles on which it is silent are uniform over them, without replacement, and stay when
tokens are added. Each is shown as an activating window would be, about a random token of the tile
in place of a peak, and slid until no activation is in sight. A tile beside which no window of full
length is silent is passed over, since a short one would give the answer away.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeinterp.sampling.arrays import hindered, mix, order_by, places, spread
from lakeinterp.sampling.placing import place
from lakeinterp.sampling.tiles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakeinterp.sampling.placing import Setting
    from lakeinterp.sampling.runs import Windows
    from lakeinterp.sampling.tiles import Tiles

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

STRATA = ("activating", "neighbour", "random", "same_token", "similar")
"""A stratum's number is its place here."""
_RANDOM = STRATA.index("random")
_TILES_AT_ONCE = 2_000_000
"""Tiles looked at in one go; some 200 bytes each."""
NONE = -(2**63)
"""In place of a number that there is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Windows on which latents are silent; shape [windows] each."""

    group: Ints
    """Place of the latent among those drawn for."""
    stratum: Ints
    """Number in `STRATA`."""
    number: Ints
    """Of the tile."""
    order: Ints
    """Within latent, role and stratum: the lower comes first."""
    start: Ints
    length: Ints
    population: Ints
    neighbour: Ints
    similarity: Floats
    is_late: Bools
    """Whether it overlaps one that comes before it."""

    def take(self, which: Ints | Bools) -> Silent:
        """Return some of them."""
        return Silent(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    @staticmethod
    def joined(parts: Sequence[Silent]) -> Silent:
        """Return windows one behind the other."""
        return Silent(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Silent)}
        )


def random_windows(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    role: int,
    n: int,
    n_active: Ints,
    seed: int,
    setting: Setting,
) -> Silent:
    """Draw random windows of one role on which latents are silent.

    Args:
        windows: Of the unit.
        tiles: Of the corpus.
        latents: Those to draw for, ascending.
        role: Number of the role in `tiles.ROLES`.
        n: Windows wanted of each latent.
        n_active: Tiles of the role in which each latent fires, shape [latents].
        seed: Of the settings.
        setting: How windows are shown.
    """
    n_tiles = len(tiles.rings[role][0])
    population = n_tiles - n_active
    found: list[Silent] = []
    left = np.flatnonzero((population > 0) & (n > 0))
    # Three standard deviations and four more than it should take; further where that is too few.
    steps = np.ceil((n + 3 * np.sqrt(n) + 4) * n_tiles / np.maximum(population, 1)).astype(int)
    while len(left):
        steps = np.minimum(steps, n_tiles)
        short = []
        for some in _portions(left, steps):
            walked = _walk(tiles, latents, role, some, steps[some], seed)
            offered = _shown(windows, tiles, latents, walked, seed, setting)
            offered = _without_equals(offered, tiles, setting)
            free = np.bincount(offered.group[~offered.is_late], minlength=len(latents))
            is_short = (free < np.minimum(n, population)) & (steps < n_tiles)
            found.append(_first(offered.take(~is_short[offered.group]), n))
            short.append(some[is_short[some]])
        left = np.concatenate(short)
        steps = steps * 8
    every = Silent.joined(found or [_rows(*[np.empty(0, dtype=np.int64)] * 4)])
    return replace(every, population=population[every.group])


def offered_windows(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    role: int,
    candidates: pa.Table,
    taken: Silent,
    seed: int,
    setting: Setting,
) -> Silent:
    """Draw windows of one role from the tiles that strata offer.

    Args:
        windows: Of the unit.
        tiles: Of the corpus.
        latents: Those to draw for, ascending.
        role: Number of the role in `tiles.ROLES`.
        candidates: Rows of `sql/strata/offered.sql`.
        taken: The random windows of the role, which come first.
        seed: Of the settings.
        setting: How windows are shown.
    """
    mine = candidates.filter(pc.equal(candidates["role"], ROLES[role]))
    latent = mine["latent"].to_numpy()
    offered = _rows(
        group=np.searchsorted(latents, latent),
        number=mine["number"].to_numpy().astype(np.int32),
        stratum=pc.index_in(mine["stratum"], pa.array(STRATA)).to_numpy().astype(np.int64),
        order=mine["place"].to_numpy(),
        population=filled(mine["population"]),
        neighbour=filled(mine["neighbour"]),
        similarity=mine["similarity"].to_numpy(),
    )
    is_due = np.isin(latent, latents)
    token, n = filled(mine["token"])[is_due], mine["n"].to_numpy()[is_due]
    wanted = np.zeros(len(STRATA), dtype=np.int64)
    np.maximum.at(wanted, offered.stratum[is_due], n)
    shown = _shown(windows, tiles, latents, offered.take(is_due), seed, setting, token)
    every = _without_equals(Silent.joined([taken, shown]), tiles, setting)
    return _first(every.take(every.stratum != _RANDOM), wanted)


def _walk(tiles: Tiles, latents: Ints, role: int, group: Ints, steps: Ints, seed: int) -> Silent:
    """Return the first tiles of a role on the ring from each latent's own place."""
    ring, numbers = tiles.rings[role]
    origin = mix(mix(seed, -2), latents[group])
    begin = np.searchsorted(ring, origin)
    where = spread(begin, steps) % len(ring)
    of = np.repeat(group, steps)
    return _rows(
        group=of,
        number=numbers[where],
        stratum=np.full(len(of), _RANDOM),
        order=spread(np.zeros_like(begin), steps),
    )


def _shown(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    offered: Silent,
    seed: int,
    setting: Setting,
    token: Ints | None = None,
) -> Silent:
    """Return the windows of those tiles beside which a silent one of full length can be shown."""
    latent, number = latents[offered.group], offered.number
    low, high, is_active = _silence(windows, tiles, latent, number)
    tile = tiles.tile[number]
    salt = mix(mix(seed, -3), latent) if len(latent) else latent
    centre = tile + mix(salt, tile) % tiles.length[number]
    if token is not None:
        centre = np.where(token == NONE, centre, token)
    start, length = place(tiles, number, centre, setting, low, high)
    is_fit = ~is_active
    if setting.at is not None:
        is_fit &= high - low >= length
    if token is not None:
        is_fit &= (token == NONE) | ((token >= start) & (token < start + length))
    return replace(offered, start=start, length=length).take(is_fit)


def _silence(
    windows: Windows, tiles: Tiles, latent: Ints, number: Ints
) -> tuple[Ints, Ints, Bools]:
    """Return the silent tokens about each tile, as first and one after the last, and if it fires.

    Only the tiles on either side are looked at: a window reaches no further.
    """
    low, high = tiles.first[number], tiles.stop[number]
    if not len(windows):
        return low, high, np.zeros(len(number), dtype=np.bool_)
    own = latent.astype(np.int64) * 2**32 + number
    key = windows.key
    at = np.searchsorted(key, own)
    here, before = np.minimum(at, len(key) - 1), np.maximum(at - 1, 0)
    is_active = key[here] == own
    has_before = key[before] == own - 1
    last = windows.row + windows.n - 1
    low = np.where(has_before, np.maximum(low, windows.token[last[before]] + 1), low)
    has_after = key[here] == own + 1
    high = np.where(has_after, np.minimum(high, windows.token[windows.row[here]]), high)
    return low, high, is_active


def _without_equals(offered: Silent, tiles: Tiles, setting: Setting) -> Silent:
    """Return windows without those equal to an earlier one, and which overlap an earlier one."""
    if not len(offered.group):
        return offered
    spans = np.unique(tiles.first[offered.number], return_inverse=True)[1]
    # Random windows come first, then the strata by name.
    turn = np.where(offered.stratum == _RANDOM, 0, offered.stratum + 1)
    width = int(offered.order.max()) + 1
    late, equal = hindered(
        offered.group * (int(spans.max()) + 1) + spans,
        offered.start,
        turn * width + offered.order,
        setting.window_tokens,
    )
    return replace(offered, is_late=late).take(~equal)


def _first(offered: Silent, n: int | Ints) -> Silent:
    """Return the first n of each latent and stratum, those that overlap earlier ones last."""
    cell = offered.group * len(STRATA) + offered.stratum
    width = int(offered.order.max(initial=0)) + 1
    order = order_by(cell, offered.is_late * width + offered.order)
    wanted = n if isinstance(n, int) else n[offered.stratum[order]]
    return offered.take(order[places(cell[order]) < wanted])


def _portions(groups: Ints, steps: Ints) -> list[Ints]:
    """Return latents in portions whose walks together are not too long."""
    ends = np.cumsum(steps[groups])
    return np.split(groups, np.flatnonzero(np.diff(ends // _TILES_AT_ONCE)) + 1)


def _rows(group: Ints, number: Ints, stratum: Ints, order: Ints, **given: Ints) -> Silent:
    n = len(group)
    blank: dict[str, Any] = {
        "start": np.zeros(n, dtype=np.int64),
        "length": np.zeros(n, dtype=np.int64),
        "population": np.full(n, NONE),
        "neighbour": np.full(n, NONE),
        "similarity": np.full(n, np.nan),
        "is_late": np.zeros(n, dtype=np.bool_),
    }
    return Silent(group=group, number=number, stratum=stratum, order=order, **{**blank, **given})


def filled(column: pa.ChunkedArray) -> Ints:
    """Return a column of whole numbers with `NONE` where it is null."""
    filled: Ints = pc.fill_null(column.cast(pa.int64()), NONE).to_numpy()
    return filled
