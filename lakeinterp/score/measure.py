"""From judgements to rows of `scores`: SQL statements, one after the other on one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.lake import queries
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    import pyarrow as pa

STEPS = ("score/correlations", "score/shares", "score/contrasts", "score/curves", "score/means")
"""What is made of `score/items` for every scorer's metrics to use."""
AT_ONCE = 1000
"""Latents whose items are in memory at one time; an item takes about 1 KB."""


def measure(
    con: duckdb.DuckDBPyConnection,
    metrics: str,
    who: Mapping[str, str],
    *,
    latents: Sequence[int] | None,
    pooled: bool,
    run: str,
    max_failed: float = 0.02,
    is_natural: bool = True,
    is_sequential: bool = False,
) -> pa.Table:
    """Return the rows of `scores` that are new or changed.

    Args:
        con: Sees `judgements`, `explanations` and `scores` of the hookpoint, and the macros.
        metrics: Name of the statement that computes the metrics, as `score/metrics` does; where it
            also gives a null_value or a p_value, those stand.
        who: Capture, hookpoint, scorer and settings.
        latents: Which latents' items; None takes all that are seen.
        pooled: Whether to rank every score in the null of all the latents given.
        run: Written to the rows.
        max_failed: A score of which more than this share of the items failed is marked.
        is_natural: Whether the items speak for windows of the corpus.
        is_sequential: Whether judging stopped where an interval was narrow enough.
    """
    import pyarrow as pa

    modes = {"is_natural": is_natural, "is_sequential": is_sequential}
    measured, failed = [], []
    chosen = _judged(con, who) if latents is None else list(latents)
    for i in range(0, len(chosen) or 1, AT_ONCE):
        part = chosen[i : i + AT_ONCE]
        queries.load("score/items").run(con, **who, **modes, latents=part)
        for name in STEPS:
            queries.load(name).run(con)
        measured.append(_with_nulls(queries.load(metrics).table(con)))
        failed.append(queries.load("score/failures").table(con))
    made = {"pooled": pooled, "max_failed": max_failed, "run": run, "created_at": now()}
    con.register("measured", pa.concat_tables(measured))
    con.register("failed", pa.concat_tables(failed))
    rows = queries.load("score/scores").table(con, **who, **made)
    con.unregister("measured")
    con.unregister("failed")
    return rows


def _judged(con: duckdb.DuckDBPyConnection, who: Mapping[str, str]) -> list[int]:
    rows = queries.load("score/judged_latents").run(con, **who).fetchall()
    return [latent for (latent,) in rows]


def _with_nulls(measured: pa.Table) -> pa.Table:
    """Add the columns that most scorers leave to their borrowed explanations."""
    import pyarrow as pa

    for name in ("null_value", "p_value"):
        if name not in measured.column_names:
            measured = measured.append_column(name, pa.nulls(len(measured), pa.float64()))
    return measured
