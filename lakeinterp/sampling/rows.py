"""Drawn windows as rows of `examples`: numbered, with their text and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.sampling.arrays import order_by, pieces, places
from lakeinterp.sampling.silence import NONE, STRATA
from lakeinterp.sampling.tiles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakeinterp.sampling.positives import Positives
    from lakeinterp.sampling.runs import Windows
    from lakeinterp.sampling.silence import Silent
    from lakeinterp.sampling.tiles import Tiles

    Ints = npt.NDArray[Any]
    Columns = dict[str, Ints]

_ACTIVATING = STRATA.index("activating")
_RANDOM = STRATA.index("random")


def rows_of(
    windows: Windows,
    tiles: Tiles,
    latents: Ints,
    positives: Sequence[Positives],
    silent: Sequence[Silent],
) -> pa.Table:
    """Return drawn windows as rows, numbered within the latent by role, stratum, quantile and draw.

    Args:
        windows: Of the unit.
        tiles: Of the corpus.
        latents: Those drawn for.
        positives: Activating windows, by role.
        silent: The others, by role.
    """
    parts = [_active(windows, tiles, role, found) for role, found in enumerate(positives)]
    parts += [_silent(tiles, role, found, len(latents)) for role, found in enumerate(silent)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kind = (columns["group"] * len(ROLES) + columns["role"]) * len(STRATA) + columns["stratum"]
    width = int(columns["quantile"].max(initial=0)) + 1
    order = order_by(kind * width + columns["quantile"], columns["draw"])
    columns = {name: column[order] for name, column in columns.items()}
    columns["latent"] = latents[columns["group"]]
    return _table(columns, windows, tiles)


def _active(windows: Windows, tiles: Tiles, role: int, found: Positives) -> Columns:
    of, n = found.window, len(found.window)
    return {
        "group": found.group,
        "role": np.full(n, role),
        "stratum": np.full(n, _ACTIVATING),
        "quantile": windows.quantile[of],
        "draw": found.draw,
        "document": tiles.document[windows.number[of]],
        "start": found.start,
        "length": found.length,
        "peak": windows.peak[of],
        "peak_offset": windows.peak_token[of] - found.start,
        "population": found.population,
        "weight": found.weight,
        "neighbour": np.full(n, NONE),
        "similarity": np.full(n, np.nan),
    }


def _silent(tiles: Tiles, role: int, found: Silent, n_latents: int) -> Columns:
    n = len(found.group)
    is_random = found.stratum == _RANDOM
    drawn = np.bincount(found.group[is_random], minlength=n_latents)
    share = found.population / np.maximum(drawn, 1)[found.group]
    return {
        "group": found.group,
        "role": np.full(n, role),
        "stratum": found.stratum,
        "quantile": np.zeros(n, dtype=np.int32),
        "draw": np.arange(n),
        "document": tiles.document[found.number],
        "start": found.start,
        "length": found.length,
        "peak": np.zeros(n, dtype=np.float32),
        "peak_offset": np.full(n, NONE),
        "population": found.population,
        # The other strata are chosen for being hard, so they stand for nothing.
        "weight": np.where(is_random, share, np.nan),
        "neighbour": found.neighbour,
        "similarity": found.similarity,
    }


def _table(columns: Columns, windows: Windows, tiles: Tiles) -> pa.Table:
    length = columns["length"]
    edges = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    text = pieces(tiles.text, columns["start"], length)
    return pa.table(
        {
            "latent": columns["latent"].astype(np.int32),
            "example": places(columns["group"]).astype(np.int32),
            "role": _named(columns["role"], ROLES),
            "stratum": _named(columns["stratum"], STRATA),
            "quantile": _numbers(columns["quantile"], pa.int32(), columns["quantile"] == 0),
            "document": columns["document"],
            "start": columns["start"],
            "tokens": pa.ListArray.from_arrays(edges, text),
            "values": pa.ListArray.from_arrays(edges, _values(columns, edges, windows, tiles)),
            "peak": columns["peak"],
            "peak_offset": _numbers(columns["peak_offset"], pa.int32()),
            "population": _numbers(columns["population"], pa.int64()),
            "weight": pa.array(columns["weight"], mask=np.isnan(columns["weight"])),
            "neighbour": _numbers(columns["neighbour"], pa.int32()),
            "similarity": pa.array(columns["similarity"], mask=np.isnan(columns["similarity"])),
        }
    )


def _values(columns: Columns, edges: Ints, windows: Windows, tiles: Tiles) -> Ints:
    """Return the activations over all windows, one behind the other, zero where silent.

    Only activating windows are looked up: the others were chosen for being silent.
    """
    flat = np.zeros(edges[-1], dtype=np.float32)
    shown = np.flatnonzero(columns["stratum"] == _ACTIVATING)
    start, length = columns["start"][shown], columns["length"][shown]
    row, of = windows.activations(
        columns["latent"][shown], tiles.of_token[start], tiles.of_token[start + length - 1]
    )
    offset = windows.token[row] - start[of]
    inside = (offset >= 0) & (offset < length[of])
    flat[edges[shown[of[inside]]] + offset[inside]] = windows.value[row[inside]]
    return flat


def _named(numbers: Ints, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(numbers.astype(np.int32), list(names))


def _numbers(column: Ints, kind: pa.DataType, is_null: Ints | None = None) -> pa.Array:
    """Return whole numbers, null where there is none."""
    mask = column == NONE if is_null is None else is_null
    return pa.array(np.where(mask, 0, column), kind, mask=mask)
