"""Draws of one unit's windows: which activating ones, which silent ones, and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.sampling import strata
from lakeinterp.sampling.positives import eligible, positives
from lakeinterp.sampling.rows import rows_of
from lakeinterp.sampling.silence import Silent, offered_windows, random_windows
from lakeinterp.sampling.tiles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakeinterp.config import SamplingConfig
    from lakeinterp.sampling.positives import Positives
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Role, Stratum, Unit

    Ints = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The activating windows of some latents of a unit."""

    latents: Ints
    """Those with enough windows, ascending."""
    by_role: tuple[Positives, ...]
    """In the order of `tiles.ROLES`."""


def asked(config: SamplingConfig) -> dict[str, list[Any]]:
    """Return what a latent is to have: role, stratum and number, as parameters of statements."""
    wanted: dict[tuple[Role, Stratum], int] = {
        ("explain", "activating"): config.n_explain,
        ("explain", "random"): config.n_explain_negatives,
        ("score", "activating"): config.n_score,
        ("score", "random"): config.n_random,
        **strata.asked(config),
    }
    return {
        "roles": [role for role, _ in wanted],
        "strata": [stratum for _, stratum in wanted],
        "n_asked": list(wanted.values()),
    }


def draw_windows(session: Session, unit: Unit, latents: Sequence[int]) -> pa.Table:
    """Return the examples of some latents of a unit: columns of `examples` that no unit decides."""
    session.windows(unit, latents)
    drawn = draw_positives(session, latents)
    silent = draw_negatives(session, unit, drawn)
    return rows_of(session.found, session.tiles, drawn.latents, drawn.by_role, silent)


def draw_positives(session: Session, latents: Sequence[int]) -> Drawn:
    """Draw activating windows of those latents that have enough.

    Leaves the relation `cells`, which names these latents, for statements that come after.

    Args:
        session: With the windows of these latents.
        latents: Those to draw for.
    """
    config = session.config
    able = eligible(session.found, np.array(sorted(latents), dtype=np.int32), config.min_windows)
    session.show("cells", pa.table({"latent": able.astype(np.int32)}))
    how = ((config.n_explain, config.explain_draw), (config.n_score, config.score_draw))
    return Drawn(
        latents=able,
        by_role=tuple(
            positives(session.found, session.tiles, able, role, n, draw, config, session.setting)
            for role, (n, draw) in enumerate(how)
        ),
    )


def draw_negatives(session: Session, unit: Unit, drawn: Drawn) -> tuple[Silent, ...]:
    """Draw windows without the latent, of every stratum asked for, by role.

    Args:
        session: With the windows of the unit.
        unit: Of the latents.
        drawn: Their activating windows.
    """
    config, tiles = session.config, session.tiles
    found = [
        random_windows(
            session.found,
            tiles,
            drawn.latents,
            role,
            n,
            drawn.by_role[role].n_windows,
            config.seed,
            session.setting,
        )
        for role, n in enumerate((config.n_explain_negatives, config.n_random))
    ]
    if strata.asked(config) and len(drawn.latents):
        strata.candidates(session, unit, drawn.latents.tolist())
        offered = queries.load("strata/offered").table(session.con)
        for role, taken in enumerate(found):
            hard = offered_windows(
                session.found,
                tiles,
                drawn.latents,
                role,
                offered,
                taken,
                config.seed,
                session.setting,
            )
            found[role] = Silent.joined([taken, hard])
    assert len(found) == len(ROLES)
    return tuple(found)
