"""SQL files as programs: one statement a file, loaded by name, values bound as `$name`.

A file's header is its contract: name, what it does, parameters, result columns and grain.
Tests compare the header with the statement. Nothing here imports duckdb.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import NotFound, QueryError
from lakeinterp.lake.faults import query_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa

_PACKAGE = Path(__file__).parents[1]
ROOT = next(p for p in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if p.is_dir())
"""Inside the wheel, or beside the package in a checkout."""

_FIELD = re.compile(r"^-- (name|param|column|grain):\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL file."""

    name: str
    """Path below `sql/` without the suffix, for example `sampling/draw`."""
    sql: str
    about: str = ""
    params: dict[str, str] = field(default_factory=dict)
    """Type of each parameter, by name."""
    columns: dict[str, str] = field(default_factory=dict)
    """Type of each result column, in order."""
    grain: tuple[str, ...] = ()
    """No two result rows share these columns."""

    def run(
        self,
        con: duckdb.DuckDBPyConnection,
        **values: Any,
    ) -> duckdb.DuckDBPyConnection:
        """Execute with the values bound.

        Raises:
            QueryError: a parameter is missing or surplus, or DuckDB refuses the statement.
            DamagedFile: a file of the lake is cut off or gone.
        """
        import duckdb

        self._check(values)
        try:
            return con.execute(self.sql, values)
        except duckdb.Error as exc:
            raise query_error(exc, f"sql/{self.name}.sql") from exc

    def table(
        self,
        con: duckdb.DuckDBPyConnection,
        **values: Any,
    ) -> pa.Table:
        """Run a SELECT and return its result as an Arrow table.

        Raises:
            QueryError: as `run`.
        """
        import duckdb

        self._check(values)
        try:
            return con.sql(self.sql, params=values).to_arrow_table()
        except duckdb.Error as exc:
            raise query_error(exc, f"sql/{self.name}.sql") from exc

    def batches(
        self,
        con: duckdb.DuckDBPyConnection,
        n_rows: int,
        **values: Any,
    ) -> Iterator[pa.RecordBatch]:
        """Run a SELECT and yield its result in record batches of about `n_rows`.

        Raises:
            QueryError: as `run`.
        """
        import duckdb

        self._check(values)
        try:
            yield from con.sql(self.sql, params=values).to_arrow_reader(n_rows)
        except duckdb.Error as exc:
            raise query_error(exc, f"sql/{self.name}.sql") from exc

    def _check(self, values: dict[str, Any]) -> None:
        if values.keys() != self.params.keys():
            wanted, got = sorted(self.params), sorted(values)
            raise QueryError(f"sql/{self.name}.sql: takes {wanted}, was given {got}")


@cache
def load(name: str) -> Query:
    """Load a query by name.

    Raises:
        NotFound: there is no such file; the message lists those there are.
    """
    return parse(name, text(name))


@cache
def text(name: str) -> str:
    """Return what a query's file holds.

    Raises:
        NotFound: there is no such file; the message lists those there are.
    """
    try:
        with open(f"{ROOT}/{name}.sql", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound("query", name, names()) from None


def names(folder: str = "") -> list[str]:
    """Return the names of all queries below a folder of `sql/`, sorted."""
    found = glob.glob(f"{folder}/**/*.sql" if folder else "**/*.sql", root_dir=ROOT, recursive=True)
    return sorted(Path(path).with_suffix("").as_posix() for path in found)


def parse(name: str, text: str) -> Query:
    """Read the header of a SQL file.

    Raises:
        QueryError: the `name:` line is not the file's own name.
    """
    about: list[str] = []
    fields: dict[str, list[str]] = {"name": [], "param": [], "column": [], "grain": []}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _FIELD.match(line):
            fields[match[1]].append(match[2].strip())
        else:
            about.append(line.removeprefix("--").strip())
    if fields["name"] != [name]:
        raise QueryError(f"sql/{name}.sql: the header must begin with '-- name: {name}'")
    return Query(
        name=name,
        sql=text,
        about=" ".join(about).strip(),
        params=_typed(fields["param"]),
        columns=_typed(fields["column"]),
        grain=tuple(g.strip() for line in fields["grain"] for g in line.split(",")),
    )


def _typed(lines: list[str]) -> dict[str, str]:
    """Split `name TYPE   remark` lines; the remark is set off by two spaces."""
    typed = {}
    for line in lines:
        name, _, rest = line.partition(" ")
        typed[name] = re.split(r"\s{2,}", rest.strip())[0]
    return typed
