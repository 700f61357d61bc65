"""Which latents fire together: rows of `neighbours` by co-occurrence.

For each latent i the others j are ranked by the Jaccard index of the tokens they fire on,
n_ij / (n_i + n_j - n_ij). SQL reads the activations; the latents of each token are laid out once,
token behind token, and the counts of a latent are those of all latents at its own tokens. Counts
of one latent are in memory at a time, so that no array has a cell for every pair.

Shapes: L latents of the hookpoint, T captured tokens, S slots of a piece, P pieces.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import captured_sequences, latents_of, neighbours_app, units
from lakeinterp.sampling.session import stamp, unit_key
from lakeinterp.sampling.statistics import with_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import duckdb
    import numpy.typing as npt

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.terms import Unit

    Ints = npt.NDArray[Any]

METHOD = "cooccurrence"
_STATEMENTS = ("neighbours/firing", "neighbours/busy", "neighbours/fired")
_SLOTS = 16
"""Latents of a token are copied in pieces of so many: many at once, few of them empty."""
_SLOTS_AT_ONCE = 2**18
"""What is copied and counted in one go; it stays in a core's own cache."""
_ROWS_AT_ONCE = 8_000_000
"""Activations in memory at one time, at most, unless one latent has more."""
_MEMORY = "1GB"
"""What DuckDB keeps in memory; the rest waits in a temporary folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoOccurrence:
    """What counting one hookpoint came to."""

    n_units: int
    n_new: int
    """Units whose rows were written; the lake held the others."""


@dataclass(frozen=True, slots=True)
class Together:
    """The latents that fire at each token of a hookpoint."""

    firing_L: Ints
    """Tokens on which each latent fires."""
    first_T1: Ints
    """The first piece of each token, and behind it the number of pieces; [T + 1]."""
    pieces_PS: Ints
    """Latents; L where a token has no more. In a file that memory shows a part of."""

    @property
    def tokens_at_once(self) -> int:
        """Tokens whose latents are counted in one go."""
        n_pieces, n_tokens = len(self.pieces_PS), len(self.first_T1) - 1
        return max(1, _SLOTS_AT_ONCE // _SLOTS * n_tokens // max(n_pieces, 1))


def cooccurrence(
    lake: Lake,
    capture: str,
    hookpoint: str,
    config: SamplingConfig,
    *,
    progress: Callable[[Unit, int, int], None] | None = None,
) -> CoOccurrence:
    """Write the nearest latents of every latent of a hookpoint, or find that they are there.

    They are there when the newest commit of a unit's rows was made from as many captured tokens,
    the same `n_nearest` and the same statements. Latents that fire with no other get no row.

    Args:
        lake: The lake.
        capture: Capture id.
        hookpoint: Which coder's latents.
        config: `n_nearest` decides.
        progress: Called after each unit that was counted with the unit, how many are done and
            how many there are to do.

    Raises:
        NotFound: no such capture or hookpoint.
        Conflict: other writers won every retry.
    """
    n_tokens = captured_sequences(lake, capture) * lake.capture(capture)["context_tokens"]
    made_from = stamp(_STATEMENTS, n_tokens, config.n_nearest)
    found = units(lake, capture, [hookpoint])
    todo = [u for u in found if lake.committed("neighbours", _app(u)) != made_from]
    if todo:
        key = where(capture=capture, hookpoint=hookpoint)
        n_latents = int(lake.one("hookpoints", key)["n_latents"])
        every = [(u, latents_of(lake, u)) for u in found]
        with _connected(lake, key) as (con, folder):
            together = gather(con, every, n_latents, n_tokens, folder / "latents")
            for n_done, unit in enumerate(todo, 1):
                inside = latents_of(lake, unit)
                rows = nearest(con, together, unit, inside, config.n_nearest)
                lake.replace(
                    "neighbours",
                    with_constants(rows, capture=capture, hookpoint=hookpoint, method=METHOD),
                    where=f"{key} AND method = '{METHOD}' "
                    f"AND latent >= {inside.start} AND latent < {inside.stop}",
                    app=_app(unit),
                    version=made_from,
                )
                if progress:
                    progress(unit, n_done, len(todo))
    return CoOccurrence(n_units=len(found), n_new=len(todo))


def prepare(
    lake: Lake,
    capture: str,
    hookpoint: str,
    config: SamplingConfig,
    *,
    progress: Callable[[Unit, int, int], None] | None = None,
) -> None:
    """Write what the draws of a hookpoint need to know of co-occurrence; as `cooccurrence`.

    Nothing is done unless windows of neighbours by co-occurrence are asked for.
    """
    if METHOD in config.methods_needed:
        cooccurrence(lake, capture, hookpoint, config, progress=progress)


@contextmanager
def _connected(lake: Lake, key: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Yield a connection of little memory, and the folder for what does not fit."""
    with (
        tempfile.TemporaryDirectory(prefix="lakeinterp-") as folder,
        lake.connect(activations=key) as con,
    ):
        con.execute("SET temp_directory = $folder", {"folder": folder})
        con.execute("SET memory_limit = $limit", {"limit": _MEMORY})
        con.execute("SET preserve_insertion_order = false")
        yield con, Path(folder)


