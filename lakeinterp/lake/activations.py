"""The files of the `activations` table: how rows sorted by (latent, token) lie on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakeinterp.errors import SchemaError
from lakeinterp.lake import schema as schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakeinterp.lake.store import Store, Written

ROW_GROUP = 128 * 1024
"""Rows; one latent of a file is read in about one row group."""
COLUMNS = pa.schema([schemas.TABLES["activations"].schema.field(c) for c in (3, 4, 5)])
"""What a file holds; its folders hold the rest."""
WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": ["latent"],
    "column_encoding": {"token": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    "sorting_columns": [pq.SortingColumn(0), pq.SortingColumn(1)],
}
"""How Parquet is written: of `pyarrow.parquet.ParquetWriter`."""


def default_buckets(n_latents: int) -> int:
    """Return how many ranges a coder's latents are cut into: 1 to 64, 256 latents or more each."""
    return max(1, min(64, n_latents // 256))


def bucket_latents(n_latents: int, n_buckets: int | None) -> int:
    """Return the number of latents in one bucket; `latent // this` is the bucket."""
    n = min(n_latents, n_buckets or default_buckets(n_latents))
    return -(-n_latents // n)


def write_activations(
    store: Store,
    *,
    capture: str,
    hookpoint: str,
    latents_per_bucket: int,
    latents: npt.NDArray[np.int32],
    tokens: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    name: str,
) -> list[Written]:
    """Write one shard of one hookpoint, one file a bucket that has rows.

    Args:
        store: Where the lake's files are.
        capture: Capture id.
        hookpoint: Hookpoint name.
        latents_per_bucket: Width of a bucket.
        latents: Ascending; shape [rows].
        tokens: Ascending within a latent; shape [rows].
        values: Activations, already rounded to the capture's dtype; shape [rows].
        name: File stem, a pure function of the token range.

    Raises:
        SchemaError: the arrays differ in length or the latents are not ascending.
    """
    if not len(latents) == len(tokens) == len(values):
        raise SchemaError("activations: latents, tokens and values differ in length")
    if len(latents) and np.any(latents[1:] < latents[:-1]):
        raise SchemaError("activations: rows must be sorted by latent")
    written = []
    for bucket, rows in _by_bucket(latents, latents_per_bucket):
        table = pa.table([latents[rows], tokens[rows], values[rows]], schema=COLUMNS)
        written.append(
            store.write_parquet(
                "activations",
                table,
                schema=schemas.TABLES["activations"].schema,
                partition={"capture": capture, "hookpoint": hookpoint, "bucket": bucket},
                name=name,
                statistics=("latent", "token"),
                row_group_size=ROW_GROUP,
                **WRITER,
            )
        )
    return written


def _by_bucket(
    latents: npt.NDArray[np.int32], latents_per_bucket: int
) -> Iterator[tuple[int, slice]]:
    """Yield (bucket, rows) for the buckets that have rows, by binary search."""
    if not len(latents):
        return
    last = int(latents[-1]) // latents_per_bucket
    edges = np.searchsorted(latents, np.arange(last + 2) * latents_per_bucket)
    for bucket in range(last + 1):
        if edges[bucket] < edges[bucket + 1]:
            yield bucket, slice(int(edges[bucket]), int(edges[bucket + 1]))
