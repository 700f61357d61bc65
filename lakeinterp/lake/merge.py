"""Several sorted files of activations as one sorted stream, in memory that does not grow.

One row group of each file is in memory, and one step of the merge: all rows up to a key that no
file can still undercut. A key is one number, latent and token side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakeinterp.errors import SchemaError
from lakeinterp.lake.activations import COLUMNS, ROW_GROUP, WRITER
from lakeinterp.lake.faults import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Keys = npt.NDArray[np.uint64]
    Values = npt.NDArray[np.float32]

STEP_ROWS = 2**20
"""Rows that one step of the merge sorts, at most."""


class Merged(NamedTuple):
    """What a merge wrote: the smallest and largest values as a commit carries them."""

    n_rows: int
    minimum: dict[str, int]
    maximum: dict[str, int]


@dataclass
class _Input:
    """One sorted file, a row group at a time."""

    name: str
    file: pq.ParquetFile
    shift: np.uint64
    largest_latent: int
    keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))
    values: Values = field(default_factory=lambda: np.empty(0, np.float32))
    _next: int = 0
    _last: int = -1

    def fill(self) -> bool:
        """Read row groups until there are rows; return whether there are."""
        while not len(self.keys) and self._next < self.file.num_row_groups:
            with translated(self.name):
                rows = self.file.read_row_group(self._next, columns=COLUMNS.names)
            self._next += 1
            if rows.num_rows:
                self._keep(rows)
        return bool(len(self.keys))

    def _keep(self, rows: pa.Table) -> None:
        latents = rows["latent"].to_numpy().astype(np.uint64)
        tokens = rows["token"].to_numpy().astype(np.uint64)
        if int(tokens.max() >> self.shift) or int(latents.max()) > self.largest_latent:
            raise SchemaError(f"{self.name}: a latent or token is above what the log says")
        self.keys = (latents << self.shift) | tokens
        self.values = rows["value"].to_numpy()
        if int(self.keys[0]) <= self._last or bool(np.any(self.keys[1:] <= self.keys[:-1])):
            raise SchemaError(
                f"{self.name}: rows are not in the order of latent and token, or twice there; "
                "lakeinterp did not write this file"
            )
        self._last = int(self.keys[-1])

    def take(self, up_to: np.uint64) -> tuple[Keys, Values]:
        """Hand out the rows whose keys are not above a key."""
        n = int(np.searchsorted(self.keys, up_to, side="right"))
        taken = self.keys[:n], self.values[:n]
        self.keys, self.values = self.keys[n:], self.values[n:]
        return taken


def merge(
    sources: Sequence[tuple[str, Any]], target: str, *, largest_token: int, largest_latent: int
) -> Merged:
    """Write the rows of sorted files as one sorted file of the same encodings.

    Args:
        sources: Name and open binary file of each, every one ordered by (latent, token).
        target: Local path of the file to write.
        largest_token: No token is above it.
        largest_latent: No latent is above it.

    Raises:
        SchemaError: a file is not sorted, or a row is in two files.
        DamagedFile: a file is cut off.
    """
    shift = np.uint64(max(1, largest_token.bit_length()))
    if int(shift) + largest_latent.bit_length() > 64:
        raise SchemaError("activations: latent and token together need more than 64 bits")
    inputs = [_input(name, file, shift, largest_latent) for name, file in sources]
    with pq.ParquetWriter(target, COLUMNS, **WRITER) as writer:
        return _write(writer, _steps(inputs), shift)


def _input(name: str, file: Any, shift: np.uint64, largest_latent: int) -> _Input:
    with translated(name):
        return _Input(name, pq.ParquetFile(file), shift, largest_latent)


def _steps(inputs: list[_Input]) -> Iterator[tuple[Keys, Values]]:
    """Yield sorted runs of rows, each above the one before."""
    share = max(1, STEP_ROWS // len(inputs))
    while left := [i for i in inputs if i.fill()]:
        # Every file has all its rows up to its last key in memory, and no more than a share of
        # them is taken, so this key is safe and the step is small.
        up_to = min(i.keys[min(share, len(i.keys)) - 1] for i in left)
        taken = [i.take(up_to) for i in left]
        keys = np.concatenate([k for k, _ in taken])
        values = np.concatenate([v for _, v in taken])
        # Sorted runs one after the other: what a merging sort is best at.
        order = np.argsort(keys, kind="stable")
        yield keys[order], values[order]


def _write(
    writer: pq.ParquetWriter, steps: Iterator[tuple[Keys, Values]], shift: np.uint64
) -> Merged:
    """Write runs as row groups of one size, and check that no key comes twice."""
    waiting = COLUMNS.empty_table()
    n_rows, last, first_key = 0, -1, 0
    smallest, largest = 2**63 - 1, -1
    for keys, values in steps:
        if int(keys[0]) <= last or bool(np.any(keys[1:] == keys[:-1])):
            raise SchemaError("activations: a row is in two files that the table names")
        first_key, last = (first_key if n_rows else int(keys[0])), int(keys[-1])
        n_rows += len(keys)
        rows = _rows(keys, values, shift)
        tokens = rows["token"].to_numpy()
        smallest, largest = min(smallest, int(tokens.min())), max(largest, int(tokens.max()))
        waiting = pa.concat_tables([waiting, rows])
        if whole := waiting.num_rows // ROW_GROUP * ROW_GROUP:
            writer.write_table(waiting.slice(0, whole), row_group_size=ROW_GROUP)
            waiting = waiting.slice(whole)
    if waiting.num_rows:
        writer.write_table(waiting, row_group_size=ROW_GROUP)
    first_latent, last_latent = first_key >> int(shift), last >> int(shift)
    return Merged(
        n_rows,
        {"latent": first_latent, "token": smallest},
        {"latent": last_latent, "token": largest},
    )


def _rows(keys: Keys, values: Values, shift: np.uint64) -> pa.Table:
    tokens = keys & ((np.uint64(1) << shift) - np.uint64(1))
    latents = (keys >> shift).astype(np.int32)
    return pa.table([latents, tokens.astype(np.int64), values], schema=COLUMNS)
