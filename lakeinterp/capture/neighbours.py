"""Nearest latents by the cosine of a coder's rows: rows of `neighbours` from its files.

Shapes: B latents of a unit, K neighbours.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakeinterp.capture.loading import find_device
from lakeinterp.capture.points import of_files
from lakeinterp.coders.nearest import Side, directions, nearest
from lakeinterp.config import CaptureConfig
from lakeinterp.errors import ConfigError
from lakeinterp.lake import where
from lakeinterp.lake.units import latents_of, neighbours_app, units
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from lakeinterp.coders import CoderFolder
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Unit

_SIDES: tuple[Side, ...] = ("decoder", "encoder")


def write_neighbours(
    lake: Lake,
    config: Config,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    progress: Callable[[Unit, int, int], None] | None = None,
) -> int:
    """Write the nearest latents by decoder or encoder cosine, as far as sampling needs them.

    Args:
        lake: The lake.
        config: `sampling` says which methods are needed and how many neighbours are kept;
            `capture.device` where the products are made.
        capture: Capture id; None takes the only one there is. Its row names the coders.
        hookpoints: Only these; empty takes all.
        progress: Called after each unit with the unit, how many are done and how many there are.

    Returns:
        Units and methods whose rows were written; those that are there are left as they are.

    Raises:
        NotFound: no such capture, hookpoint or coder.
        ConfigError: the coder's files are not those that were captured, or it has no such rows.
    """
    sampling = config.sampling
    sides = [side for side in _SIDES if side in sampling.methods_needed]
    if not sides:
        return 0
    row = lake.capture(capture)
    stamp = int(digest([row["coder_revision"], sampling.n_nearest]), 16) >> 2 | 1
    found = units(lake, row["capture"], hookpoints)
    todo = _stale(lake, found, sides, stamp)
    if not todo:
        return 0
    coders = _coders(row["config"], row["coder_revision"])
    n_done = 0
    for hookpoint, group in groupby(found, key=lambda unit: unit.hookpoint):
        here = [unit for unit in group if any((unit, side) in todo for side in sides)]
        for side in sides if here else ():
            unit_LD = _directions(coders, hookpoint, side, config)
            for unit in here:
                if (unit, side) in todo:
                    _write(lake, unit, side, unit_LD, config, stamp)
                    n_done += 1
                    if progress:
                        progress(unit, n_done, len(todo))
    return n_done


def _stale(
    lake: Lake, found: Sequence[Unit], sides: Sequence[Side], stamp: int
) -> set[tuple[Unit, Side]]:
    """Return the units and methods whose rows are not there or were made from something else."""
    return {
        (unit, side)
        for unit in found
        for side in sides
        if lake.committed("neighbours", neighbours_app(unit, side)) != stamp
    }


def _coders(captured: str, revision: str) -> CoderFolder:
    """Return the coders that a capture was made with.

    Raises:
        ConfigError: the model was its own coder, there were no files, or they are others by now.
    """
    settings = CaptureConfig.model_validate(json.loads(captured).get("capture", {}))
    if not settings.coder and settings.format != "neurons":
        raise ConfigError(
            "sampling.neighbour_methods: the capture names no coder files; take cooccurrence"
        )
    coders = of_files(settings) if settings.control != "random-coder" else None
    if coders is None:
        kind = "random directions" if settings.control == "random-coder" else "neurons"
        raise ConfigError(
            f"sampling.neighbour_methods: {kind} have no coder files; take cooccurrence"
        )
    if coders.revision != revision:
        raise ConfigError(
            f"sampling.neighbour_methods: {settings.coder} holds other coders than were captured "
            f"({coders.revision}, not {revision}); take cooccurrence, or put them back"
        )
    return coders


def _directions(coders: CoderFolder, hookpoint: str, side: Side, config: Config) -> Tensor:
    spec = next(spec for spec in coders.specs if spec.hookpoint == hookpoint)
    device = find_device(config.capture.device)
    coder = coders.load(spec, str(device), config.capture.encode_chunk_bytes)
    return directions(coder, side)


def _write(lake: Lake, unit: Unit, side: Side, unit_LD: Tensor, config: Config, stamp: int) -> None:
    inside = latents_of(lake, unit)
    latent_BK, cosine_BK = nearest(
        unit_LD,
        slice(inside.start, inside.stop),
        config.sampling.n_nearest,
        config.capture.encode_chunk_bytes,
    )
    cosine, neighbour = cosine_BK.cpu().numpy(), latent_BK.cpu().numpy()
    i, rank = np.nonzero(np.isfinite(cosine))
    constants = {"capture": unit.capture, "hookpoint": unit.hookpoint, "method": side}
    columns = {name: pa.repeat(pa.scalar(text), len(i)) for name, text in constants.items()}
    rows = pa.table(
        {
            **columns,
            "latent": (i + inside.start).astype(np.int32),
            "rank": (rank + 1).astype(np.int32),
            "neighbour": neighbour[i, rank].astype(np.int32),
            "similarity": cosine[i, rank].astype(np.float64),
        }
    )
    key = where(capture=unit.capture, hookpoint=unit.hookpoint, method=side)
    lake.replace(
        "neighbours",
        rows,
        where=f"{key} AND latent >= {inside.start} AND latent < {inside.stop}",
        app=neighbours_app(unit, side),
        version=stamp,
    )
