"""Folders that appear whole: written beside their place, then moved there."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError
from lakeinterp.lake.faults import translated
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARK = "lakeinterp-export.json"
"""Says of a folder that it may be replaced; readers of other tools pass over it."""


@contextmanager
def whole(path: Path, *, overwrite: bool, about: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty folder that takes the place of `path` when the block ends without an error.

    Args:
        path: The folder; it may be there if it is empty.
        overwrite: Replace what an earlier export wrote there.
        about: Written to `MARK`.

    Raises:
        ConfigError: it holds files, and they are not to be or may not be replaced.
        StorageError: the disk refuses; the folder is as it was.
    """
    target = Path(os.path.abspath(path))
    partial = target.with_name(f".{target.name}.partial")
    _refuse(target, overwrite)
    with translated(str(target)):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            write_json(partial / MARK, {**about, "created_at": now().isoformat()})
            _put(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: object, *, indent: int | None = 2) -> None:
    """Write one JSON file, in UTF-8; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_line(value, indent=indent), encoding="utf-8")


def json_line(value: object, *, indent: int | None = None) -> str:
    """Return strict JSON: a number that is not finite is an error, not `NaN`."""
    tight = None if indent else (",", ":")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=tight)


class Batches:
    """Gzipped JSONL files of so many keys each, `batch-0.jsonl.gz` and on."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; the first file is opened with the first row."""
        folder.mkdir(parents=True)
        self._folder, self._batch = folder, -1
        self._file: gzip.GzipFile | None = None
        self.n_rows = 0

    def put(self, batch: int, row: Mapping[str, Any]) -> None:
        """Append a row to a batch; batches come one after the other."""
        if batch != self._batch:
            self.close()
            path = self._folder / f"batch-{batch}.jsonl.gz"
            # Without a time in the header the same rows give the same bytes.
            self._raw = path.open("wb")
            self._file = gzip.GzipFile("", "wb", 6, self._raw, mtime=0)
            self._batch = batch
        assert self._file is not None, "opened above"
        self._file.write(json_line(row).encode() + b"\n")
        self.n_rows += 1

    def close(self) -> None:
        """End the file that is open."""
        if self._file is not None:
            self._file.close()
            self._raw.close()
            self._file = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; give a folder")
    held = sorted(p.name for p in target.iterdir()) if target.is_dir() else []
    if not held:
        return
    if not overwrite:
        raise ConfigError(
            f"{target} holds {held[0]} already; choose another folder, or --overwrite"
        )
    if MARK not in held:
        raise ConfigError(
            f"{target} holds {held[0]} and was not written by `lakeinterp export`: it is not "
            "replaced; choose another folder"
        )


def _put(partial: Path, target: Path) -> None:
    """Move a folder to its place; what was there goes only once the new one stands."""
    earlier = target.with_name(f".{target.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if target.is_dir():
        os.replace(target, earlier)
    os.replace(partial, target)
    shutil.rmtree(earlier, ignore_errors=True)
