"""Compaction: many files of a table become few, and no row changes.

Safe beside readers, because files that a commit replaces stay until `vacuum`, and beside writers,
because a commit that another one contradicts is made again from what is there. Delta's own
compaction is not used: it forgets how `activations` lie on disk, and two of it at one time both
succeed, which doubles every row.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from lakeinterp.errors import ConfigError, DamagedFile
from lakeinterp.lake import commits, units
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.commits import Live
from lakeinterp.lake.faults import translated
from lakeinterp.lake.merge import Merged, merge
from lakeinterp.lake.store import Written, relative_path, schema_without
from lakeinterp.lake.tables import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lakeinterp.lake.tables import Lake
    from lakeinterp.terms import Unit

    Join = Callable[[Sequence[tuple[str, Any]], str, Sequence[Live]], Merged]
    """From named open files and their statistics to one file at a local path."""

LARGEST_FILE = 2**30
"""Bytes; files are not merged beyond."""
_FAN_IN = 64
"""Files merged in one go; one row group of each is in memory."""
_SMALL = 8 * 2**20
"""Bytes; smaller files are merged whatever stands beside them."""
_GROWTH = 4
"""A file is rewritten only where the merged one is larger by a quarter, so seldom, in the end."""
_REWRITTEN = 256 * 2**20
"""Bytes of a partition that is rewritten in memory, at most."""


class Compacted(NamedTuple):
    """What a compaction did."""

    n_files_before: int
    n_files_after: int
    n_rows: int
    """Rows of `activations` that were rewritten; one written in two passes counts twice."""
    n_bytes_read: int
    n_bytes_written: int


class Progress(Protocol):
    """Called after each unit."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are finished."""
        ...


def compact(
    lake: Lake,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    *,
    largest_file: int = LARGEST_FILE,
    progress: Progress | None = None,
) -> Compacted:
    """Merge the many files that shards and batches left into few.

    Files of `activations` are merged unit by unit, smallest first, with their order, encodings and
    statistics, one commit a merge; a file is rewritten a few times in its life, not each night.
    Other tables are compacted too, unless a capture is named.

    Args:
        lake: The lake.
        capture: Only this capture's activations; None takes all captures and tables.
        hookpoints: Only these hookpoints of it.
        largest_file: Bytes beyond which no file is merged.
        progress: Called after each unit.

    Raises:
        ConfigError: hookpoints without their capture.
        NotFound: no such capture or hookpoint.
        SchemaError: a file is not in the order it should be in.
        DamagedFile: a file is cut off or gone; what was merged before stays.
        StorageError: the disk is full, for example; what was merged before stays.
        Conflict: other writers won every retry.
    """
    if capture is None and hookpoints:
        raise ConfigError("compact: --hookpoints needs --capture")
    before = _count_files(lake)
    todo = _units(lake, capture, hookpoints)
    rows = read = written = 0
    for done, unit in enumerate(todo, start=1):
        for old, new in _grouped(lake, "activations", _key(unit), _merge, largest_file):
            rows += new.n_rows
            read += sum(file.n_bytes for file in old)
            written += new.n_bytes
        if progress:
            progress(done, len(todo), str(unit))
    if capture is None:
        _compact_others(lake, largest_file)
    return Compacted(before, _count_files(lake), rows, read, written)


def _units(lake: Lake, capture: str | None, hookpoints: Sequence[str]) -> list[Unit]:
    if capture is not None:
        return units.units(lake, str(lake.capture(capture)["capture"]), hookpoints)
    names = [str(row["capture"]) for row in lake.rows("captures")]
    return [unit for name in names for unit in units.units(lake, name)]


def _count_files(lake: Lake) -> int:
    return sum(len(lake.files(name)) for name in lake.tables())


def _key(unit: Unit) -> dict[str, Any]:
    return {"capture": unit.capture, "hookpoint": unit.hookpoint, "bucket": unit.bucket}


def group_of(files: Sequence[Live], largest_file: int = LARGEST_FILE) -> list[Live]:
    """Return files of one partition to merge next, the smallest that fit together, or none."""
    ordered = sorted(files, key=lambda file: (file.n_bytes, file.path))
    for first in range(len(ordered)):
        chosen, total = [ordered[first]], ordered[first].n_bytes
        for file in ordered[first + 1 : first + _FAN_IN]:
            if file.n_bytes > max(_SMALL, _GROWTH * total) or total + file.n_bytes > largest_file:
                break
            chosen.append(file)
            total += file.n_bytes
        if len(chosen) > 1:
            return chosen
    return []


# -- tables that are only ever added to ----------------------------------------------------------


def _grouped(
    lake: Lake, name: str, key: dict[str, Any], join: Join, largest_file: int
) -> Iterator[tuple[list[Live], Written]]:
    """Join groups of a partition's files until none is worth it; yield what replaced what."""
    while (delta := lake.table(name)) is not None:
        group = group_of(commits.live_files(delta, **key), largest_file)
        if not group:
            return
        new = _joined(lake, name, key, join, group)
        if _swapped(lake, name, group, new):
            yield group, new


