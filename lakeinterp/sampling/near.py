"""Tiles in which a latent's nearest fire and it does not: what a neighbour stratum draws from.

Numpy, and not SQL, finds them: the join of each latent with all windows of its nearest is a hundred
times as large as what is drawn, and a mark at each tile decides it in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.units import hookpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit

    Ints = npt.NDArray[Any]

_RING = 2**32
_TILES = 2**31
_MANY = 16
"""A bucket is read whole if more than one in so many of its latents are wanted."""
COLUMNS = pa.schema(
    [
        ("latent", pa.int32()),
        ("role", pa.string()),
        ("place", pa.int64()),
        ("turn", pa.int64()),
        ("number", pa.int32()),
        ("token", pa.int64()),
        ("population", pa.int64()),
    ]
)
"""What `draw` returns."""


class Fired(NamedTuple):
    """Where one latent fires."""

    number: Ints
    """Of the tiles, ascending; int32."""
    offset: Ints
    """Of the peak within its tile; the smallest integers that hold it."""


@dataclass(slots=True)
class Fires:
    """Where latents of a hookpoint fire, those of other units too, as far as they were wanted."""

    ring: Ints
    """Place of each tile on the ring; int64."""
    tile: Ints
    """First token of each tile."""
    is_score: Ints
    """Whether each tile is of the role `score`."""
    of: dict[int, Fired] = field(default_factory=dict)

    def add(self, session: Session, unit: Unit, latents: set[int]) -> None:
        """Read where some latents of a unit's hookpoint fire.

        Of a bucket of which many are wanted all are read: later units will want the others.
        """
        missing = latents - self.of.keys()
        if not missing:
            return
        (row,) = hookpoints(session.lake, unit.capture, [unit.hookpoint])
        width = row["bucket_latents"]
        for bucket in sorted({latent // width for latent in missing}):
            inside = range(bucket * width, min(bucket * width + width, row["n_latents"]))
            wanted = sorted(missing.intersection(inside))
            if _MANY * len(wanted) > len(inside):
                wanted = list(inside)
            for cut in session.cut(replace(unit, bucket=bucket), wanted):
                self._keep(cut, session.config.window_tokens)
            self.of.update((latent, _NOWHERE) for latent in wanted if latent not in self.of)

    def _keep(self, cut: pa.Table, window_tokens: int) -> None:
        latent, number, peak = (cut[name].to_numpy() for name in ("latent", "number", "peak_token"))
        offset = (peak - self.tile[number]).astype(np.min_scalar_type(window_tokens))
        edges = np.flatnonzero(np.diff(latent)) + 1
        firsts = np.concatenate([[0], edges])[: len(latent)]
        for first, own, at in zip(
            firsts, np.split(number, edges), np.split(offset, edges), strict=False
        ):
            self.of[int(latent[first])] = Fired(own.copy(), at.copy())


_NOWHERE = Fired(np.empty(0, np.int32), np.empty(0, np.uint8))


def fires_of(session: Session, unit: Unit, latents: set[int]) -> Fires:
    """Return where some latents of a unit's hookpoint fire, read once by all of its sessions."""
    shared = session.shared
    with shared.lock:
        if shared.fires is None:
            rows = queries.load("strata/tiles").table(session.con)
            shared.fires = Fires(
                ring=rows["ring"].to_numpy(),
                tile=rows["tile"].to_numpy(),
                is_score=rows["is_score"].to_numpy(),
            )
        shared.fires.add(session, unit, latents)
    return shared.fires


def draw(
    fires: Fires, near: pa.Table, silent_not: pa.Table, n: Mapping[str, int], share: float
) -> pa.Table:
    """Return the tiles that each neighbour of each latent offers, in the order of its walk.

    A tile counts for the nearest of the neighbours that fire there. A neighbour offers at most its
    share of the windows wanted of a role, those that come first on the ring of tiles from the
    latent's own place.

    Args:
        fires: Knows every neighbour.
        near: Columns latent, place (0 is the nearest), neighbour and origin, by latent and place.
        silent_not: Columns latent and number: the tiles in which the latents fire.
        n: Windows wanted, by role.
        share: Of the windows wanted of a role, at most from one neighbour.

    Returns:
        Columns latent, role, place (of the neighbour), turn (0-based within role and neighbour),
        number (of the tile), token (of the neighbour's peak) and population (silent tiles of the
        role in which any of the neighbours fires).
    """
    active = _grouped(silent_not["latent"].to_numpy(), silent_not["number"].to_numpy())
    neighbours = _grouped(near["latent"].to_numpy(), near["neighbour"].to_numpy())
    origins = dict(zip(near["latent"].to_pylist(), near["origin"].to_pylist(), strict=True))
    caps = {role: max(1, int(share * wanted)) for role, wanted in n.items() if wanted}
    marks = np.full(len(fires.ring), -1, np.int32)
    parts: list[pa.RecordBatch] = []
    for latent, listed in neighbours.items():
        fired = [fires.of[int(neighbour)] for neighbour in listed]
        free = _nearest(marks, fired, active.get(latent))
        parts += _offers(fires, latent, origins[latent], fired, free, caps)
    return pa.Table.from_batches(parts, COLUMNS)


def _nearest(marks: Ints, fired: Sequence[Fired], active: Ints | None) -> list[Ints]:
    """Return for each neighbour where in its tiles no nearer one and not the latent fires."""
    for place in range(len(fired) - 1, -1, -1):
        marks[fired[place].number] = place
    if active is not None:
        marks[active] = -1
    free = [np.flatnonzero(marks[own.number] == place) for place, own in enumerate(fired)]
    for own in fired:
        marks[own.number] = -1
    return free


def _offers(
    fires: Fires, latent: int, origin: int, fired: Sequence[Fired], free: Sequence[Ints],
    caps: Mapping[str, int],
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield the rows of one latent."""
    for role, cap in caps.items():
        found = []
        population = 0
        for place, (own, where) in enumerate(zip(fired, free, strict=True)):
            mine = where[fires.is_score[own.number[where]] == (role == "score")]
            population += len(mine)
            number = own.number[mine]
            way = (fires.ring[number] - origin) % _RING * _TILES + number
            first = np.argpartition(way, cap)[:cap] if len(way) > cap else np.arange(len(way))
            first = first[np.argsort(way[first])]
            token = fires.tile[number[first]] + own.offset[mine[first]]
            found.append((place, number[first], token))
        sizes = [len(number) for _, number, _ in found]
        n_rows = sum(sizes)
        yield pa.record_batch(
            [
                pa.repeat(pa.scalar(latent, pa.int32()), n_rows),
                pa.repeat(pa.scalar(role), n_rows),
                np.repeat([place for place, _, _ in found], sizes),
                np.concatenate([np.arange(size) for size in sizes]),
                np.concatenate([number for _, number, _ in found]),
                np.concatenate([token for _, _, token in found]),
                pa.repeat(pa.scalar(population, pa.int64()), n_rows),
            ],
            schema=COLUMNS,
        )


def _grouped(latent: Ints, values: Ints) -> dict[int, Ints]:
    """Return the values of each latent; rows of one latent lie together."""
    edges = np.flatnonzero(np.diff(latent)) + 1
    firsts = np.concatenate([[0], edges])[: len(latent)]
    return {int(latent[i]): v for i, v in zip(firsts, np.split(values, edges), strict=False)}
