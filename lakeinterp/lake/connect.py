"""DuckDB connections over a lake: a view of every table, the macros of `sql/macros`."""

from __future__ import annotations

import re
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

_EXPLAIN = re.compile(r"^\s*EXPLAIN(\s+ANALYZE)?(\s*\([^()]*\))?", re.IGNORECASE)
_PARAMETER = re.compile(r"\$\w+|\?")
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
    con = database(lake)
    lock(con, lake)
    require_reading(con, query)
    show(con, lake, query)
    try:
        return con.sql(query)
    except duckdb.Error as exc:
        raise query_error(exc) from exc


def show(con: duckdb.DuckDBPyConnection, lake: Lake, query: str) -> None:
    """Give a new connection all macros and a view of every table, for one statement.

    Only the tables that the statement names are looked up in the lake: listing the files of
    one can take longer than the statement. The others have their columns and refuse to be read.
    """
    for definition in schemas.TABLES.values():
        columns = ", ".join(f'"{c}" {t}' for c, t in _types(definition).items())
        con.execute(f"CREATE TABLE {definition.name} ({columns})")
    for name in queries.names("macros"):
        queries.load(name).run(con)
    try:
        named = {name.lower() for name in con.get_table_names(_PARAMETER.sub("NULL", query))}
    except duckdb.Error:  # what is wrong with it is told when it runs
        named = set(schemas.TABLES)
    for name, definition in schemas.TABLES.items():
        con.execute(f"DROP TABLE {name}")
        con.execute(_view(definition, lake.files(name)) if name in named else _unread(definition))


def require_reading(con: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """Return the one statement that a text holds.

    Raises:
        QueryError: it holds none, several, or one that does more than read.
    """
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as exc:
        raise query_error(exc) from exc
    if len(statements) != 1:
        raise QueryError(f"give one statement, not {len(statements)}")
    kinds = [statements[0].type]
    if kinds[0] == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, which may be a COPY into the lake.
        kinds += _explained(con, statements[0].query)
    if refused := [kind.name for kind in kinds if kind not in _READING]:
        raise QueryError(f"the lake is read-only here: {refused[0]} is refused, SELECT is not")
    return statements[0]


def _explained(con: duckdb.DuckDBPyConnection, query: str) -> list[duckdb.StatementType]:
    """Return the kinds of the statements that an EXPLAIN is about.

    Raises:
        QueryError: they are not found, for example behind a comment.
    """
    explained, n_found = _EXPLAIN.subn("", query, count=1)
    try:
        kinds = [found.type for found in con.extract_statements(explained)]
    except duckdb.Error:
        kinds = []
    if not n_found or not kinds or duckdb.StatementType.EXPLAIN in kinds:
        raise QueryError("EXPLAIN: write EXPLAIN or EXPLAIN ANALYZE before one SELECT")
    return kinds


def lock(con: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Leave the connection no file but the lake's, no extension and no way back."""
    con.execute("SET allowed_directories = [$root]", {"root": f"{lake.root}/"})
    con.execute("SET enable_external_access = false")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    con.execute("SET lock_configuration = true")


def _view(definition: schemas.Table, files: list[str], *, kind: str = "VIEW") -> str:
    """Return the statement that makes a table's view; empty tables keep their columns."""
    types = _types(definition)
    if not files:
        return f"CREATE OR REPLACE {kind} {definition.name} AS SELECT {_nulls(types)} WHERE false"
    listed = ", ".join("'" + _local(f).replace("'", "''") + "'" for f in files)
    hive = ", ".join(f"'{c}': {types[c]}" for c in definition.partition)
    options = f", hive_partitioning = true, hive_types = {{{hive}}}" if hive else ""
    columns = ", ".join(f'"{c}"' for c in types)
    source = f"read_parquet([{listed}]{options})"
    return f"CREATE OR REPLACE {kind} {definition.name} AS SELECT {columns} FROM {source}"


def _unread(definition: schemas.Table) -> str:
    said = f"the statement reads {definition.name} without naming it; write its name"
    nulls = _nulls(_types(definition))
    return f"CREATE VIEW {definition.name} AS SELECT {nulls} WHERE error('{said}')"


def _nulls(types: Mapping[str, str]) -> str:
    return ", ".join(f'CAST(NULL AS {t}) AS "{c}"' for c, t in types.items())


def _types(definition: schemas.Table) -> dict[str, str]:
    return {f.name: _duckdb_type(f.type) for f in definition.schema}


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
