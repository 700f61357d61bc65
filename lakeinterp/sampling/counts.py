"""Counts of activations by latent: one pass over rows that lie by latent.

A latent's tokens, values and documents are written as small whole numbers that keep their order,
so that each latent's few thousand are sorted in linear time and equal ones are counted as runs.
The same by `GROUP BY` costs several times as much: rows of one latent arrive together, and a hash
table makes no use of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SIDES = ("at", "before", "after")
"""Where a token stands: under the activation, before it, after it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What stands at each captured token; arrays are indexed by token."""

    tile_of: Array
    """Tile, -1 where no document is."""
    part_of: Array
    """Which equal part of the context the token is in."""
    codes: dict[str, Array]
    """Code of the token at, before and after each one, in the order of the ids;
    `len(token_ids)` where there is none."""
    token_ids: Array
    """Token id of each code, ascending."""
    document_of: Array
    """Code of each tile's document; indexed by tile."""
    special: Array
    """Whether each code is a special token."""

    @classmethod
    def of(
        cls,
        *,
        text: Array,
        tile_of: Array,
        tile_first: Array,
        tile_document: Array,
        special: frozenset[int],
        context_tokens: int,
        n_parts: int,
    ) -> Corpus:
        """Return the captured part of a corpus.

        Args:
            text: Token id of each captured token, -1 where there is none.
            tile_of: Tile of each, -1 where no document is; as long as `text` or shorter.
            tile_first: First token of the span of a document that each tile is cut from.
            tile_document: Document of each tile.
            special: Ids of special tokens.
            context_tokens: Tokens of a sequence.
            n_parts: Equal parts the context is cut into.
        """
        tiles = np.full(len(text), -1, tile_of.dtype)
        tiles[: len(tile_of)] = tile_of
        token_ids, at = _coded(text)
        nothing = len(token_ids)
        begins = np.where(tiles >= 0, np.append(tile_first, -1)[tiles], -1)
        follows = (begins[1:] == begins[:-1]) & (begins[1:] >= 0)
        before, after = np.full_like(at, nothing), np.full_like(at, nothing)
        before[1:][follows] = at[:-1][follows]
        after[:-1][follows] = at[1:][follows]
        place = np.arange(context_tokens) * n_parts // context_tokens
        return cls(
            tile_of=tiles,
            part_of=np.resize(place.astype(np.min_scalar_type(n_parts)), len(text)),
            codes=dict(zip(SIDES, (at, before, after), strict=True)),
            token_ids=token_ids,
            document_of=_narrow(np.unique(tile_document, return_inverse=True)[1]),
            special=np.isin(token_ids, sorted(special)),
        )

    def frequencies(self) -> pa.Table:
        """Return how often each token stands at, before and after a token of a document."""
        inside, n = self.tile_of >= 0, len(self.token_ids)
        counts = [np.bincount(self.codes[s][inside], minlength=n + 1)[:n] for s in SIDES]
        return pa.table([self.token_ids, *counts], names=["token_id", *(f"n_{s}" for s in SIDES)])

    def parts(self) -> pa.Table:
        """Return the share of the documents' tokens that lies in each part of the context."""
        n = np.bincount(self.part_of[self.tile_of >= 0])
        share = n / max(1, n.sum())
        return pa.table({"part": np.flatnonzero(n), "share": share[n > 0]})


class Counts(NamedTuple):
    """What was counted, as the relations that `sql/stats/latents.sql` reads."""

    counted: pa.Table
    """One row a latent that fires."""
    listed: pa.Table
    """The commonest tokens: latent, side, token_id, n."""
    bars: pa.Table
    """The histogram: latent, side (sign of the values), step, n."""
    placed: pa.Table
    """Places in the context: latent, part, n."""


class _Runs(NamedTuple):
    """Equal values of one latent; in the order of latents, then values."""

    owner: Array
    """Place of the latent among those counted."""
    value: Array
    n: Array


