"""DuckDB connections over a lake: a view of every table, the macros of `sql/macros`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from lakeinterp.errors import QueryError
from lakeinterp.lake import queries
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.faults import query_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from lakeinterp.lake.tables import Lake

_READING = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.RELATION,
}


def connect(lake: Lake, where: Mapping[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection with a view of every table; see `Lake.connect`."""
    con = connect_to(lake, schemas.TABLES, where or {})
    for name in queries.names("macros"):
        queries.load(name).run(con)
    return con


def connect_to(
    lake: Lake, tables: Iterable[str], where: Mapping[str, str]
) -> duckdb.DuckDBPyConnection:
    """Return a connection with a view of these tables alone and no macros."""
    con = database(lake)
    for name in tables:
        con.execute(_view(schemas.table(name), lake.files(name, where.get(name))))
    return con


def database(lake: Lake) -> duckdb.DuckDBPyConnection:
    """Return a connection to a new database that can reach the lake's files; it takes 10 ms."""
    con = duckdb.connect()
    con.execute("SET enable_progress_bar = false")
    con.execute("SET TimeZone = 'UTC'")
    if not lake.store.is_local:
        con.register_filesystem(lake.store.fs)
    return con


@contextmanager
def reading(
    lake: Lake, tables: Iterable[str], where: Mapping[str, str]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection as `connect_to` does, to the database that the lake keeps for small reads.

    Its views are its own and go with it; settings of the database are not to be changed.
    """
    with lake.reader() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name in tables:
            view = _view(schemas.table(name), lake.files(name, where.get(name)), kind="TEMP VIEW")
            con.execute(view)
        yield con


def refresh(con: duckdb.DuckDBPyConnection, lake: Lake, name: str, where: str | None) -> None:
    """Let a connection's view of a table show the table's newest version."""
    con.execute(_view(schemas.table(name), lake.files(name, where)))


def read_only(lake: Lake, query: str) -> duckdb.DuckDBPyRelation:
    """Run one statement that can only read the lake's own files; see `Lake.sql`."""
    con = connect(lake)
    lock(con, lake)
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as exc:
        raise query_error(exc) from exc
    if len(statements) != 1:
        raise QueryError(f"give one statement, not {len(statements)}")
    if statements[0].type not in _READING:
        kind = statements[0].type.name
        raise QueryError(f"the lake is read-only here: {kind} is refused, SELECT is not")
    try:
        return con.sql(query)
    except duckdb.Error as exc:
        raise query_error(exc) from exc


def lock(con: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Leave the connection no file but the lake's, no extension and no way back."""
    con.execute("SET allowed_directories = [$root]", {"root": f"{lake.root}/"})
    con.execute("SET enable_external_access = false")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    con.execute("SET lock_configuration = true")


def _view(definition: schemas.Table, files: list[str], *, kind: str = "VIEW") -> str:
    """Return the statement that makes a table's view; empty tables keep their columns."""
    types = {f.name: _duckdb_type(f.type) for f in definition.schema}
    if not files:
        columns = ", ".join(f'CAST(NULL AS {t}) AS "{c}"' for c, t in types.items())
        return f"CREATE OR REPLACE {kind} {definition.name} AS SELECT {columns} WHERE false"
    listed = ", ".join("'" + _local(f).replace("'", "''") + "'" for f in files)
    hive = ", ".join(f"'{c}': {types[c]}" for c in definition.partition)
    options = f", hive_partitioning = true, hive_types = {{{hive}}}" if hive else ""
    columns = ", ".join(f'"{c}"' for c in types)
    source = f"read_parquet([{listed}]{options})"
    return f"CREATE OR REPLACE {kind} {definition.name} AS SELECT {columns} FROM {source}"


def _local(uri: str) -> str:
    return uri.removeprefix("file://")


def _duckdb_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _duckdb_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{f.name}" {_duckdb_type(f.type)}' for f in kind)
        return f"STRUCT({fields})"
    return _SCALARS[str(kind)]


_SCALARS = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "bool": "BOOLEAN",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
}
