"""Files of a lake on a local folder or an object store: whole or not there at all."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import fsspec
import pyarrow.parquet as pq

from lakeinterp.errors import ConfigError, SchemaError
from lakeinterp.lake import remote
from lakeinterp.lake.faults import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa


_SPARE = 2**20
"""Bytes that must be free: Delta's client prints a panic where a disk is full to the last."""


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
    """Where a lake's files are.

    Args:
        root: Folder, or URL of a bucket and a path in it.
        options: Of an object store, as Delta's client names them; the usual environment
            variables count where none is given. See `lakeinterp.lake.remote`.

    Raises:
        ConfigError: the address has an unknown scheme.
        MissingExtra: the package that speaks with this kind of store is not installed.
    """

    def __init__(self, root: str, options: Mapping[str, str] | None = None) -> None:
        self.is_local = "://" not in root or root.startswith("file://")
        self.root = os.path.abspath(root.removeprefix("file://")) if self.is_local else root
        self.fs: Any
        if self.is_local and "%" in self.root:
            raise ConfigError(f"lake: {self.root}: Delta reads % in a path as an escape; rename it")
        if self.is_local:
            self.options: dict[str, str] | None = None
            self.fs, self._base = fsspec.url_to_fs(self.root)
        else:
            self.root = root.rstrip("/")
            self.options = remote.delta_options(self.root, options or {})
            self.fs, self._base = remote.file_system(self.root, options or {})

    def address(self, *parts: str) -> str:
        """Return the full path or URL of something below the root."""
        return "/".join([self.root.rstrip("/"), *parts])

    def path(self, *parts: str) -> str:
        """Return the path of something below the root as the file system takes it."""
        return "/".join([self._base.rstrip("/"), *parts])

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder at this place."""
        with translated(self.address(*parts)):
            return bool(self.fs.exists(self.path(*parts)))

    def require_writable(self) -> None:
        """Find out before a client does that a local place cannot be written to.

        Raises:
            StorageError: it is read-only, full, not permitted, or below a file.
        """
        if not self.is_local:
            return
        place = self.root
        while not os.path.lexists(place):
            place = os.path.dirname(place)
        with translated(self.root):
            if not os.path.isdir(place):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", place)
            disk = os.statvfs(place)
            if not os.access(place, os.W_OK):
                code = errno.EROFS if disk.f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(code, os.strerror(code), place)
            if disk.f_blocks and disk.f_bavail * disk.f_frsize < _SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

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
        An equal file of an earlier, killed run is replaced. `create` writes in pieces.

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
            StorageError: the disk or the object store refuses; nothing is left of the file.
        """
        expected = schema_without(schema, partition)
        if not rows.schema.equals(expected):
            raise SchemaError(
                f"{table_name}: expected columns {_show(expected)}, got {_show(rows.schema)}"
            )
        relative = relative_path(partition, name)
        with self.create(table_name, relative) as target:
            pq.write_table(rows, target, **writer)
        n_bytes = self.size(table_name, relative)
        smallest, largest = _extremes(rows, statistics)
        values = {k: str(v) for k, v in partition.items()}
        return Written(relative, values, rows.num_rows, n_bytes, smallest, largest)

    @contextmanager
    def create(self, table_name: str, relative: str) -> Iterator[str]:
        """Give a local path to write to; what is there at the end becomes the file, at once.

        Nothing is left behind if the block fails.

        Raises:
            StorageError: the disk or the object store refuses.
        """
        final = self.path(table_name, relative)
        folder, _, file = final.rpartition("/")
        with translated(self.address(table_name, relative)):
            folder = folder if self.is_local else tempfile.gettempdir()
            os.makedirs(folder, exist_ok=True)
            partial = f"{folder}/.{file}.{uuid4().hex[:8]}.partial"
            try:
                yield partial
                if self.is_local:
                    os.replace(partial, final)
                else:
                    self.fs.put_file(partial, final)
            finally:
                if os.path.exists(partial):
                    os.unlink(partial)

    def open(self, table_name: str, relative: str) -> Any:
        """Open a file for reading; bytes are fetched as they are asked for."""
        return self.fs.open(self.path(table_name, relative), "rb")

    def age_s(self, table_name: str, relative: str) -> float | None:
        """Return how long ago a file was written by this machine's clock, None if it is gone."""
        with translated(self.address(table_name, relative)):
            try:
                written = self.fs.modified(self.path(table_name, relative))
            except FileNotFoundError:
                return None
            return float(time.time() - written.timestamp())

    def remove(self, table_name: str, relative: str) -> None:
        """Delete a file; one that is gone is no error."""
        with translated(self.address(table_name, relative)):
            try:
                self.fs.rm_file(self.path(table_name, relative))
            except FileNotFoundError:
                return

    def size(self, table_name: str, relative: str) -> int:
        """Return the bytes of a file.

        Raises:
            StorageError: it is not there, or the store refuses.
        """
        with translated(self.address(table_name, relative)):
            return int(self.fs.size(self.path(table_name, relative)))


def relative_path(partition: Mapping[str, object], name: str) -> str:
    """Return a file's path below its table: its partition's folders, quoted, and its name."""
    folders = [f"{k}={quote(str(v), safe='')}" for k, v in partition.items()]
    return "/".join([*folders, f"{name}.parquet"])


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