def count(rows: pa.Table, corpus: Corpus, *, first: int, n_levels: int, n_top: int) -> Counts:
    """Count the activations of some latents on tokens of documents.

    Args:
        rows: Columns latent, token and value, in any order; fast if sorted by latent.
        corpus: The captured tokens.
        first: Smallest latent there may be.
        n_levels: Value quantiles: shares 1 / n, 2 / n, … below 1.
        n_top: Tokens listed a side, most often first, of equally many those with smaller ids.
    """
    latent, token, value = (rows[name].to_numpy() for name in ("latent", "token", "value"))
    known = token < len(corpus.tile_of)
    tile = corpus.tile_of[token if known.all() else np.where(known, token, 0)]
    if not (inside := known & (tile >= 0)).all():
        columns = (latent, token, value, tile)
        latent, token, value, tile = (column[inside] for column in columns)
    owner = _narrow(latent - first)
    if np.any(owner[1:] < owner[:-1]):
        order = np.argsort(owner, kind="stable")
        owner, token, value, tile = (column[order] for column in (owner, token, value, tile))
    begins = np.flatnonzero(owner[1:] != owner[:-1]) + 1
    edges = np.concatenate([[0], begins, [len(owner)]]) if len(owner) else np.zeros(1, np.int64)
    latents = owner[edges[:-1]].astype(np.int32) + np.int32(first)
    beside = {side: codes[token] for side, codes in corpus.codes.items()}
    runs = {side: _runs(codes, edges) for side, codes in beside.items()}
    starts = np.cumsum(np.append(0, beside["before"] == len(corpus.token_ids)))
    heights, levels = _values(value, edges, n_levels)
    counted = {
        "latent": latents,
        "n_activations": np.diff(edges),
        "n_first": np.diff(starts[edges]),
        "n_special": _specials(corpus, runs["at"], latents),
        "max": np.maximum.reduceat(value, edges[:-1]) if len(latents) else value,
        "total": _total(heights.owner, latents, heights.value.astype(np.float64) * heights.n),
        "quantiles": levels,
        **_spread(corpus, tile, edges),
    }
    return Counts(
        pa.table(counted),
        _listed(corpus, runs, latents, n_top),
        _bars(heights, latents),
        _placed(corpus.part_of[token], edges, latents),
    )


def _coded(text: Array) -> tuple[Array, Array]:
    """Return the ids that occur, and each token's place among them; past the last for negatives."""
    present = np.bincount(text[text >= 0])
    ids = np.flatnonzero(present).astype(np.int32)
    code_of = np.append(np.cumsum(present > 0) - 1, len(ids))
    return ids, code_of[np.where(text < 0, -1, text)].astype(np.min_scalar_type(len(ids)))


def _narrow(numbers: Array) -> Array:
    """Return numbers from zero on in the narrowest type: two bytes are sorted in linear time."""
    most = int(numbers.max()) if len(numbers) else 0
    return numbers.astype(np.uint16 if most < 2**16 else np.int64)


def _runs(values: Array, edges: Array) -> _Runs:
    """Return the distinct values of each latent and how often each occurs."""
    values = values.copy()
    kind: Any = "stable" if values.itemsize <= 2 else None
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        values[start:stop].sort(kind=kind)
    begins = _begins(values, edges)
    n_each = np.diff(np.searchsorted(begins, edges))
    owner = np.repeat(np.arange(len(n_each)), n_each)
    return _Runs(owner, values[begins], np.diff(np.append(begins, len(values))))


def _total(owner: Array, latents: Array, amounts: Array | None = None) -> Array:
    """Return how often each latent is named, or the sum of the amounts."""
    return np.bincount(owner, weights=amounts, minlength=len(latents))


