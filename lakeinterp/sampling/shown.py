"""Rows of `examples` as arrays, for the checks before they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeinterp.sampling.arrays import starts_of
from lakeinterp.sampling.silence import STRATA, filled
from lakeinterp.sampling.tiles import ROLES

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[Any]
    Floats = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Rows of `examples` as arrays; shape [examples] where not said, `NONE` for what is null."""

    latents: Ints
    """Those that have rows, ascending; shape [latents]."""
    group: Ints
    """Place of the latent among them."""
    example: Ints
    role: Ints
    stratum: Ints
    quantile: Ints
    document: Ints
    start: Ints
    length: Ints
    """Tokens."""
    n_values: Ints
    tokens: Ints
    """One example behind the other; shape [tokens]."""
    values: Floats
    peak: Floats
    peak_offset: Ints
    population: Ints
    neighbour: Ints
    weight: Floats
    """NaN for null."""

    @classmethod
    def of(cls, rows: pa.Table) -> Shown:
        """Return rows as arrays.

        Raises:
            KeyError: a role or a stratum that there is not.
        """
        latent = rows["latent"].to_numpy()
        latents = np.sort(latent)
        latents = latents[starts_of(latents)]
        texts, values = (_whole(rows[name]) for name in ("tokens", "values"))
        numbers = ("quantile", "peak_offset", "population", "neighbour")
        return cls(
            latents=latents,
            group=np.searchsorted(latents, latent),
            role=_numbered(rows["role"], ROLES),
            stratum=_numbered(rows["stratum"], STRATA),
            length=np.diff(texts.offsets.to_numpy()),
            n_values=np.diff(values.offsets.to_numpy()),
            tokens=texts.flatten().to_numpy(),
            values=values.flatten().to_numpy(),
            weight=pc.fill_null(rows["weight"], np.nan).to_numpy(),
            **{name: rows[name].to_numpy() for name in ("example", "document", "start", "peak")},
            **{name: filled(rows[name]) for name in numbers},
        )

    @property
    def kind(self) -> Ints:
        """Number of latent, role and stratum."""
        return (self.group * len(ROLES) + self.role) * len(STRATA) + self.stratum


def _numbered(column: pa.ChunkedArray, names: tuple[str, ...]) -> Ints:
    """Return the place of each text among some names.

    Raises:
        KeyError: a text is none of them.
    """
    found = pc.index_in(column.cast(pa.string()), pa.array(names))
    if found.null_count:
        raise KeyError(names)
    numbers: Ints = found.to_numpy()
    return numbers


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, without a copy where it is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
