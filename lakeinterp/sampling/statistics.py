"""Latent statistics of a unit: rows of the `latents` table, one for every latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import latents_of
from lakeinterp.sampling.session import session_for, stamp, unit_key

if TYPE_CHECKING:
    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of a latent's activations at or below the entries of `latents.quantiles`."""
N_TOP_TOKENS = 10
_STATEMENTS = (
    "sampling/tiles",
    "sampling/bins",
    "sampling/windows",
    "stats/tokens",
    "stats/latents",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUnit:
    """What the statistics of one unit found."""

    unit: Unit
    n_latents: int
    n_ok: int
    n_rare: int
    n_dead: int
    n_dense: int
    is_new: bool
    """Whether rows were written; False if the lake held them already."""


def statistics_unit(
    lake: Lake, unit: Unit, config: SamplingConfig, *, session: Session | None = None
) -> CountedUnit:
    """Write the `latents` rows of a unit, or find that they are there.

    They are there when the newest commit of this unit's rows was made from the same settings,
    the same captured tokens and the same statements.

    Args:
        lake: The lake.
        unit: Which latents.
        config: `window_tokens`, `min_windows` and `dense_above` decide.
        session: An open one to work in; None opens one for this unit.

    Raises:
        NotFound: no such capture.
        LakeError: no such hookpoint in the capture.
        Conflict: other writers won every retry.
    """
    inside = latents_of(lake, unit)
    with session_for(lake, unit, config, session) as opened:
        app = f"latents/{unit}"
        settings = config.model_dump(include={"window_tokens", "min_windows", "dense_above"})
        made_from = stamp(_STATEMENTS, settings, opened.n_sequences, SHARES, N_TOP_TOKENS)
        is_new = lake.committed("latents", app) != made_from
        if is_new:
            rows = _rows(opened, unit, inside)
            lake.replace("latents", rows, where=_mine(unit, inside), app=app, version=made_from)
            opened.refresh("latents")
        return _counted(unit, _statuses(opened, unit, inside), is_new=is_new)


def _rows(session: Session, unit: Unit, inside: range) -> pa.Table:
    config = session.config
    session.tokens()
    session.windows(unit, inside)
    found = queries.load("stats/latents").table(
        session.con,
        first=inside.start,
        stop=inside.stop,
        shares=list(SHARES),
        n_top=N_TOP_TOKENS,
        min_windows=config.min_windows,
        dense_above=config.dense_above,
        **unit_key(unit),
    )
    return with_constants(found, capture=unit.capture, hookpoint=unit.hookpoint)


def with_constants(rows: pa.Table, **values: str | int) -> pa.Table:
    """Return rows with one more column for each value, the same in every row."""
    for name, value in values.items():
        kind = pa.string() if isinstance(value, str) else pa.int32()
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), rows.num_rows))
    return rows


def _mine(unit: Unit, inside: range) -> str:
    key = where(capture=unit.capture, hookpoint=unit.hookpoint)
    return f"{key} AND latent >= {inside.start} AND latent < {inside.stop}"


def _statuses(session: Session, unit: Unit, inside: range) -> pa.Table:
    return queries.load("stats/statuses").table(
        session.con,
        capture=unit.capture,
        hookpoint=unit.hookpoint,
        first=inside.start,
        stop=inside.stop,
    )


def _counted(unit: Unit, statuses: pa.Table, *, is_new: bool) -> CountedUnit:
    n = {row["status"]: row["n"] for row in statuses.to_pylist()}
    return CountedUnit(
        unit=unit,
        n_latents=sum(n.values()),
        n_ok=n.get("ok", 0),
        n_rare=n.get("rare", 0),
        n_dead=n.get("dead", 0),
        n_dense=n.get("dense", 0),
        is_new=is_new,
    )
