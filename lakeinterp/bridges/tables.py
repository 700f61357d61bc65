"""Explanations and scores as plain tables: CSV, JSONL, Parquet, or a dataset with its card."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lakeinterp.bridges.base import Exported
from lakeinterp.bridges.card import card
from lakeinterp.bridges.chosen import choose
from lakeinterp.bridges.folders import json_line, whole
from lakeinterp.lake import queries, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.lake import Lake

TABLES = {"explanations": "bridges/told", "scores": "bridges/measured"}
"""Each table and the statement that gives its rows."""
_ROWS = 20_000


class _Sink(Protocol):
    """Takes record batches of one schema."""

    def __call__(self, batch: pa.RecordBatch, /) -> None: ...


class _Opened(Protocol):
    """Opens a file for record batches of a schema."""

    def __call__(self, path: Path, schema: pa.Schema, /) -> AbstractContextManager[_Sink]: ...


def export_csv(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `explanations.csv` and `scores.csv`, with a line of names; nothing is an empty cell.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the folder is not empty.
        StorageError: the disk refuses.
    """
    return _export(lake, options, progress, "csv", _csv, "{table}.csv")


def export_jsonl(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `explanations.jsonl` and `scores.jsonl`; see `export_csv`."""
    return _export(lake, options, progress, "jsonl", _jsonl, "{table}.jsonl")


def export_parquet(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `explanations.parquet` and `scores.parquet`; see `export_csv`."""
    return _export(lake, options, progress, "parquet", _parquet, "{table}.parquet")


def export_dataset(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write a folder that `datasets.load_dataset` opens as it is, and that the hub shows.

    A `README.md` says what is in it, and which files belong to which of the two tables; see
    `export_csv`.
    """
    return _export(
        lake, options, progress, "dataset", _parquet, "{table}/train-00000-of-00001.parquet"
    )


def _export(
    lake: Lake, options: Export, progress: Progress | None, name: str, opened: _Opened, pattern: str
) -> Exported:
    places = choose(lake, options)
    capture = str(places[0].capture["capture"])
    counts: dict[str, int] = {}
    about = {"format": name, "capture": capture}
    with whole(options.path, overwrite=options.overwrite, about=about) as folder:
        for done, (table, statement) in enumerate(TABLES.items(), start=1):
            path = folder / pattern.format(table=table)
            path.parent.mkdir(exist_ok=True)
            counts[table] = _write(places, options, statement, path, opened)
            if progress:
                progress(done=done, total=len(TABLES))
        if name == "dataset":
            files = {table: pattern.format(table=table) for table in TABLES}
            text = card(places, files, counts)
            (folder / "README.md").write_text(text, encoding="utf-8")
    said = (
        f"exported {counts['explanations']:,} explanations and {counts['scores']:,} scores of "
        f"{', '.join(place.name for place in places)} to {options.path}"
    )
    names = tuple(place.name for place in places)
    return Exported(capture, names, sum(counts.values()), 0, len(counts), (said,))


def _write(
    places: Sequence[Chosen], options: Export, statement: str, path: Path, opened: _Opened
) -> int:
    """Write one table of all hookpoints, a batch in memory; return its rows."""
    n_rows = 0
    with opened(path, _schema(places[0], statement)) as sink:
        for place in places:
            for batch in _batches(place, options, statement):
                sink(batch)
                n_rows += batch.num_rows
    return n_rows


def _batches(place: Chosen, options: Export, statement: str) -> Iterator[pa.RecordBatch]:
    key = where(**place.key)
    with place.lake.connect(explanations=key, scores=key, latents=key) as con:
        yield from queries.load(statement).batches(
            con, _ROWS, **place.key, explainer=options.explainer,
            latents=place.wanted,
        )  # fmt: skip


def _schema(place: Chosen, statement: str) -> pa.Schema:
    nothing: dict[str, Any] = {"explainer": None, "latents": []}
    key = where(capture="", hookpoint="")
    with place.lake.connect(explanations=key, scores=key, latents=key) as con:
        return queries.load(statement).table(con, capture="", hookpoint="", **nothing).schema


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[_Sink]:
    from pyarrow import csv

    with csv.CSVWriter(path, schema) as writer:
        yield writer.write_batch


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[_Sink]:
    from pyarrow import parquet

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer.write_batch


@contextmanager
def _jsonl(path: Path, schema: pa.Schema) -> Iterator[_Sink]:
    del schema
    with path.open("w", encoding="utf-8") as file:

        def put(batch: pa.RecordBatch) -> None:
            for row in batch.to_pylist():
                row["created_at"] = row["created_at"].isoformat()
                file.write(json_line(row) + "\n")

        yield put
