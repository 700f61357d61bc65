"""The strongest windows of latents, of all that they have: drawn samples seldom hold them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakeinterp.lake.units import captured_sequences
from lakeinterp.terms import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lakeinterp.bridges.base import Export
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Vocabulary
    from lakeinterp.terms import Unit

    Find = Callable[[Unit, Sequence[int]], dict[int, tuple[Example, ...]]]

N_TOP = 20
"""Windows of each latent, of all documents."""
_COLUMNS = (
    "example", "role", "stratum", "quantile", "document", "start", "peak", "peak_offset",
    "population", "weight",
)  # fmt: skip


@contextmanager
def strongest(place: Chosen, options: Export, texts: Vocabulary) -> Iterator[Find]:
    """Give a function that returns the strongest windows of a unit's latents, the first first.

    Windows are cut by the settings' `sampling`, as those of the drawn examples are. Of a capture
    without activations there are none.
    """
    if not captured_sequences(place.lake, place.key["capture"]):
        yield lambda unit, latents: {}  # noqa: ARG005 - as the other one
        return
    from lakeinterp.sampling.examples import draw
    from lakeinterp.sampling.session import open_session

    only = _only(options.config.sampling)
    with open_session(place.lake, place.key["capture"], only, hookpoint=place.name) as session:

        def find(unit: Unit, latents: Sequence[int]) -> dict[int, tuple[Example, ...]]:
            rows = draw(session, unit, latents).to_pylist()
            found: dict[int, list[Example]] = {}
            for row in sorted(rows, key=lambda r: (-r["peak"], r["start"])):
                held = found.setdefault(row["latent"], [])
                if len(held) < N_TOP:
                    held.append(_example(row, texts))
            return {latent: tuple(held) for latent, held in found.items()}

        yield find


def _only(sampling: SamplingConfig) -> SamplingConfig:
    """Return settings that draw the strongest windows of either role and nothing else."""
    none: dict[str, Any] = {
        name: 0 for name in type(sampling).model_fields
        if name.startswith("n_") and name not in ("n_quantiles", "n_nearest")
    }  # fmt: skip
    wanted = {"explain_draw": "top", "score_draw": "top", "n_explain": N_TOP, "n_score": N_TOP}
    return sampling.model_copy(update={**none, **wanted, "min_windows": 1})


def _example(row: dict[str, Any], texts: Vocabulary) -> Example:
    return Example(
        sample=str(row["sample"]),
        tokens=tuple(row["tokens"]),
        values=tuple(row["values"]),
        pieces=texts.pieces(row["tokens"]),
        **{name: row[name] for name in _COLUMNS},
    )