def _values(value: Array, edges: Array, n_levels: int) -> tuple[_Runs, pa.Array]:
    """Return the distinct values of each latent, and its quantiles.

    Values with sixteen bits to them, as bfloat16 leaves them, are sorted as whole numbers.
    """
    bits = value.view(np.uint32)
    if np.any(bits & 0xFFFF):
        runs = _runs(value, edges)
    else:
        high = (bits >> 16).astype(np.uint16)
        runs = _runs(np.where(high >> 15, ~high, high | 0x8000), edges)
        high = np.where(runs.value >> 15, runs.value & 0x7FFF, ~runs.value)
        runs = runs._replace(value=(high.astype(np.uint32) << 16).view(np.float32))
    n, shares = np.diff(edges), np.arange(1, n_levels)
    wanted = edges[:-1, None] - (-shares[None, :] * n[:, None] // n_levels) - 1
    at = np.searchsorted(np.cumsum(runs.n), wanted.ravel(), side="right")
    offsets = np.arange(len(n) + 1, dtype=np.int32) * (n_levels - 1)
    return runs, pa.ListArray.from_arrays(offsets, runs.value[at])


def _spread(corpus: Corpus, tile: Array, edges: Array) -> dict[str, Array]:
    """Return in how many tiles and documents each latent fires."""
    falls = tile[1:] < tile[:-1]
    falls[edges[1:-1] - 1] = False
    if falls.any():
        tile = tile[np.lexsort((tile, np.repeat(np.arange(len(edges) - 1), np.diff(edges))))]
    begins = _begins(tile, edges)
    windows = np.diff(np.searchsorted(begins, edges))
    documents = _runs(corpus.document_of[tile[begins]], np.append(0, np.cumsum(windows)))
    return {"n_windows": windows, "n_documents": _total(documents.owner, windows)}


def _begins(values: Array, edges: Array) -> Array:
    """Return where equal values of one latent begin."""
    is_new = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    is_new[edges[:-1]] = True
    return np.flatnonzero(is_new)


def _specials(corpus: Corpus, at: _Runs, latents: Array) -> Array:
    return _total(at.owner, latents, corpus.special[at.value] * at.n).astype(np.int64)


def _listed(corpus: Corpus, runs: dict[str, _Runs], latents: Array, n_top: int) -> pa.Table:
    tables = []
    for side in SIDES:
        best = _best(runs[side], len(corpus.token_ids), len(latents), n_top)
        columns = {
            "latent": latents[best.owner],
            "side": pa.repeat(pa.scalar(side), len(best.owner)),
            "token_id": corpus.token_ids[best.value],
            "n": best.n,
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _best(runs: _Runs, n_codes: int, n_owners: int, n_top: int) -> _Runs:
    """Return the runs of each latent with the largest counts; codes past the last are no token."""
    # Most codes occur once; where others are enough those are not looked at.
    n_more = np.bincount(runs.owner[runs.n > 1], minlength=n_owners)
    is_left = (runs.n > 1) | (n_more <= n_top)[runs.owner]
    runs = _Runs(*(column[is_left] for column in runs))
    rank = runs.n << 32 | (n_codes - runs.value.astype(np.int64))
    rank[runs.value == n_codes] = -1
    edges = np.searchsorted(runs.owner, np.arange(n_owners + 1)).tolist()
    kept = []
    for owner in range(n_owners):
        mine = rank[edges[owner] : edges[owner + 1]]
        if len(mine) > n_top:
            mine.partition(len(mine) - n_top)
            mine = mine[-n_top:]
        kept.append(mine)
    found = np.concatenate(kept) if kept else rank[:0]
    owners = np.repeat(np.arange(n_owners), list(map(len, kept)))
    found, owners = found[found >= 0], owners[found >= 0]
    return _Runs(owners, n_codes - (found & 0xFFFFFFFF), found >> 32)


def _bars(heights: _Runs, latents: Array) -> pa.Table:
    """Return counts by half octave: step k holds sizes from 2^(k/2) to 2^((k+1)/2)."""
    size = np.abs(heights.value.astype(np.float64))
    step = np.clip(np.floor(2 * np.log2(size)), -300, 256).astype(np.int32)
    side = np.sign(heights.value).astype(np.int32)
    key = np.stack([heights.owner, side, step])
    begins = np.flatnonzero(np.append(True, np.any(key[:, 1:] != key[:, :-1], axis=0)))
    if not len(step):
        begins = begins[:0]
    n = np.add.reduceat(heights.n, begins) if len(begins) else heights.n[:0]
    columns = (latents[heights.owner[begins]], side[begins], step[begins], n)
    return pa.table(columns, names=["latent", "side", "step", "n"])


def _placed(part: Array, edges: Array, latents: Array) -> pa.Table:
    runs = _runs(part, edges)
    return pa.table([latents[runs.owner], runs.value, runs.n], names=["latent", "part", "n"])
