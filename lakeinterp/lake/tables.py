"""The lake: Delta tables below one root. Commits, upserts, connections, views."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from lakeinterp.errors import LakeError, NotFound
from lakeinterp.lake import commits, direct
from lakeinterp.lake import connect as connections
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.faults import translated
from lakeinterp.lake.fit import as_records, as_table, require_readable
from lakeinterp.lake.store import Store, Written
from lakeinterp.lake.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable

_ASKED_OFTEN = ("captures", "hookpoints")


class Lake:
    """A folder or object-store URL that holds the tables of `lakeinterp.lake.schema`.

    Opening reads nothing; every method reads the newest version of the tables it needs. What the
    disk, the object store or a damaged file does is raised as `StorageError`, `DamagedFile` or
    `SchemaError`.
    """

    def __init__(self, root: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self.store = Store(str(root), storage_options)
        self.root = self.store.root
        self._local = threading.local()
        self._lock = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._rows: dict[tuple[str, str | None], tuple[int, list[dict[str, Any]]]] = {}
        self._vocabularies: dict[str, Vocabulary] = {}

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    # -- tables -------------------------------------------------------------------------------

    def table(self, name: str) -> DeltaTable | None:
        """Return the Delta table at its newest version, or None if nothing was written yet.

        Raises:
            NotFound: lakeinterp has no table of this name.
            SchemaError: the table was written by a newer lakeinterp, or another engine gave it a
                feature that plain Parquet readers would misread.
        """
        schemas.table(name)
        opened: dict[str, DeltaTable] = self._opened_here()
        with translated(self.store.address(name)):
            if name in opened:
                opened[name].update_incremental()
            elif (found := self._open(name)) is not None:
                opened[name] = found
            else:
                return None
        require_readable(name, opened[name])
        return opened[name]

    def _open(self, name: str) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if self.store.is_local and not self.store.exists(name, "_delta_log"):
            return None
        try:
            return DeltaTable(self.store.address(name), storage_options=self.store.options)
        except TableNotFoundError:
            # The folder of a first commit that a full disk or a kill prevented.
            if not self.store.fs.glob(self.store.path(name, "_delta_log", "*.json")):
                return None
        # Its first commit came between the look and this one.
        return DeltaTable(self.store.address(name), storage_options=self.store.options)

    def _opened_here(self) -> dict[str, DeltaTable]:
        """Return the tables this thread has opened; a Delta table is not shared by threads."""
        if not hasattr(self._local, "opened"):
            self._local.opened = {}
        opened: dict[str, DeltaTable] = self._local.opened
        return opened

    def tables(self) -> list[str]:
        """Return the names of the tables that exist, in the order of the data."""
        return [name for name in schemas.TABLES if self.table(name) is not None]

    def is_there(self) -> bool:
        """Whether any table exists; the first that does is enough."""
        return any(self.table(name) is not None for name in schemas.TABLES)

    def create(self, name: str) -> DeltaTable:
        """Return the table, made empty if it is not there; safe beside other writers."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        self.store.require_writable()
        if (found := self.table(name)) is not None:
            return found
        definition = schemas.table(name)
        with translated(self.store.address(name)):
            try:
                return DeltaTable.create(
                    self.store.address(name),
                    definition.schema,
                    mode="error",
                    partition_by=list(definition.partition) or None,
                    name=name,
                    description=definition.about,
                    configuration=schemas.CONFIGURATION,
                    storage_options=self.store.options,
                    raise_if_key_not_exists=False,
                )
            except DeltaError:
                if (made_by_another := self.table(name)) is not None:
                    return made_by_another
                raise

    def version(self, name: str) -> int:
        """Return the table's version, -1 if it does not exist."""
        delta = self.table(name)
        return -1 if delta is None else int(delta.version())

    def files(self, name: str, where: str | None = None) -> list[str]:
        """Return the Parquet files of a table that may hold rows for which `where` is true."""
        delta = self.table(name)
        if delta is None:
            return []
        with translated(self.store.address(name)):
            uris = list(delta.file_uris(file_pruning_predicate=where))
        # The table's own address comes back as a URL, with %xx for what is no letter.
        root = delta.table_uri.removeprefix("file://").rstrip("/")
        return [uri.replace(root, self.store.address(name), 1) for uri in uris]

    # -- writing ------------------------------------------------------------------------------

    def committed(self, name: str, app: str) -> int:
        """Return the last version recorded under an application id, 0 if there is none."""
        delta = self.table(name)
        return 0 if delta is None else int(delta.transaction_version(app) or 0)

    def publish(
        self, name: str, files: Sequence[Written], *, app: str, version: int, after: int = 0
    ) -> bool:
        """Make files visible all at once, exactly once.

        Args:
            name: Table.
            files: As `Store.write_parquet` returned them.
            app: Application id of this piece of work, for example `capture/ID/shard-00003`.
            version: What `app` will have delivered with this commit, as a growing number.
            after: What it must have delivered before; the files continue from there.

        Returns:
            Whether this call made the commit; False if another version than `after` is recorded,
            because this commit or another writer's was made already.

        Raises:
            Conflict: other writers won every retry.
        """

        def attempt() -> bool:
            delta = self.create(name)
            if (delta.transaction_version(app) or 0) != after:
                return False
            commits.commit(delta, name, [commits.added(f) for f in files], {app: version})
            return True

        return commits.retried(name, attempt)

    def upsert(
        self,
        name: str,
        rows: pa.Table | Sequence[Mapping[str, object]],
        *,
        scope: Mapping[str, str | int],
        spans: Sequence[str] = (),
        app: str | None = None,
        after: int = 0,
    ) -> int:
        """Insert rows, replacing those that share the table's key. Safe beside other writers.

        Args:
            name: Table.
            rows: An Arrow table of the table's schema, or one mapping a row.
            scope: Column to value that all rows share; only files that can hold such rows are read.
            spans: Integer columns the key decides; only files that reach into their range are read.
            app: Application id to record with the commit, at version `after` + 1.
            after: What must be recorded under `app` before; see `publish`.

        Returns:
            The number of rows given; 0 if `app` is not at `after`, and then nothing is written.

        Raises:
            SchemaError: the rows do not fit the table; nothing was written.
            Conflict: other writers won every retry.
        """
        definition = schemas.table(name)
        source = as_table(definition, rows)
        if not source.num_rows:
            return 0
        matches = [f"target.{column} = source.{column}" for column in definition.key]
        matches += [f"target.{column} = {literal(value)}" for column, value in scope.items()]
        matches += [_span(source, column) for column in spans]
        on, stamp = " AND ".join(matches), commits.properties({app: after + 1} if app else {})

        def attempt() -> int:
            delta = self.create(name)
            if app and (delta.transaction_version(app) or 0) != after:
                return 0
            (
                delta.merge(source, on, "source", "target", commit_properties=stamp)
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute()
            )
            return int(source.num_rows)

        return commits.retried(name, attempt)

    def replace(
        self,
        name: str,
        rows: pa.Table | Sequence[Mapping[str, object]],
        *,
        where: str,
        app: str | None = None,
        version: int = 0,
        recorded: Mapping[str, int] | None = None,
    ) -> None:
        """Put rows in the place of all rows for which `where` is true, in one commit.

        Args:
            name: Table.
            rows: An Arrow table of the table's schema, or one mapping a row.
            where: SQL condition; every new row fulfils it.
            app: Application id to record with the commit; `committed` reads it back.
            version: Any number that says what the rows were made from, recorded under `app`.
            recorded: More application ids and their versions, for rows of several pieces of work.

        Raises:
            SchemaError: the rows do not fit the table; nothing was written.
            Conflict: other writers won every retry.
        """
        from deltalake import write_deltalake

        source = as_table(schemas.table(name), rows)
        apps = {**({app: version} if app else {}), **(recorded or {})}
        stamp = commits.properties(apps)

        def attempt() -> None:
            table = self.create(name)
            write_deltalake(
                table, source, mode="overwrite", predicate=where, commit_properties=stamp
            )

        commits.retried(name, attempt)

    # -- reading ------------------------------------------------------------------------------

    def connect(self, **where: str) -> duckdb.DuckDBPyConnection:
        """Return an in-memory DuckDB connection with a view of every table and all macros.

        Args:
            where: Table name to a SQL condition that prunes its files, for example
                `activations="capture = 'a' AND bucket = 3"`. Rows are not filtered, files are.
        """
        return connections.connect(self, where)

    def reader(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection to the database that this lake keeps for small reads."""
        with self._lock:
            if self._database is None:
                self._database = connections.database(self)
            return self._database.cursor()

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run one read-only statement over the tables and return DuckDB's relation.

        Raises:
            QueryError: the statement writes, reads files by itself, or does not run.
        """
        return connections.read_only(self, query)

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table as a Polars LazyFrame; an empty one if nothing was written yet."""
        import polars as pl

        empty = pl.from_arrow(schemas.table(name).schema.empty_table())
        assert isinstance(empty, pl.DataFrame)
        if not (files := self.files(name)):
            return empty.lazy()
        hive = {column: empty.schema[column] for column in schemas.table(name).partition}
        return pl.scan_parquet(
            files,
            hive_schema=hive or None,
            hive_partitioning=bool(hive),
            glob=False,
            storage_options=self.store.options,
        ).select(empty.columns)

    def rows(self, name: str, where: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of a small table that fulfil a SQL condition, as dictionaries.

        Rows of `captures` and `hookpoints`, which every step asks for again and again, are read
        once a version of the table.
        """
        if name not in _ASKED_OFTEN:
            return self._read(name, where)
        version = self.version(name)
        if self._rows.get((name, where), (None,))[0] != version:
            self._rows[name, where] = version, self._read(name, where)
        return [dict(row) for row in self._rows[name, where][1]]

    def _read(self, name: str, where: str | None) -> list[dict[str, Any]]:
        definition = schemas.table(name)
        if where is None:
            by_key = [(column, "ascending") for column in definition.key]
            return as_records(direct.read(self, name, {}).sort_by(by_key))
        query = f"SELECT * FROM {name} WHERE {where} ORDER BY {', '.join(definition.key)}"
        with (
            translated(self.store.address(name)),
            connections.reading(self, [name], {name: where}) as con,
        ):
            return as_records(con.sql(query).to_arrow_table())

    def one(self, name: str, where: str) -> dict[str, Any]:
        """Return the one row that fulfils a SQL condition.

        Raises:
            LakeError: there is none, or more than one.
        """
        found = self.rows(name, where)
        if len(found) != 1:
            raise LakeError(f"{name}: {len(found)} rows where {where}, expected one")
        return found[0]

    def capture(self, name: str | None = None) -> dict[str, Any]:
        """Return a capture's row; without a name the only one there is.

        Raises:
            NotFound: no such capture, or a name is needed because there are several.
        """
        rows = {str(row["capture"]): row for row in self.rows("captures")}
        if name is None and len(rows) == 1:
            return next(iter(rows.values()))
        if name is None or name not in rows:
            hint = "" if rows else f"the lake {self.root} is empty: run `lakeinterp capture` first"
            raise NotFound("capture", name or "(none given)", rows, hint)
        return rows[name]

    def vocabulary(self, tokenizer: str) -> Vocabulary:
        """Return the vocabulary of a tokenizer, by its digest; read once.

        Raises:
            NotFound: the lake does not hold it.
        """
        if (known := self._vocabularies.get(tokenizer)) is not None:
            return known
        columns = ("token_id", "bytes", "special")
        rows = direct.read(self, "vocabulary", {"tokenizer": [tokenizer]}, columns)
        if not rows.num_rows:
            raise NotFound("tokenizer", tokenizer, hint="its vocabulary is not in the lake")
        found = self._vocabularies[tokenizer] = Vocabulary.of(tokenizer, rows)
        return found


def literal(value: str | int) -> str:
    """Return a value as a SQL literal; for Delta predicates, which take no parameters."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _span(rows: pa.Table, column: str) -> str:
    """Return the condition that the table's column lies in the range it has in some rows."""
    found = pc.min_max(rows[column]).as_py()
    return f"target.{column} >= {int(found['min'])} AND target.{column} <= {int(found['max'])}"


def where(**values: str | int) -> str:
    """Return `column = literal AND …`."""
    return " AND ".join(f"{column} = {literal(value)}" for column, value in values.items())
