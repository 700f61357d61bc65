"""A few rows straight from a table's files: making a DuckDB database takes longer than that."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakeinterp.lake import schema as schemas
from lakeinterp.lake.faults import translated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lakeinterp.lake.tables import Lake

    Held = Mapping[str, Collection[Any]]

_FEW = 4
"""Files that are opened without a look at their statistics in the log, on a local disk."""


def read(lake: Lake, name: str, held: Held, columns: Sequence[str] = ()) -> pa.Table:
    """Return the rows of a table that hold one of some values in each of some columns.

    Rows come file by file, in no order that is promised.

    Args:
        lake: The lake.
        name: Table.
        held: Column to the values of which a row must have one; empty gives all rows.
        columns: To return; empty gives all.

    Raises:
        DamagedFile: a file is not what the log says.
        StorageError: the disk or the object store refuses.
    """
    definition = schemas.table(name)
    wanted = definition.schema
    if columns:
        wanted = pa.schema([wanted.field(column) for column in columns])
    found: list[pa.Table] = []
    for path in _candidates(lake, definition, held):
        with translated(path):
            found += _matching(lake, path, definition, held, wanted)
    return pa.concat_tables(found) if found else wanted.empty_table()


def _candidates(lake: Lake, definition: schemas.Table, held: Held) -> list[str]:
    """Return the files that may have matching rows.

    Looking at the statistics that the log has of each file takes as long as opening a few.
    """
    from lakeinterp.lake.tables import where

    # A condition of one value a column prunes files; a list of them would prune none.
    single = {column: next(iter(v)) for column, v in held.items() if len(v) == 1}
    folders = {c: v for c, v in single.items() if c in definition.partition}
    found = lake.files(definition.name, where(**folders) or None)
    few = _FEW if lake.store.is_local else 1
    if len(found) <= few or single == folders:
        return found
    return lake.files(definition.name, where(**single))


def _matching(
    lake: Lake, path: str, definition: schemas.Table, held: Held, wanted: pa.Schema
) -> Iterator[pa.Table]:
    """Yield the matching rows of each row group of a file that may have some."""
    folders = path.removeprefix(lake.store.address(definition.name)).split("/")
    named = dict(folder.split("=", 1) for folder in folders if "=" in folder)
    constant = {
        column: _array([unquote(named[column])], definition.schema.field(column).type)[0]
        for column in definition.partition
    }
    if any(constant[c].as_py() not in values for c, values in held.items() if c in constant):
        return
    inside = {c: values for c, values in held.items() if c not in constant}
    read = ({*wanted.names} | {*inside}) - constant.keys()
    needed = pa.schema([field for field in definition.schema if field.name in read])
    with opened(lake, path) as file:
        for number in range(file.metadata.num_row_groups):
            if not all(may_hold(file, number, c, min(v), max(v)) for c, v in inside.items() if v):
                continue
            rows = file.read_row_group(number, needed.names, use_threads=False)
            # Delta's writer leaves views of texts, of which Arrow can neither filter nor sort.
            rows = rows.select(needed.names).cast(needed)
            held_here = [
                pc.is_in(rows[column], _array(values, needed.field(column).type))
                for column, values in inside.items()
            ]
            if held_here and not pc.all(mask := reduce(pc.and_, held_here)).as_py():
                rows = rows.filter(mask)
            for column, value in constant.items():
                rows = rows.append_column(column, pa.repeat(value, rows.num_rows))
            yield rows.select(wanted.names)


def _array(values: Collection[str | int], kind: pa.DataType) -> pa.Array:
    """Return texts or whole numbers as an array; Arrow's own way to make it imports pandas."""
    if not pa.types.is_string(kind):
        numbers = np.array([int(value) for value in values], dtype=f"i{kind.bit_width // 8}")
        return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
    texts = [str(value).encode() for value in values]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(kind, len(texts), buffers)


def opened(lake: Lake, path: str) -> pq.ParquetFile:
    """Return a file that `Lake.files` names, open."""
    if lake.store.is_local:
        return pq.ParquetFile(path)
    return pq.ParquetFile(lake.store.fs.open(path, "rb"), pre_buffer=True)


def may_hold(file: pq.ParquetFile, number: int, column: str, low: Any, high: Any) -> bool:
    """Whether a row group may have values of a range in a flat column, by its statistics."""
    group = file.metadata.row_group(number)
    for at in range(group.num_columns):
        chunk = group.column(at)
        if chunk.path_in_schema == column:
            held = chunk.statistics
            return not (held and held.has_min_max and (held.min > high or held.max < low))
    return True
