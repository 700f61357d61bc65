"""Sequences of token ids made elsewhere: `.npy`, Parquet lists, the tokens of a delphi cache.

Rows are taken as they are, special tokens included. What lies between special tokens counts as
one document, told by a digest of its tokens.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakeinterp.corpus.pack import Sequence, Span
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakeinterp.config import CorpusConfig

_BATCH = 4096


def holds_tokens(config: CorpusConfig) -> bool:
    """Return whether the dataset is one of ready sequences rather than of texts."""
    path = Path(config.dataset)
    if config.dataset == "demo" or not path.exists():
        return False
    if path.is_dir():
        return bool(_cache_files(path))
    if path.suffix == ".parquet":
        return _token_column(path, config) is not None
    return path.suffix in (".npy", ".safetensors")


def sequences(config: CorpusConfig, special: list[int], *, first: int) -> Iterator[Sequence]:
    """Yield the sequences from number `first` on.

    Raises:
        ConfigError: the rows are not `corpus.context_tokens` long, or hold no token ids.
    """
    number = first
    for batch in _batches(Path(config.dataset), config, first):
        if batch.ndim != 2 or batch.shape[1] != config.context_tokens:
            raise ConfigError(
                f"corpus.context_tokens: {config.context_tokens}, but {config.dataset} holds rows "
                f"of shape {list(batch.shape[1:])}; set it to their length"
            )
        for row in batch.astype(np.int64):
            spans = tuple(_spans(row, special))
            yield Sequence(number, tuple(row.tolist()), spans, number + 1, 0)
            number += 1


def _spans(row: npt.NDArray[np.int64], special: list[int]) -> Iterator[Span]:
    start = 0
    for is_special, group in groupby(np.isin(row, special).tolist()):
        n = len(list(group))
        tokens = row[start : start + n].astype("<i4").tobytes()
        document = int.from_bytes(blake2b(tokens, digest_size=8).digest(), "big") >> 1
        yield Span(None if is_special else document, start)
        start += n


def _batches(path: Path, config: CorpusConfig, first: int) -> Iterator[npt.NDArray[Any]]:
    if path.is_dir() or path.suffix == ".safetensors":
        yield from _cached(path, first)
    elif path.suffix == ".npy":
        rows = _array(path)
        if rows.ndim == 1:
            whole = len(rows) // config.context_tokens * config.context_tokens
            rows = rows[:whole].reshape(-1, config.context_tokens)
        for start in range(first, len(rows), _BATCH):
            yield np.asarray(rows[start : start + _BATCH])
    else:
        yield from _parquet(path, config, first)


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        rows: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as exc:
        raise ConfigError(f"corpus.dataset: {path} is no array of NumPy, or torn: {exc}") from exc
    if rows.dtype.kind not in "iu" or not rows.ndim:
        raise ConfigError(
            f"corpus.dataset: {path} holds {rows.dtype} of shape {list(rows.shape)}; token ids are "
            "integers in one or two dimensions"
        )
    return rows


def _cache_files(path: Path) -> list[Path]:
    """Return the splits of a delphi cache below a folder: all that hold tokens hold the same."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*.safetensors") if p.stem.replace("_", "").isdigit())


def _cached(path: Path, first: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the tokens of the first split that holds any, batch by batch."""
    from safetensors import SafetensorError, safe_open

    for file in _cache_files(path):
        try:
            opened = safe_open(file, framework="np")
        except SafetensorError as exc:
            raise ConfigError(f"corpus.dataset: {file} is torn: {exc}") from exc
        with opened as tensors:
            if "tokens" in tensors.keys():  # noqa: SIM118 - not a mapping
                rows = tensors.get_slice("tokens")
                n_rows: int = rows.get_shape()[0]
                for start in range(first, n_rows, _BATCH):
                    yield rows[start : min(start + _BATCH, n_rows)]
                return
    raise ConfigError(f"corpus.dataset: {path} holds no tokens; it was made without")


def _token_column(path: Path, config: CorpusConfig) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as exc:
        raise ConfigError(f"corpus.dataset: {path} is no Parquet file, or torn: {exc}") from exc
    lists = [f.name for f in schema if pa.types.is_list(f.type) and _is_id(f.type.value_type)]
    wanted = [n for n in lists if n == config.column] if config.column else lists
    return wanted[0] if wanted and not config.chat else None


def _is_id(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind))


def _parquet(path: Path, config: CorpusConfig, first: int) -> Iterator[npt.NDArray[Any]]:
    import pyarrow.parquet as pq

    column, seen = _token_column(path, config), 0
    for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=[column]):
        rows = batch.column(0).slice(max(0, first - seen))
        seen += len(batch)
        if not len(rows):
            continue
        lengths = set(rows.value_lengths().to_pylist())
        if lengths != {config.context_tokens}:
            raise ConfigError(
                f"corpus.context_tokens: {config.context_tokens}, but {path.name} holds rows of "
                f"{sorted(lengths)[:5]} tokens"
            )
        yield rows.flatten().to_numpy(zero_copy_only=False).reshape(-1, config.context_tokens)
