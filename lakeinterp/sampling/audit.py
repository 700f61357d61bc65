"""Audits: statements of `sql/audit/` that return the rows that must not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp.errors import AuditFailed
from lakeinterp.lake import queries
from lakeinterp.sampling.checks import COVERED, is_sound
from lakeinterp.sampling.draws import asked
from lakeinterp.sampling.session import session_for, shown_as, unit_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit

_N_SHOWN = 3


def audit_unit(
    lake: Lake, unit: Unit, config: SamplingConfig, *, session: Session | None = None
) -> int:
    """Check the examples that the lake holds of one unit and sample against the lake.

    Args:
        lake: The lake.
        unit: Which latents.
        config: The settings the examples were drawn with.
        session: An open one to work in, opened after the examples were written.

    Returns:
        The number of audits that passed.

    Raises:
        AuditFailed: one did not; the message names it and its first rows.
    """
    with session_for(lake, unit, config, session) as opened:
        return _run(opened, unit, queries.names("audit"))


def audit(session: Session, unit: Unit, rows: pa.Table) -> int:
    """Check rows of `examples` before they are written; as `audit_unit`.

    Rows that `checks.is_sound` is certain of need no statement; the first unit that a crew draws
    is put to all of them nevertheless.

    Raises:
        AuditFailed: an audit found a row; the message names it.
    """
    names = queries.names("audit")
    spared = not session.shared.is_first_audit() and is_sound(session, unit, rows)
    sound = COVERED if spared else frozenset()
    with shown_as(session, "examples", rows):
        _run(session, unit, [name for name in names if name not in sound])
    return len(names)


def offending(session: Session, unit: Unit, name: str) -> pa.Table:
    """Return the rows that one audit finds, none if it passes.

    Args:
        session: An open one; its view of `examples` is what is checked.
        unit: Which latents.
        name: Of the statement, for example `audit/split_overlap`.
    """
    values: dict[str, Any] = {
        **unit_key(unit),
        **session.text,
        **session.config.model_dump(),
        **asked(session.config),
        "sample": session.sample,
    }
    query = queries.load(name)
    return query.table(session.con, **{key: values[key] for key in query.params})


def _run(session: Session, unit: Unit, names: Sequence[str]) -> int:
    for name in names:
        found = offending(session, unit, name)
        if found.num_rows:
            raise AuditFailed(_message(name, unit, found))
    return len(names)


def _message(name: str, unit: Unit, found: pa.Table) -> str:
    rows = [
        ", ".join(f"{key} = {value}" for key, value in row.items())
        for row in found.slice(0, _N_SHOWN).to_pylist()
    ]
    more = f" and {found.num_rows - _N_SHOWN} more" if found.num_rows > _N_SHOWN else ""
    return f"{name}: {unit}: {found.num_rows} rows that must not exist: {'; '.join(rows)}{more}"
