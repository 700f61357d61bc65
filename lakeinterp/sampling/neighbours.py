"""Which latents fire together: rows of `neighbours` by co-occurrence, counted in SQL.

For each latent i the others j are ranked by the Jaccard index of the tokens they fire on,
n_ij / (n_i + n_j - n_ij). Work is done range by range of latents against the lists of latents at
each token, so that memory holds the pairs of one range that met and never all pairs.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import captured_sequences, latents_of, neighbours_app, units
from lakeinterp.sampling.session import stamp, unit_key
from lakeinterp.sampling.statistics import with_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.terms import Unit

METHOD = "cooccurrence"
_STATEMENTS = tuple(
    f"neighbours/{name}" for name in ("firing", "together", "gather", "meetings", "nearest")
)
_ROWS_AT_ONCE = 8_000_000
"""Activations whose tokens' lists are made at one time."""
_PAIRS_AT_ONCE = 4_000_000
"""Pairs of latents counted at one time, at most: targets of a range times all latents."""
_MEETINGS_AT_ONCE = 4_000_000
_MEMORY = "1GB"
"""What DuckDB keeps in memory; the rest waits in a temporary folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoOccurrence:
    """What counting one hookpoint came to."""

    n_units: int
    n_new: int
    """Units whose rows were written; the lake held the others."""


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
        with _connected(lake, key) as con:
            gather(con, capture, hookpoint, n_tokens)
            for n_done, unit in enumerate(todo, 1):
                inside = latents_of(lake, unit)
                found = nearest(con, unit, inside, n_latents, n_tokens, config.n_nearest)
                rows = with_constants(found, capture=capture, hookpoint=hookpoint)
                lake.replace(
                    "neighbours",
                    rows,
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
def _connected(lake: Lake, key: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection of little memory, which has a folder for what does not fit."""
    with (
        tempfile.TemporaryDirectory(prefix="lakeinterp-") as folder,
        lake.connect(activations=key) as con,
    ):
        con.execute("SET temp_directory = $folder", {"folder": folder})
        con.execute("SET memory_limit = $limit", {"limit": _MEMORY})
        con.execute("SET preserve_insertion_order = false")
        yield con


def gather(con: duckdb.DuckDBPyConnection, capture: str, hookpoint: str, n_tokens: int) -> None:
    """Make the tables `firing` and `together` of a hookpoint's activations.

    Args:
        con: With a view `activations`.
        capture: Capture id.
        hookpoint: Name.
        n_tokens: Leading tokens that count.
    """
    key = {"capture": capture, "hookpoint": hookpoint}
    queries.load("neighbours/firing").run(con, n_tokens=n_tokens, **key)
    queries.load("neighbours/together").run(con)
    ((n_rows,),) = con.execute("SELECT coalesce(sum(n), 0) FROM firing").fetchall()
    n_ranges = max(1, -(-int(n_rows) // _ROWS_AT_ONCE))
    step = max(1, -(-n_tokens // n_ranges))
    for first in range(0, n_tokens, step):
        stop = min(first + step, n_tokens)
        queries.load("neighbours/gather").run(con, first=first, stop=stop, **key)


def nearest(
    con: duckdb.DuckDBPyConnection, unit: Unit, inside: range, n_latents: int, n_tokens: int,
    n_nearest: int, *, pairs_at_once: int = _PAIRS_AT_ONCE,
) -> pa.Table:  # fmt: skip
    """Return the nearest of each latent of a unit, in columns as `neighbours/nearest` has them.

    Args:
        con: With the tables that `gather` makes.
        unit: Which latents.
        inside: Their numbers.
        n_latents: Of the hookpoint.
        n_tokens: As `gather` was given.
        n_nearest: Neighbours of each.
        pairs_at_once: Pairs counted at one time, at most.
    """
    step = max(1, pairs_at_once // n_latents)
    parts = []
    for first in range(inside.start, inside.stop, step):
        targets = range(first, min(first + step, inside.stop))
        con.register("pairs", _pairs(con, unit, targets, n_latents, n_tokens))
        parts.append(queries.load("neighbours/nearest").table(con, n_nearest=n_nearest))
        con.unregister("pairs")
    return pa.concat_tables(parts)


def _pairs(
    con: duckdb.DuckDBPyConnection, unit: Unit, targets: range, n_latents: int, n_tokens: int
) -> pa.Table:
    """Return the pairs of some targets with any latent that met, and how often.

    DuckDB names the pair at each meeting and numpy adds them up: a group by over as many pairs
    takes more than twice as long.
    """
    counts = np.zeros(len(targets) * n_latents, dtype=np.int64)
    meetings = queries.load("neighbours/meetings").batches(
        con,
        _MEETINGS_AT_ONCE,
        first=targets.start,
        stop=targets.stop,
        n_latents=n_latents,
        n_tokens=n_tokens,
        **unit_key(unit),
    )
    for batch in meetings:
        counts += np.bincount(batch.column("pair").to_numpy(), minlength=len(counts))
    found = np.flatnonzero(counts)
    latent, neighbour = np.divmod(found, n_latents)
    return pa.table(
        {
            "latent": (latent + targets.start).astype(np.int32),
            "neighbour": neighbour.astype(np.int32),
            "n": counts[found],
        }
    )


def _app(unit: Unit) -> str:
    return neighbours_app(unit, METHOD)
