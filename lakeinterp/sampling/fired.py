"""The activations of some latents, by latent and token, from files that are each in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.lake.activations import COLUMNS
from lakeinterp.lake.direct import may_hold, opened
from lakeinterp.lake.faults import translated
from lakeinterp.sampling.arrays import starts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from lakeinterp.lake.tables import Lake

    Array = npt.NDArray[Any]

_SHORT = 50
"""Rows of a latent in a file below which it is faster to move row by row than piece by piece."""


def read(lake: Lake, where: str, *, first: int, last: int, n_tokens: int) -> pa.Table:
    """Return the activations of a range of latents on captured tokens, by latent and token.

    Reads the files without DuckDB, in half of its time.

    Args:
        lake: The lake.
        where: Condition on the partition columns of `activations`: which files.
        first: First latent.
        last: Last latent.
        n_tokens: Leading tokens that the capture has processed.

    Raises:
        DamagedFile: a file is not what the log says.
        StorageError: the disk or the object store refuses.
    """
    pieces: list[pa.Table] = []
    for path in lake.files("activations", where):
        with translated(path), opened(lake, path) as file:
            every = range(file.metadata.num_row_groups)
            groups = [
                n
                for n in every
                if may_hold(file, n, "latent", first, last)
                and may_hold(file, n, "token", 0, n_tokens - 1)
            ]
            rows = file.read_row_groups(groups, COLUMNS.names, use_threads=False)
        pieces += _pieces(rows.select(COLUMNS.names).cast(COLUMNS), first, last, n_tokens)
    return in_order(pa.concat_tables([COLUMNS.empty_table(), *pieces]))


def _pieces(rows: pa.Table, first: int, last: int, n_tokens: int) -> Iterator[pa.Table]:
    """Yield the rows of a range of latents and tokens, a chunk at a time."""
    for batch in rows.to_batches():
        latent, token = batch["latent"].to_numpy(), batch["token"].to_numpy()
        if not len(latent):
            continue
        chunk = pa.Table.from_batches([batch])
        if latent.min() < first or latent.max() > last or token.max() >= n_tokens:
            chunk = chunk.filter((latent >= first) & (latent <= last) & (token < n_tokens))
        yield chunk


def in_order(rows: pa.Table) -> pa.Table:
    """Return activations by latent and token, each column in one piece.

    Args:
        rows: Columns latent, token and value; fast if each chunk is in that order already and
            chunks do not interleave within a latent, as the files of a unit do not.
    """
    pieces = [[column.to_numpy() for column in b.columns] for b in rows.to_batches() if len(b)]
    columns = _joined(pieces) if pieces else [c.to_numpy() for c in COLUMNS.empty_table()]
    latent, token, _ = columns
    if not np.all((latent[1:] > latent[:-1]) | (token[1:] > token[:-1])) or np.any(
        latent[1:] < latent[:-1]
    ):
        order = np.lexsort((token, latent))
        columns = [column[order] for column in columns]
    return pa.table(dict(zip(COLUMNS.names, columns, strict=True)), schema=COLUMNS)


def _joined(pieces: Sequence[list[Array]]) -> list[Array]:
    """Return columns whose runs of one latent lie by (latent, first token)."""
    if len(pieces) == 1:
        return pieces[0]
    starts = [starts_of(piece[0]) for piece in pieces]
    of = np.repeat(np.arange(len(pieces)), [len(s) for s in starts])
    latent, token = (
        np.concatenate([piece[i][s] for piece, s in zip(pieces, starts, strict=True)])
        for i in (0, 1)
    )
    order = np.lexsort((token, latent))
    n_rows = sum(len(piece[0]) for piece in pieces)
    if len(order) * _SHORT > n_rows:
        whole = [np.concatenate(column) for column in zip(*pieces, strict=True)]
        by = np.argsort(whole[0], kind="stable")
        return [column[by] for column in whole]
    stops = [np.append(s[1:], len(piece[0])) for piece, s in zip(pieces, starts, strict=True)]
    begin, end = np.concatenate(starts)[order], np.concatenate(stops)[order]
    runs = list(zip(of[order].tolist(), begin.tolist(), end.tolist(), strict=True))
    moved = [np.concatenate([pieces[p][i][b:e] for p, b, e in runs]) for i in (1, 2)]
    return [np.repeat(latent[order], end - begin), *moved]
