"""Windows from activations: one pass over rows that lie in order, without grouping them.

The rows of a unit lie on disk by (latent, token), so the activations of one latent in one tile are
a run of neighbouring rows and everything about a window is a reduction over its run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.sampling.arrays import spread, starts_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[np.float32]
    Columns = tuple[Ints, Ints, Ints]

_NUMBERS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The tiles in which each latent of a unit fires, by (latent, tile); shape [windows] each."""

    latent: Ints
    number: Ints
    """Of the tile."""
    peak: Floats
    """The largest activation."""
    peak_token: Ints
    """The first token that reaches it."""
    rank: Ints
    """By peak within the latent; 0 is the strongest, of equal ones the first tile."""
    quantile: Ints
    """1 is the strongest; equal counts, the first ones larger by one."""
    row: Ints
    """First of its activations in `token` and `value`."""
    n: Ints
    """Its activations, rows that follow each other."""
    token: Ints
    """Of every activation of the unit; shape [activations], as `value`."""
    value: Floats

    def __len__(self) -> int:
        return len(self.latent)

    @staticmethod
    def none() -> Windows:
        """Return no windows."""
        empty: dict[str, Any] = {f.name: np.empty(0, dtype=np.int64) for f in fields(Windows)}
        return Windows(**empty)

    @property
    def key(self) -> Ints:
        """Return latent and tile as one number, ascending."""
        return self.latent.astype(np.int64) * _NUMBERS + self.number

    def mass(self) -> npt.NDArray[np.float64]:
        """Return the sum of each window's activations as a number of 24 bits.

        The sum is exact, so equal on every machine, unless values of one window differ in size by
        more than 2^24.
        """
        if not len(self):
            return np.empty(0)
        # Rows of other windows lie between those of two when the unit has several files.
        order = np.argsort(self.row)
        total = np.empty(len(self))
        total[order] = np.add.reduceat(np.abs(self.value), self.row[order], dtype=np.float64)
        return total.astype(np.float32).astype(np.float64)

    def table(self) -> pa.Table:
        """Return the columns that statements read."""
        names = ("latent", "number", "peak", "peak_token", "rank", "quantile")
        return pa.table({name: getattr(self, name) for name in names}, schema=COLUMNS)

    def activations(self, latent: Ints, first: Ints, last: Ints) -> tuple[Ints, Ints]:
        """Return the rows of what a latent does in a range of tiles, for each of some ranges.

        Args:
            latent: Of each range.
            first: Number of its first tile.
            last: Number of its last tile.

        Returns:
            Rows of `token` and `value`, and the range that each belongs to, ascending.
        """
        low = np.searchsorted(self.key, latent.astype(np.int64) * _NUMBERS + first)
        high = np.searchsorted(self.key, latent.astype(np.int64) * _NUMBERS + last, side="right")
        which = spread(low, high - low)
        of = np.repeat(np.arange(len(latent)), high - low)
        return spread(self.row[which], self.n[which]), np.repeat(of, self.n[which])


COLUMNS = pa.schema(
    [
        ("latent", pa.int32()),
        ("number", pa.int32()),
        ("peak", pa.float32()),
        ("peak_token", pa.int64()),
        ("rank", pa.int32()),
        ("quantile", pa.int32()),
    ]
)
"""What `Windows.table` returns."""


def windows(rows: pa.Table, tile_of: Ints, *, n_quantiles: int) -> Windows:
    """Return the tiles in which each latent fires.

    Args:
        rows: Activations: columns latent, token and value, by (latent, token) within each of the
            files they come from. Any other order gives the same at a higher cost.
        tile_of: Number of the tile of each captured token, negative where there is none;
            activations there belong to no document and are left out.
        n_quantiles: Groups of equal count by rank.
    """
    latent, token, value = (rows[name].to_numpy() for name in ("latent", "token", "value"))
    number = tile_of[token]
    if len(number) and number.min() < 0:
        inside = number >= 0
        latent, token, value, number = latent[inside], token[inside], value[inside], number[inside]
    cut = _cut(latent, number, token, value)
    order = _order(cut["latent"], cut["number"])
    if order is None:
        rows_in_order = np.lexsort((token, latent))
        token, value = token[rows_in_order], value[rows_in_order]
        cut = _cut(latent[rows_in_order], number[rows_in_order], token, value)
    elif len(order):
        cut = {name: column[order] for name, column in cut.items()}
    rank, quantile = _ranks(cut["latent"], cut["peak"], n_quantiles)
    return Windows(**cut, rank=rank, quantile=quantile, token=token, value=value)


