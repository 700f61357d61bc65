"""Arithmetic on arrays that several steps of the draw share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

_SHIFT = np.uint64(1 << 63)
_A, _B, _C = (np.uint64(n) for n in (2177342782468422677, 4564476756301768121, 1499779743744070123))
_32 = np.uint64(32)


def mix(seed: int | Ints, key: int | Ints) -> Ints:
    """Return what the macro of `sql/macros/mix.sql` returns: numbers in [0, 2^32), int64.

    Args:
        seed: Not negative.
        key: Of at most 64 bits.
    """
    seeds = np.atleast_1d(np.asarray(seed, dtype=np.int64)).view(np.uint64)
    keys = np.atleast_1d(np.asarray(key, dtype=np.int64)).view(np.uint64)
    x = (keys + _SHIFT + seeds * _A) * _B
    return (((x ^ (x >> _32)) * _C) >> _32).astype(np.int64)


def starts_of(group: Ints) -> Ints:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])[: len(group)])


def places(group: Ints) -> Ints:
    """Return the place of each element among those of its group, 0-based; groups lie together."""
    first = starts_of(group)
    sizes = np.diff(first, append=len(group))
    found: Ints = np.arange(len(group)) - np.repeat(first, sizes)
    return found


def ranks(group: Ints, key: Ints) -> Ints:
    """Return the place of each element among those of its group by key, 0-based.

    Args:
        group: Any order, not negative.
        key: Not negative; no two equal in a group, or the first counts as the smaller.
    """
    order = order_by(group, key)
    found = np.empty(len(group), dtype=np.int64)
    found[order] = places(group[order])
    return found


def order_by(group: Ints, key: Ints) -> Ints:
    """Return what sorts by (group, key), a stable order; neither is negative."""
    if not len(group):
        return np.empty(0, dtype=np.int64)
    width = int(key.max()) + 1
    if (int(group.max()) + 1) * width >= 2**63:
        return np.lexsort((key, group))
    packed = group.astype(np.int64) * width + key
    order = np.argsort(packed)
    packed = packed[order]
    if np.any(packed[1:] == packed[:-1]):
        # Only a stable sort leaves equal ones as they were, at three times the cost.
        order = np.argsort(group.astype(np.int64) * width + key, kind="stable")
    return order


def spread(first: Ints, n: Ints) -> Ints:
    """Return first, first + 1, … of each range, n numbers of it, one range behind the other."""
    ends = np.cumsum(n)
    total = int(ends[-1]) if len(ends) else 0
    found: Ints = np.arange(total) + np.repeat(first - (ends - n), n)
    return found


def pieces(values: Ints, first: Ints, n: Ints) -> Ints:
    """Return `values` of each range, n of them from `first` on, one range behind the other."""
    width = int(n.max(initial=0))
    if len(values) < width or not width:
        return values[:0]
    # Ranges of full width are rows of a view; short ones end where their row does.
    last = len(values) - width
    rows = np.lib.stride_tricks.sliding_window_view(values, width)[np.minimum(first, last)]
    if np.all(n == width):
        return rows.ravel()
    shift, place = np.maximum(first - last, 0)[:, None], np.arange(width)
    found: Ints = rows[(place >= shift) & (place < shift + n[:, None])]
    return found


def hindered(group: Ints, start: Ints, place: Ints, width: int) -> tuple[Bools, Bools]:
    """Return which windows overlap one that comes before them, and which are equal to one.

    Args:
        group: Windows of different groups never overlap; not negative.
        start: First token of each window.
        place: Order of the draw; of two windows that meet the later is hindered.
        width: Windows that begin less than this apart overlap.
    """
    late, equal = np.zeros(len(group), dtype=np.bool_), np.zeros(len(group), dtype=np.bool_)
    order = np.lexsort((start, group))
    for distance in range(1, len(order)):
        one, other = order[:-distance], order[distance:]
        near = (group[one] == group[other]) & (start[other] - start[one] < width)
        if not near.any():
            break
        one, other = one[near], other[near]
        later = np.where(place[one] > place[other], one, other)
        late[later] = True
        equal[later[start[one] == start[other]]] = True
    return late, equal