def _joined(
    lake: Lake, name: str, key: dict[str, Any], join: Join, group: Sequence[Live]
) -> Written:
    """Write one file with the rows of a group; no commit names it yet."""
    # A name of its own: a file that readers may have open is never written again.
    relative = relative_path(key, f"merged-{uuid4().hex[:16]}")
    with ExitStack() as opened, lake.store.create(name, relative) as target:
        sources = []
        for file in group:
            address = lake.store.address(name, file.path)
            with translated(address):
                sources.append((address, opened.enter_context(lake.store.open(name, file.path))))
        done = join(sources, target, group)
        counts = [file.n_rows for file in group if file.n_rows is not None]
        if len(counts) == len(group) and done.n_rows != sum(counts):
            raise DamagedFile(
                f"{name}: {', '.join(file.path for file in group)}: {done.n_rows} rows were found "
                f"and the log has {sum(counts)}; put the files back from a copy"
            )
    n_bytes = lake.store.size(name, relative)
    texts = {column: str(value) for column, value in key.items()}
    return Written(relative, texts, done.n_rows, n_bytes, done.minimum, done.maximum)


def _swapped(lake: Lake, name: str, old: Sequence[Live], new: Written) -> bool:
    """Commit a merge; if it cannot be, take its file away."""
    is_done = False
    try:
        is_done = commits.retried(
            name,
            lambda: commits.swap(lake.create(name), name, old=old, new=[new], data_change=False),
        )
    finally:
        if not is_done:
            lake.store.remove(name, new.path)
    return is_done


def _merge(sources: Sequence[tuple[str, Any]], target: str, group: Sequence[Live]) -> Merged:
    """Join files of `activations`: sorted by latent and token."""
    return merge(
        sources,
        target,
        largest_token=max(file.maximum.get("token") or 2**43 for file in group),
        largest_latent=max(file.maximum.get("latent") or 2**20 for file in group),
    )


def _append(sources: Sequence[tuple[str, Any]], target: str, group: Sequence[Live]) -> Merged:
    """Join files of `sequences`: one after the other, by their first sequence."""
    starts = [file.minimum.get("sequence", 0) for file in group]
    first = {address: start for (address, _), start in zip(sources, starts, strict=True)}
    schema = schema_without(schemas.table("sequences").schema, {"corpus": ""})
    n_rows = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for address, file in sorted(sources, key=lambda source: first[source[0]]):
            with translated(address):
                for batch in pq.ParquetFile(file).iter_batches(columns=schema.names):
                    writer.write_batch(batch)
                    n_rows += batch.num_rows
    ends = [file.maximum["sequence"] for file in group if "sequence" in file.maximum]
    if len(ends) < len(group):
        return Merged(n_rows, {}, {})
    return Merged(n_rows, {"sequence": min(starts)}, {"sequence": max(ends)})


# -- tables whose rows are replaced ---------------------------------------------------------------


def _compact_others(lake: Lake, largest_file: int) -> None:
    for name in lake.tables():
        if name == "activations":
            continue
        for key in _partitions(lake, name):
            if name == "sequences":
                for _ in _grouped(lake, name, key, _append, largest_file):
                    pass
            else:
                commits.retried(name, partial(_rewrite, lake, name, key))


def _partitions(lake: Lake, name: str) -> list[dict[str, Any]]:
    """Return the partitions that have more than one file."""
    delta = lake.table(name)
    if delta is None:
        return []
    if not schemas.table(name).partition:
        return [{}] if len(delta.file_uris()) > 1 else []
    held = pa.table(delta.get_add_actions(flatten=True))
    columns = [f"partition.{column}" for column in schemas.table(name).partition]
    counted = held.group_by(columns).aggregate([([], "count_all")]).to_pylist()
    return [
        {column.removeprefix("partition."): row[column] for column in columns}
        for row in counted
        if row["count_all"] > 1
    ]


def _rewrite(lake: Lake, name: str, key: dict[str, Any]) -> None:
    """Write a partition's rows anew as one file, if it is small enough to be held in memory.

    Rows are read from the version that the commit is made against, so that a row that another
    writer replaces meanwhile makes this commit fail, not come back.
    """
    from deltalake import WriterProperties, write_deltalake

    delta = lake.create(name)
    files = commits.live_files(delta, **key)
    if len(files) < 2 or sum(file.n_bytes for file in files) > _REWRITTEN:
        return
    rows = pa.concat_tables(_whole(lake, name, file) for file in files)
    write_deltalake(
        delta,
        rows,
        mode="overwrite",
        predicate=where(**key) if key else "true",
        writer_properties=WriterProperties(compression="ZSTD"),
    )


def _whole(lake: Lake, name: str, file: Live) -> pa.Table:
    """Return all rows of a file, with the columns that its folders hold."""
    definition = schemas.table(name)
    with (
        translated(lake.store.address(name, file.path)),
        lake.store.open(name, file.path) as source,
    ):
        rows = pq.ParquetFile(source).read()
    for column, value in file.partition.items():
        kind = definition.schema.field(column).type
        rows = rows.append_column(column, pa.repeat(pa.scalar(value, kind), rows.num_rows))
    return rows.select(definition.columns).cast(definition.schema)
