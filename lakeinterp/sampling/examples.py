"""Examples of a unit: drawn, audited, then written as one commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.commits import live_paths
from lakeinterp.lake.fit import as_table
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import examples_app
from lakeinterp.sampling.audit import audit
from lakeinterp.sampling.choice import choose
from lakeinterp.sampling.draws import asked, draw_windows
from lakeinterp.sampling.session import session_for, shown_as, unit_key
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit

_WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": [
        *("sample", "latent", "role", "stratum", "quantile", "population", "weight"),
        *("tokens.list.element", "values.list.element"),
    ],
    "write_statistics": ["sample", "latent"],
    "row_group_size": 4_096,
}
"""How Parquet is written: of `pyarrow.parquet.ParquetWriter`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Examples of one kind that were asked for and that the corpus does not hold."""

    role: str
    stratum: str
    n_latents: int
    """Latents with fewer than asked for."""
    n_missing: int
    """Examples they lack together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnUnit:
    """What the examples of one unit came to."""

    unit: Unit
    sample: str
    n_selected: int
    """Latents chosen by the settings."""
    n_drawn: int
    """Chosen latents that have examples; the others have too few windows."""
    n_examples: int
    shortfalls: tuple[Shortfall, ...]
    is_new: bool
    """Whether rows were written; False if the lake held them already."""


def examples_unit(
    lake: Lake, unit: Unit, config: SamplingConfig, *, session: Session | None = None
) -> DrawnUnit:
    """Draw, audit and write the examples of a unit's chosen latents, or find that they are there.

    An example depends on the settings, the captured tokens and its latent alone, so latents
    chosen later leave those drawn before as they are. Rows of other samples stay, those drawn
    from fewer tokens among them: explanations and scores may have been made from them.

    Args:
        lake: The lake; the statistics of the unit's whole hookpoint must be in it.
        unit: Which latents.
        config: Everything in it decides.
        session: An open one to work in; None opens one for this unit.

    Raises:
        LakeError: the statistics are not there.
        AuditFailed: a drawn row breaks a rule; nothing was written.
        Conflict: other writers won every retry.
    """
    with session_for(lake, unit, config, session) as opened:
        selected = choose(opened, unit)
        if not lake.committed("examples", examples_app(unit, opened.sample)):
            rows = _audited(opened, unit, selected)
            if _publish(opened, unit, rows, selected):
                # What was written is at hand: to read it again takes three times as long.
                with shown_as(opened, "examples", rows.drop_columns(["tokens", "values"])):
                    drawn = _drawn(opened, unit, selected, is_new=True)
                opened.refresh("examples")
                return drawn
            # Another writer was the first, perhaps for other latents.
        opened.refresh("examples")
        is_new = _completed(opened, unit, selected)
        if is_new:
            opened.refresh("examples")
        return _drawn(opened, unit, selected, is_new=is_new)


def _completed(session: Session, unit: Unit, selected: Sequence[int]) -> bool:
    """Write the examples that a sample in the lake lacks; return whether there were any."""
    if not (todo := _missing(session, unit, selected)):
        return False
    rows = _audited(session, unit, todo)
    scope = where(sample=session.sample, **unit_key(unit))
    scope += f" AND latent IN ({', '.join(map(str, todo))})"
    app = examples_app(unit, session.sample)
    session.lake.replace("examples", rows, where=scope, app=app, version=1)
    return True


def _audited(session: Session, unit: Unit, latents: Sequence[int]) -> pa.Table:
    rows = draw(session, unit, latents)
    audit(session, unit, rows)
    return rows


def _publish(session: Session, unit: Unit, rows: pa.Table, latents: Sequence[int]) -> bool:
    """Commit a unit's first rows of a sample, unless another writer has.

    A file of its own costs half of what Delta's writer takes, which first looks for rows to
    replace.
    """
    partition, table = unit_key(unit), TABLES["examples"]
    files = []
    if rows.num_rows:
        file = session.lake.store.write_parquet(
            table.name,
            as_table(table, rows).drop_columns(list(partition)),
            schema=table.schema,
            partition=partition,
            name=f"{session.sample}-{digest(list(latents))}",
            statistics=("sample", "latent"),
            **_WRITER,
        )
        files.append(file)
    app = examples_app(unit, session.sample)
    if session.lake.publish(table.name, files, app=app, version=1):
        return True
    delta = session.lake.table(table.name)
    named = set() if delta is None else live_paths(delta)
    for file in files:
        # The winner's file is this one if it was drawn for the same latents.
        if file.path not in named:
            session.lake.store.remove(table.name, file.path)
    return False


def draw(session: Session, unit: Unit, latents: Sequence[int]) -> pa.Table:
    """Return the examples of some latents of a unit as rows of `examples`, unwritten.

    Latents with fewer than `min_windows` windows get none.
    """
    portions = session.portions(unit, latents) or [[]]
    parts = [draw_windows(session, unit, some) for some in portions]
    rows = pa.concat_tables(parts)
    for name, value in {"sample": session.sample, **unit_key(unit)}.items():
        rows = rows.append_column(name, _repeated(value, rows.num_rows))
    return rows


def _repeated(value: str | int, n: int) -> pa.Array:
    """Return a column of one value; a text is held once."""
    if isinstance(value, int):
        return pa.repeat(pa.scalar(value, pa.int32()), n)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), [value])


def _missing(session: Session, unit: Unit, selected: Sequence[int]) -> list[int]:
    rows = (
        queries.load("sampling/missing")
        .run(
            session.con,
            sample=session.sample,
            latents=selected,
            min_windows=session.config.min_windows,
            **unit_key(unit),
        )
        .fetchall()
    )
    return [latent for (latent,) in rows]


def _drawn(session: Session, unit: Unit, selected: Sequence[int], *, is_new: bool) -> DrawnUnit:
    config = session.config
    values = {"sample": session.sample, "latents": selected, **asked(config), **unit_key(unit)}
    found = queries.load("sampling/summary").table(session.con, **values)
    summary: list[dict[str, Any]] = found.to_pylist()
    return DrawnUnit(
        unit=unit,
        sample=session.sample,
        n_selected=len(selected),
        n_drawn=max((row["n_latents"] for row in summary), default=0),
        n_examples=sum(row["n_examples"] for row in summary),
        shortfalls=tuple(
            Shortfall(
                role=row["role"],
                stratum=row["stratum"],
                n_latents=row["n_short"],
                n_missing=row["n_missing"],
            )
            for row in summary
            if row["n_short"]
        ),
        is_new=is_new,
    )