def _cut(latent: Ints, number: Ints, token: Ints, value: Floats) -> dict[str, Ints]:
    """Return what each run of rows with one latent and tile comes to, in the order of the rows."""
    is_first = np.ones(len(latent), dtype=np.bool_)
    if len(latent):
        np.not_equal(number[1:], number[:-1], out=is_first[1:])
        is_first[1:] |= latent[1:] != latent[:-1]
    row = np.flatnonzero(is_first)
    n = np.diff(row, append=len(latent))
    peak = np.maximum.reduceat(value, row) if len(row) else value
    hits = np.flatnonzero(value == np.repeat(peak, n))
    run = np.repeat(np.arange(len(n), dtype=np.int32), n)[hits]
    return {
        "latent": latent[row],
        "number": number[row],
        "peak": peak,
        "peak_token": token[hits[starts_of(run)]],
        "row": row,
        "n": n,
    }


def _order(latent: Ints, number: Ints) -> Ints | None:
    """Return what puts windows in order, empty if they are; None if a window came in two parts."""
    if _ascends(latent, number):
        return np.empty(0, dtype=np.int64)
    # Several files, one behind the other. Put in the order of their tokens, all that is left is a
    # stable sort of small integers, which takes linear time.
    file = np.flatnonzero(np.concatenate([[True], latent[1:] < latent[:-1]]))
    by_token = np.argsort(np.minimum.reduceat(number, file))
    order = spread(file[by_token], np.diff(file, append=len(latent))[by_token])
    narrow = (latent - latent.min()).astype(np.uint16 if np.ptp(latent) < 2**16 else np.int32)
    order = order[np.argsort(narrow[order], kind="stable")]
    if not _ascends(latent[order], number[order]):
        order = np.lexsort((number, latent))
    return order if _ascends(latent[order], number[order]) else None


def _ascends(latent: Ints, number: Ints) -> bool:
    """Return whether windows come by (latent, number), none of them twice."""
    if np.any(latent[1:] < latent[:-1]):
        return False
    return bool(np.all((number[1:] > number[:-1]) | (latent[1:] > latent[:-1])))


def _by_peak(of: Ints, peak: Floats) -> Ints:
    """Return what sorts by (group, peak), the largest first, a stable order; groups ascend.

    Sorts by 16 bits at a time, which takes linear time; most captures round values to 16.
    """
    # The bits of a float order like its value, once those of negative ones are turned round.
    bits = peak.view(np.uint32)
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    order = np.arange(len(of))
    parts = [falling.astype(np.uint16), (falling >> np.uint32(16)).astype(np.uint16)]
    groups = of.astype(np.uint16 if not len(of) or of[-1] < 2**16 else np.int32)
    for part in (*parts, groups):
        if np.any(part[1:] != part[:-1]):
            order = order[np.argsort(part[order], kind="stable")]
    return order


def _ranks(latent: Ints, peak: Floats, n_quantiles: int) -> tuple[Ints, Ints]:
    """Return rank and quantile of windows that come by (latent, number)."""
    start = starts_of(latent)
    size = np.diff(start, append=len(latent))
    of = np.repeat(np.arange(len(size)), size)
    order = _by_peak(of, peak)
    rank = np.empty(len(latent), dtype=np.int32)
    rank[order] = np.arange(len(latent)) - start[of]
    least, extra = np.divmod(size, n_quantiles)
    sizes = least[:, None] + (np.arange(n_quantiles) < extra[:, None])
    quantile = np.empty(len(latent), dtype=np.int32)
    quantile[order] = np.repeat(np.tile(np.arange(1, n_quantiles + 1), len(size)), sizes.ravel())
    return rank, quantile
