"""The tiles of a corpus as arrays: what windows are placed in and negatives are walked over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow.compute as pc

from lakeinterp.lake import queries
from lakeinterp.terms import Role

if TYPE_CHECKING:
    import duckdb
    import numpy.typing as npt

    Ints = npt.NDArray[Any]

ROLES: tuple[Role, ...] = get_args(Role)
"""A role's number is its place here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The units of population; see `sql/sampling/tiles.sql`. Shape [tiles] where not said."""

    tile: Ints
    """First token."""
    length: Ints
    document: Ints
    role: Ints
    """Number in `ROLES`."""
    first: Ints
    """First token of the document within the sequence."""
    stop: Ints
    """Token after its last one."""
    rings: tuple[tuple[Ints, Ints], ...]
    """For each role its tiles by their place on the ring: places and numbers; int64 and int32."""
    text: Ints
    """Token id of each captured token; shape [tokens]."""
    of_token: Ints
    """Number of the tile of each captured token, -1 where no document is; shape [tokens]."""

    def __len__(self) -> int:
        return len(self.tile)


def read_tiles(con: duckdb.DuckDBPyConnection) -> Tiles:
    """Return the tables `tiles` and `lookup` of a connection as arrays."""
    rows = queries.load("sampling/placed").table(con)
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    ring, is_score = columns.pop("ring"), columns.pop("is_score")
    rings = []
    for role in range(len(ROLES)):
        numbers = np.flatnonzero(is_score == role)
        numbers = numbers[np.argsort(ring[numbers], kind="stable")].astype(np.int32)
        rings.append((ring[numbers], numbers))
    answers = con.sql("SELECT tile_of, text FROM lookup").to_arrow_table()
    return Tiles(
        **columns,
        role=is_score.astype(np.int8),
        rings=tuple(rings),
        text=pc.fill_null(pc.list_flatten(answers["text"]), -1).to_numpy(),
        of_token=pc.fill_null(pc.list_flatten(answers["tile_of"]), -1).to_numpy(),
    )