def gather(
    con: duckdb.DuckDBPyConnection,
    units: Sequence[tuple[Unit, range]],
    n_latents: int,
    n_tokens: int,
    path: Path,
) -> Together:
    """Lay out which latents of a hookpoint fire at each token.

    Args:
        con: With a view `activations`.
        units: All of the hookpoint, with their latents.
        n_latents: Of the hookpoint.
        n_tokens: Leading tokens that count.
        path: A file to make, of 2 or 4 bytes a slot.
    """
    unit = units[0][0]
    key = {"capture": unit.capture, "hookpoint": unit.hookpoint, "n_tokens": n_tokens}
    firing_L = _counted(con, "neighbours/firing", "latent", n_latents, key)
    busy_T = _counted(con, "neighbours/busy", "token", n_tokens, key)
    first_T1 = np.concatenate([[0], np.cumsum(-(-busy_T // _SLOTS))])
    kind = np.uint16 if n_latents < 2**16 else np.uint32
    shape = (max(int(first_T1[-1]), 1), _SLOTS)
    pieces_PS: Ints = np.memmap(path, dtype=kind, mode="w+", shape=shape)
    pieces_PS[:] = n_latents
    slots = pieces_PS.reshape(-1)
    free_T = first_T1[:-1] * _SLOTS
    together = Together(firing_L, first_T1, pieces_PS)
    for unit, inside in units:
        for latent, tokens in _tokens(con, together, unit, inside):
            at = free_T[tokens]
            slots[at] = latent
            free_T[tokens] = at + 1
    return together


def _counted(
    con: duckdb.DuckDBPyConnection, name: str, column: str, size: int, key: dict[str, Any]
) -> Ints:
    """Return the column `n` of a statement at the places that another column says."""
    counts = np.zeros(size, dtype=np.int64)
    for batch in queries.load(name).batches(con, _ROWS_AT_ONCE, **key):
        counts[batch.column(column).to_numpy()] = batch.column("n").to_numpy()
    return counts


def _tokens(
    con: duckdb.DuckDBPyConnection, together: Together, unit: Unit, inside: range
) -> Iterator[tuple[int, Ints]]:
    """Yield each latent of a unit that fires, with its tokens."""
    n_tokens = len(together.first_T1) - 1
    ahead = np.cumsum(together.firing_L[inside.start : inside.stop])
    edges = np.flatnonzero(np.diff(ahead // _ROWS_AT_ONCE)) + 1
    for some in np.split(np.arange(inside.start, inside.stop), edges):
        rows = queries.load("neighbours/fired").table(
            con, first=int(some[0]), last=int(some[-1]), n_tokens=n_tokens, **unit_key(unit)
        )
        place = (rows["latent"].to_numpy() - some[0]).astype(np.min_scalar_type(len(some)))
        token = rows["token"].to_numpy()[np.argsort(place, kind="stable")]
        n_fired = together.firing_L[some]
        for latent, tokens in zip(some, np.split(token, np.cumsum(n_fired)[:-1]), strict=True):
            if len(tokens):
                yield int(latent), tokens


def nearest(
    con: duckdb.DuckDBPyConnection, together: Together, unit: Unit, inside: range, n_nearest: int
) -> pa.Table:
    """Return the nearest of each latent of a unit that fires together with another.

    Args:
        con: With a view `activations`.
        together: What `gather` returned.
        unit: Which latents.
        inside: Their numbers.
        n_nearest: Neighbours of each.

    Returns:
        Columns latent, rank (1 is the nearest), neighbour and similarity, by latent and rank; of
        equally near ones the lower comes first.
    """
    parts = []
    for latent, tokens in _tokens(con, together, unit, inside):
        neighbour, similarity = _ranked(together, latent, _met(together, tokens), n_nearest)
        n = len(neighbour)
        parts.append((np.full(n, latent), np.arange(1, n + 1), neighbour, similarity))
    columns = zip(*parts, strict=True) if parts else ([np.empty(0)] for _ in range(4))
    latents, ranks, neighbours, similarities = (np.concatenate(column) for column in columns)
    return pa.table(
        {
            "latent": latents.astype(np.int32),
            "rank": ranks.astype(np.int32),
            "neighbour": neighbours.astype(np.int32),
            "similarity": similarities.astype(np.float64),
        }
    )


def _met(together: Together, tokens: Ints) -> Ints:
    """Return on how many of some tokens each latent fires, shape [L]."""
    n_latents = len(together.firing_L)
    counts = np.zeros(n_latents + 1, dtype=np.int64)
    step = together.tokens_at_once
    for start in range(0, len(tokens), step):
        first = together.first_T1[tokens[start : start + step]]
        n = together.first_T1[tokens[start : start + step] + 1] - first
        ends = np.cumsum(n)
        pieces = np.arange(ends[-1]) + np.repeat(first - (ends - n), n)
        here = together.pieces_PS.take(pieces, axis=0).ravel()
        counts += np.bincount(here, minlength=n_latents + 1)
    return counts[:n_latents]


def _ranked(together: Together, latent: int, met_L: Ints, n_nearest: int) -> tuple[Ints, Ints]:
    """Return the nearest of a latent and their Jaccard indices, the nearest first."""
    met_L[latent] = 0
    other = np.flatnonzero(met_L)
    both = met_L[other]
    similarity = both / (together.firing_L[latent] + together.firing_L[other] - both)
    if len(other) > n_nearest:
        lowest = np.partition(similarity, len(other) - n_nearest)[len(other) - n_nearest]
        is_near = similarity >= lowest
        other, similarity = other[is_near], similarity[is_near]
    order = np.lexsort((other, -similarity))[:n_nearest]
    return other[order], similarity[order]


def _app(unit: Unit) -> str:
    return neighbours_app(unit, METHOD)
