"""Files of a lake on a local folder or an object store: whole or not there at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import fsspec
import pyarrow.parquet as pq

from lakeinterp.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file that is there in full and that no commit names yet."""

    path: str
    """Relative to the table's root, with partition folders."""
    partition: dict[str, str]
    n_rows: int
    n_bytes: int
    minimum: dict[str, Any] = field(default_factory=dict)
    """Smallest value of the columns that statistics are kept for."""
    maximum: dict[str, Any] = field(default_factory=dict)


class Store:
    """Where a lake's files are."""

    def __init__(self, root: str, options: Mapping[str, str] | None = None) -> None:
        self.options = dict(options or {})
        self.is_local = "://" not in root or root.startswith("file://")
        self.root = os.path.abspath(root.removeprefix("file://")) if self.is_local else root
        self.fs: Any
        self.fs, self._base = fsspec.url_to_fs(self.root, **self.options)

    def address(self, *parts: str) -> str:
        """Return the full path or URL of something below the root."""
        return "/".join([self.root.rstrip("/"), *parts])

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder at this place."""
        return bool(self.fs.exists("/".join([self._base, *parts])))

    def write_parquet(
        self,
        table_name: str,
        rows: pa.Table,
        *,
        schema: pa.Schema,
        partition: Mapping[str, object],
        name: str,
        statistics: tuple[str, ...] = (),
        **writer: Any,
    ) -> Written:
        """Write rows to `<table>/<partition folders>/<name>.parquet` and return what was written.

        The file appears whole: a local file is renamed into place, an object is put at once.
        An equal file of an earlier, killed run is replaced.

        Args:
            table_name: Folder below the root.
            rows: Columns of `schema` without the partition's, in the same order.
            schema: Full schema of the table.
            partition: Partition column to value, in the order of the folders.
            name: File stem; a pure function of what the file holds.
            statistics: Columns whose smallest and largest value the commit shall carry.
            writer: Passed to `pyarrow.parquet.write_table`.

        Raises:
            SchemaError: the rows' columns or types are not those of the table.
        """
        expected = schema_without(schema, partition)
        if not rows.schema.equals(expected):
            raise SchemaError(
                f"{table_name}: expected columns {_show(expected)}, got {_show(rows.schema)}"
            )
        folders = [f"{k}={quote(str(v), safe='')}" for k, v in partition.items()]
        relative = "/".join([*folders, f"{name}.parquet"])
        n_bytes = self._put("/".join([self._base, table_name, relative]), rows, writer)
        smallest, largest = _extremes(rows, statistics)
        values = {k: str(v) for k, v in partition.items()}
        return Written(relative, values, rows.num_rows, n_bytes, smallest, largest)

    def _put(self, path: str, rows: pa.Table, writer: dict[str, Any]) -> int:
        folder, _, file = path.rpartition("/")
        if not self.is_local:
            with self.fs.open(path, "wb") as sink:
                pq.write_table(rows, sink, **writer)
            return int(self.fs.size(path))
        os.makedirs(folder, exist_ok=True)
        partial = f"{folder}/.{file}.{uuid4().hex[:8]}.partial"
        try:
            pq.write_table(rows, partial, **writer)
            n_bytes = os.path.getsize(partial)
            os.replace(partial, path)
        finally:
            if os.path.exists(partial):
                os.unlink(partial)
        return n_bytes


def schema_without(schema: pa.Schema, partition: Mapping[str, object]) -> pa.Schema:
    """Return the schema of a file: the table's columns that no folder name holds."""
    import pyarrow as pa

    return pa.schema([f for f in schema if f.name not in partition])


def _extremes(rows: pa.Table, columns: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    import pyarrow.compute as pc

    if not rows.num_rows:
        return {}, {}
    found = {c: pc.min_max(rows[c]).as_py() for c in columns}
    return {c: v["min"] for c, v in found.items()}, {c: v["max"] for c, v in found.items()}


def _show(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {f.type}" for f in schema)
