"""A capture as a delphi cache, one split after the other.

Each split repeats the tokens, as delphi writes them and reads them. Where torch is installed,
`log/hookpoint_firing_counts.pt` is written too; delphi's own report needs it.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lakeinterp.bridges import tensors
from lakeinterp.bridges.base import Exported
from lakeinterp.errors import ConfigError, LakeError
from lakeinterp.lake import queries, where
from lakeinterp.lake.faults import translated
from lakeinterp.lake.units import captured_sequences, hookpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.lake import Lake

_ROWS = 2**20
"""Rows handed over at one time."""
_SEQUENCES = 1024
_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_UINT16 = 65_536


class _Counts(NamedTuple):
    """Rows of every latent of a hookpoint."""

    n_rows: npt.NDArray[np.int64]
    n_positive: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    """Token of the last row, -1 without one."""


class _Source(NamedTuple):
    """What is exported."""

    lake: Lake
    row: dict[str, Any]
    """Of `captures`."""
    n_sequences: int

    @property
    def context_tokens(self) -> int:
        return int(self.row["context_tokens"])

    @property
    def n_tokens(self) -> int:
        return self.n_sequences * self.context_tokens


def export_cache(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write the hookpoints of a capture to `<path>/latents`; a killed call is run again.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the folder holds other splits, or values are too large for the precision.
        LakeError: the capture has no tokens yet.
        StorageError: the disk refuses.
    """
    row = lake.capture(options.capture)
    source = _Source(lake, row, captured_sequences(lake, str(row["capture"])))
    if not source.n_sequences:
        raise LakeError(f"{row['capture']}: nothing is captured yet; finish its capture first")
    found = hookpoints(lake, str(row["capture"]), options.hookpoints)
    counts = {str(h["hookpoint"]): _counts(source, h) for h in found}
    todo = {name: _splits(len(c.n_rows), options.n_splits) for name, c in counts.items()}
    for name, splits in todo.items():
        _refuse_others(options.path / "latents" / name, splits, options.overwrite)
    total, done, n_rounded = sum(int(c.n_rows.sum()) for c in counts.values()), 0, 0
    for name, splits in todo.items():
        for first, stop in splits:
            n_rounded += _write(source, name, first, stop, counts[name], options)
            done += int(counts[name].n_rows[first:stop].sum())
            if progress:
                progress(done=done, total=total)
        _write_json(options.path / "latents" / name / "config.json", _config(source, options))
    _write_firing_counts(options.path, {name: c.n_positive for name, c in counts.items()})
    n_files = sum(len(splits) for splits in todo.values())
    return Exported(str(row["capture"]), tuple(todo), total, n_rounded, n_files)


def _splits(n_latents: int, n_splits: int) -> list[tuple[int, int]]:
    """Return the ranges of latents, as even as they can be; none is empty."""
    if n_splits < 1:
        raise ConfigError(f"--n-splits {n_splits}: give 1 or more")
    n = min(n_splits, n_latents)
    edges = [i * n_latents // n for i in range(n + 1)]
    return list(pairwise(edges))


def _name(first: int, stop: int) -> str:
    return f"{first}_{stop - 1}.safetensors"


def _refuse_others(folder: Path, splits: list[tuple[int, int]], overwrite: bool) -> None:
    """Refuse a folder that is complete, or in which readers would find other files as well."""
    expected = {_name(first, stop) for first, stop in splits}
    others = sorted({p.name for p in folder.glob("*.safetensors")} - expected)
    if others:
        raise ConfigError(f"{folder} holds {others[0]} already; choose an empty folder")
    # The last file of a hookpoint; what a killed call left is completed.
    if (folder / "config.json").exists() and not overwrite:
        raise ConfigError(f"{folder} is written already; choose another folder, or --overwrite")


def _counts(source: _Source, hookpoint: dict[str, Any]) -> _Counts:
    n_latents, name = int(hookpoint["n_latents"]), str(hookpoint["hookpoint"])
    capture = str(source.row["capture"])
    counts = _Counts(*(np.full(n_latents, start, np.int64) for start in (0, 0, -1)))
    with source.lake.connect(activations=where(capture=capture, hookpoint=name)) as con:
        found = queries.load("bridges/latent_rows").table(
            con, capture=capture, hookpoint=name, n_tokens=source.n_tokens
        )
    latents = found["latent"].to_numpy()
    for array, column in zip(counts, ("n_rows", "n_positive", "last"), strict=True):
        array[latents] = found[column].to_numpy()
    return counts


def _write(
    source: _Source, hookpoint: str, first: int, stop: int, counts: _Counts, options: Export
) -> int:
    """Write one split and return how many of its values were rounded."""
    n_rows = int(counts.n_rows[first:stop].sum())
    last = int(counts.last[first:stop].max()) // source.context_tokens
    is_small = max(last + 1, stop - first, source.context_tokens) <= _UINT16
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "tokens": ("I64", (source.n_sequences, source.context_tokens)),
        "activations": (_DTYPES[options.dtype], (n_rows,)),
        "locations": ("U16" if is_small else "U32", (n_rows, 3)),
    }
    n_rounded = 0
    path = options.path / "latents" / hookpoint / _name(first, stop)
    with tensors.create(path, shapes) as file:
        for tokens, latents, values in _rows(source, hookpoint, first, stop):
            stored, kept = _as(values, options.dtype)
            if not np.isfinite(kept).all():
                raise ConfigError(
                    f"{hookpoint}: activation {values[~np.isfinite(kept)][0]:g} is too large for "
                    f"{options.dtype}: give --dtype float32"
                )
            n_rounded += int((kept != values).sum())
            sequences, positions = np.divmod(tokens, source.context_tokens)
            file.put("locations", np.stack([sequences, positions, latents - first], axis=1))
            file.put("activations", stored)
        for chunk in _sequences(source):
            file.put("tokens", chunk)
    return n_rounded


