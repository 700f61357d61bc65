"""Whether rows and tables fit the schema: rows are cast to it, what would be misread is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakeinterp.errors import SchemaError
from lakeinterp.lake import schema as schemas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READABLE_FEATURES = {"timestampNtz", "vacuumProtocolCheck", "v2Checkpoint", "domainMetadata"}


def as_table(
    definition: schemas.Table, rows: pa.Table | Sequence[Mapping[str, object]]
) -> pa.Table:
    """Return rows as an Arrow table of exactly the table's schema.

    Raises:
        SchemaError: a column is missing, unknown, or of another type.
    """
    if not isinstance(rows, pa.Table):
        if wrong := {c for row in rows for c in row.keys() ^ set(definition.columns)}:
            raise SchemaError(f"{definition.name}: missing or unknown columns {sorted(wrong)}")
        try:
            return pa.Table.from_pylist([dict(row) for row in rows], schema=definition.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
            raise SchemaError(f"{definition.name}: {exc}") from exc
    if sorted(rows.schema.names) != sorted(definition.columns):
        wrong = set(rows.schema.names) ^ set(definition.columns)
        raise SchemaError(f"{definition.name}: missing or unknown columns {sorted(wrong)}")
    try:
        return rows.select(definition.columns).cast(definition.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise SchemaError(f"{definition.name}: {exc}") from exc


def as_records(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as dictionaries; times are in UTC.

    Arrow's own way to make a `datetime` imports pandas where it is installed: a third of a second.
    """
    columns = {}
    for field in rows.schema:
        column = rows[field.name]
        if pa.types.is_timestamp(field.type):
            counts = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
            columns[field.name] = [
                None if n is None else _EPOCH + timedelta(microseconds=n) for n in counts
            ]
        else:
            columns[field.name] = column.to_pylist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def require_readable(name: str, delta: DeltaTable) -> None:
    """Refuse a table that this version or plain Parquet readers would misread.

    Raises:
        SchemaError: a newer lakeinterp wrote it, or another engine gave it such a feature.
    """
    found = delta.metadata().configuration.get(schemas.VERSION_KEY)
    if found != schemas.VERSION:
        raise SchemaError(
            f"{name}: written in table version {found}, this lakeinterp reads {schemas.VERSION}; "
            "install the lakeinterp that wrote it, or capture into a new lake"
        )
    features = set(delta.protocol().reader_features or ()) - _READABLE_FEATURES
    if features:
        raise SchemaError(
            f"{name}: another engine gave the table {sorted(features)}, which plain Parquet "
            "readers misread; rewrite it without (deletion vectors: REORG TABLE … APPLY (PURGE))"
        )
