"""Results of SQL as a table for people, or streamed as CSV, JSON or Parquet.

Rows pass in record batches, so memory does not grow with their number. What a format cannot
say is said in text: durations, bit strings and unions as DuckDB writes them in every format;
in CSV nested values as JSON; in CSV and JSON bytes as hexadecimal. JSON has no NaN and no
infinity: they become null.
"""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.text import Text

from lakeinterp.errors import ConfigError, NotFound, QueryError
from lakeinterp.report import words
from lakeinterp.report.terminal import bare_table, lines, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from rich.console import Console
    from rich.table import Table

Format = Literal["table", "csv", "json", "parquet"]
_ENDINGS: dict[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
SHOWN_ROWS = 50
"""Rows of a table."""
_COUNTED_ROWS = 100_000
"""Rows counted beyond those; a table of a huge result does not wait for its end."""
_BATCH_ROWS = 16_384
_NARROWEST = 12
"""Columns of the terminal that one column of a result needs to be readable."""
_MAPS: dict[str, Any] = {"maps_as_pydicts": "lossy"}
_AS_TEXT = ("INTERVAL", "BIT", "UNION", "TIME WITH TIME ZONE", "UHUGEINT")


def write_result(
    relation: duckdb.DuckDBPyRelation,
    *,
    format: Format,
    output: Path | None,
    console: Console | None = None,
) -> int:
    """Write a query's result, streaming.

    Args:
        relation: As `Lake.sql` returns it.
        format: `table` shows at most `SHOWN_ROWS` rows, as records where the columns do not fit;
            `csv` has a header and leaves NULL empty, an empty text is `""`; `json` is one array
            with an object a line; `parquet` keeps all types but those the module names.
        output: File to write, which appears whole or not at all; None writes to the console or
            to standard output.
        console: Where a table goes; nothing else needs it.

    Returns:
        The number of rows written; of a table, of rows found.

    Raises:
        ConfigError: Parquet without a file, a table into one, or two JSON columns of one name.
        NotFound: no such format.
        QueryError: the query fails on the way; no file is left.
    """
    if format not in get_args(Format):
        raise NotFound("format", format, get_args(Format))
    if format == "parquet" and output is None:
        raise ConfigError("--format parquet is not for a terminal or a pipe: add --output FILE")
    if format == "table" and output is not None:
        raise ConfigError(
            f"--format table shows {SHOWN_ROWS} rows to people; a file takes csv, json or parquet"
        )
    try:
        reader = _plain_types(relation).to_arrow_reader(_BATCH_ROWS)
        if format == "table":
            assert console is not None, "a table is written to a console"
            return _write_table(reader, console)
        with _sink(output) as sink:
            return _WRITERS[format](reader, sink)
    except duckdb.Error as exc:
        raise QueryError(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class Rows:
    """The first rows of a result, as text."""

    names: tuple[str, ...]
    is_number: tuple[bool, ...]
    """Whether a column holds numbers."""
    rows: tuple[tuple[str, ...], ...]
    has_more: bool


def first_rows(relation: duckdb.DuckDBPyRelation, n: int) -> Rows:
    """Return the first `n` rows of a query's result as a table shows them.

    Raises:
        QueryError: the query fails on the way.
    """
    try:
        reader = _plain_types(relation).to_arrow_reader(min(n + 1, _BATCH_ROWS))
        found: list[tuple[str, ...]] = []
        for batch in _batches(reader):
            found += _tuples(batch.slice(0, n + 1 - len(found)))
            if len(found) > n:
                break
    except duckdb.Error as exc:
        raise QueryError(str(exc)) from exc
    kinds = tuple(_is_number(kind) for kind in reader.schema.types)
    return Rows(tuple(reader.schema.names), kinds, tuple(found[:n]), len(found) > n)


def format_of(format: Format | None, output: Path | None) -> Format:
    """Return the format asked for, else the one that a file's name ends in, else a table.

    Raises:
        ConfigError: none is asked for and the file's name says none.
    """
    if format is not None or output is None:
        return format or "table"
    found = _ENDINGS.get(output.suffix.lower())
    if found is None:
        raise ConfigError(
            f"--output {output}: end the name in {', '.join(_ENDINGS)}, or give --format"
        )
    return found


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    """Give standard output, or a file that takes its name only when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as sink:
            yield sink
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches; what fails in the query, unlike in the writing, is a `QueryError`."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as exc:
            raise QueryError(str(exc)) from exc
        yield batch


def _plain_types(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Cast the columns whose types Arrow does not carry faithfully to text."""
    kinds = [str(kind) for kind in relation.types]
    if not any(kind.startswith(_AS_TEXT) for kind in kinds):
        return relation
    inside = ", ".join(f"c{i}" for i in range(len(kinds)))
    columns = ", ".join(
        f"CAST(c{i} AS VARCHAR) AS {_quoted(name)}" if kind.startswith(_AS_TEXT)
        else f"c{i} AS {_quoted(name)}"
        for i, (name, kind) in enumerate(zip(relation.columns, kinds, strict=True))
    )  # fmt: skip
    cast = relation.query("result", f"SELECT {columns} FROM result AS r({inside})")
    assert cast is not None, "a SELECT gives a relation"
    return cast


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- streams ----------------------------------------------------------------------------------


def _write_csv(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    schema = pa.schema([pa.field(f.name, _csv_type(f.type)) for f in reader.schema])
    n_rows = 0
    with pacsv.CSVWriter(sink, schema) as writer:
        for batch in _batches(reader):
            columns = [_csv_column(column) for column in batch.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            n_rows += batch.num_rows
    return n_rows


def _csv_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _csv_type(kind.value_type)
    text = pa.types.is_nested(kind) or pa.types.is_null(kind) or _is_binary(kind)
    return pa.string() if text else kind


def _csv_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _csv_column(column.dictionary_decode())
    if pa.types.is_nested(kind):
        values = [None if v is None else _json(v) for v in column.to_pylist(**_MAPS)]
        return pa.array(values, pa.string())
    if _is_binary(kind):
        return pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
    return column.cast(pa.string()) if pa.types.is_null(kind) else column


def _write_json(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    _check_names(reader.schema.names, "json")
    n_rows = 0
    for batch in _batches(reader):
        for row in _rows(batch):
            sink.write(b"[\n" if n_rows == 0 else b",\n")
            sink.write(_json(row).encode())
            n_rows += 1
    sink.write(b"\n]\n" if n_rows else b"[]\n")
    return n_rows


def _write_parquet(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    _check_names(reader.schema.names, "parquet")
    n_rows = 0
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in _batches(reader):
            writer.write_batch(batch)
            n_rows += batch.num_rows
    return n_rows


_WRITERS: dict[str, Callable[[pa.RecordBatchReader, BinaryIO], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}


def _check_names(names: list[str], format_name: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"--format {format_name}: two columns are called {twice[0]!r}; name them with AS"
        )


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield a batch's rows; nanoseconds, which Python's times do not have, as text."""
    columns = [c.cast(pa.string()) if _is_ns(c.type) else c for c in batch.columns]
    named = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    yield from named.to_pylist(**_MAPS)


def _json(value: object) -> str:
    return json.dumps(_clean(value), ensure_ascii=False, allow_nan=False)


def _clean(value: object) -> object:
    """Return a value as JSON has it; see the module's words on what JSON has not."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return str(value)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    is_whole_or_real = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(is_whole_or_real or pa.types.is_decimal(kind))


def _is_ns(kind: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(kind) and getattr(kind, "unit", "") == "ns")


# -- a table for people -----------------------------------------------------------------------


def _write_table(reader: pa.RecordBatchReader, console: Console) -> int:
    names, kinds = reader.schema.names, reader.schema.types
    shown: list[tuple[str, ...]] = []
    n_rows, n_counted = 0, SHOWN_ROWS + _COUNTED_ROWS
    for batch in _batches(reader):
        shown += _tuples(batch.slice(0, max(0, SHOWN_ROWS - len(shown))))
        n_rows += batch.num_rows
        if n_rows > n_counted:
            break
    if len(names) * _NARROWEST > console.width:
        _records(names, shown, console)
    else:
        console.print(_table(names, kinds, shown))
    _note(len(shown), n_rows, n_rows > n_counted, console)
    return n_rows


def _tuples(batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
    columns = [c.cast(pa.string()) if _is_ns(c.type) else c for c in batch.columns]
    cells = [[_cell(value) for value in column.to_pylist(**_MAPS)] for column in columns]
    yield from zip(*cells, strict=True)


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    return _json(_rounded(value)).strip('"')


def _rounded(value: object) -> object:
    """Return a value with the numbers inside it as short as those beside it."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _table(names: list[str], kinds: list[pa.DataType], rows: list[tuple[str, ...]]) -> Table:
    made = bare_table()
    for name, kind in zip(names, kinds, strict=True):
        is_number = _is_number(kind)
        # Numbers are kept whole; what room is missing is taken from the texts.
        justify: Literal["left", "right"] = "right" if is_number else "left"
        made.add_column(plain(name), justify=justify, no_wrap=is_number)
    for row in rows:
        made.add_row(*(_on_one_line(cell) for cell in row))
    return made


def _on_one_line(cell: str) -> Text:
    text = plain(cell)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _records(names: list[str], rows: list[tuple[str, ...]], console: Console) -> None:
    """Show each row as lines of name and value, for results with many columns."""
    for number, row in enumerate(rows, 1):
        console.print(Text(f"row {number}", style="bold"))
        console.print(lines(zip(names, row, strict=True)))


def _note(n_shown: int, n_rows: int, is_cut: bool, console: Console) -> None:
    if n_rows > n_shown:
        more = words.count(n_rows - n_shown)
        more = (
            f"{more} rows or more" if is_cut else f"{more} more row{'s' * (n_rows - n_shown > 1)}"
        )
        text = f"… {more}; --output FILE with --format csv, json or parquet gives them all"
        console.print(Text(text, style="dim"))
    elif not n_rows:
        console.print(Text("no rows", style="dim"))