def _rows(
    source: _Source, hookpoint: str, first: int, stop: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """Yield tokens, latents and values of a split in the order of (token, latent)."""
    capture = str(source.row["capture"])
    width = source.lake.one("hookpoints", where(capture=capture, hookpoint=hookpoint))
    size = int(width["bucket_latents"])
    key = where(capture=capture, hookpoint=hookpoint)
    key += f" AND bucket >= {first // size} AND bucket <= {(stop - 1) // size}"
    with source.lake.connect(activations=key) as con:
        batches = queries.load("bridges/split_rows").batches(
            con, _ROWS, capture=capture, hookpoint=hookpoint, first=first, stop=stop,
            n_tokens=source.n_tokens,
        )  # fmt: skip
        for batch in batches:
            tokens, latents, values = (c.to_numpy(zero_copy_only=False) for c in batch.columns)
            yield tokens, latents, values


def _sequences(source: _Source) -> Iterator[npt.NDArray[np.int64]]:
    corpus = str(source.row["corpus"])
    for first in range(0, source.n_sequences, _SEQUENCES):
        stop = min(first + _SEQUENCES, source.n_sequences)
        key = f"{where(corpus=corpus)} AND sequence >= {first} AND sequence < {stop}"
        with source.lake.connect(sequences=key) as con:
            found = queries.load("corpus/sequences").table(
                con, corpus=corpus, first=first, stop=stop
            )
        rows = found["tokens"].combine_chunks().flatten().to_numpy().astype(np.int64)
        yield rows.reshape(stop - first, source.context_tokens)


def _as(
    values: npt.NDArray[np.float32], dtype: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Return values as they are stored, and what will be read back."""
    if dtype == "bfloat16":
        bits = tensors.to_bfloat16(values)
        return bits, tensors.from_bfloat16(bits)
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    return stored, stored.astype(np.float32)


def _config(source: _Source, options: Export) -> dict[str, Any]:
    """Return `config.json`: as it was read, or made from the capture's settings."""
    held = json.loads(source.row["config"])
    corpus, settings = held.get("corpus", {}), held.get("capture", {})
    made = {
        "dataset_repo": corpus.get("dataset", ""),
        "dataset_split": corpus.get("split", "train"),
        "dataset_name": corpus.get("name") or "",
        "dataset_column": corpus.get("column") or "text",
        "batch_size": settings.get("batch_sequences") or 8,
        "cache_ctx_len": source.context_tokens,
        "n_tokens": source.n_tokens,
        "n_splits": options.n_splits,
        "model_name": source.row["model"],
    }
    sizes = {name: made[name] for name in ("cache_ctx_len", "n_tokens", "n_splits")}
    return (held.get("delphi", {}).get("config") or made) | sizes


def _write_json(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with translated(str(path)):
        partial.write_text(json.dumps(value, indent=4), encoding="utf-8")
        os.replace(partial, path)


def _write_firing_counts(path: Path, counts: dict[str, npt.NDArray[np.int64]]) -> None:
    try:
        import torch
    except ImportError:
        return
    file = path / "log" / "hookpoint_firing_counts.pt"
    with translated(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: torch.from_numpy(n) for name, n in counts.items()}, file)
