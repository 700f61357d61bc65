"""Hard negatives: which tiles may stand for each stratum, where the target is silent.

A stratum is a condition on silent tiles: they hold a token on which the latent peaks
(`same_token`), one of the latent's nearest fires there (`neighbour`), or their text is near that of
the latent's own windows (`similar`). What is made here are candidates in the order of the draw, a
few more than asked for; `lakeinterp.sampling.examples` places the windows and takes the first that
do not overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from lakeinterp.errors import LakeError
from lakeinterp.lake import queries
from lakeinterp.lake.units import neighbours_app
from lakeinterp.sampling import near, similar
from lakeinterp.sampling.session import shown_as

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Role, Stratum, Unit

_Step = Callable[["Session", "Unit", dict[str, int]], None]
N_PEAK_TOKENS = 10
"""Token ids on which a latent peaks most often that its same-token windows are about."""


def asked(config: SamplingConfig) -> dict[tuple[Role, Stratum], int]:
    """Return how many windows of each hard stratum each role is to have; those above zero."""
    every: dict[tuple[Role, Stratum], int] = {
        ("explain", "same_token"): config.n_explain_same_token,
        ("explain", "neighbour"): config.n_explain_neighbour,
        ("explain", "similar"): config.n_explain_similar,
        ("score", "same_token"): config.n_same_token,
        ("score", "neighbour"): config.n_neighbour,
        ("score", "similar"): config.n_similar,
    }
    return {kind: n for kind, n in every.items() if n}


def candidates(session: Session, unit: Unit, latents: Sequence[int]) -> None:
    """Make the table `candidates`: for each latent, role and stratum asked for, tiles in order.

    Args:
        session: With the tables `tiles`, `lookup`, `windows` and `cells`.
        unit: Of the latents.
        latents: Those that windows are drawn for.

    Raises:
        LakeError: neighbours are wanted and the lake holds none of this hookpoint.
        MissingExtra: similar text is wanted and the packages for it are not installed.
    """
    del latents  # The table `cells` has those of them that windows are drawn for.
    session.run("strata/candidates")
    wanted: dict[Stratum, dict[str, int]] = defaultdict(lambda: {"n_explain": 0, "n_score": 0})
    for (role, stratum), number in asked(session.config).items():
        wanted[stratum][f"n_{role}"] = number
    steps: dict[Stratum, _Step] = {
        "same_token": _same_token,
        "neighbour": _neighbour,
        "similar": _similar,
    }
    for stratum, n in wanted.items():
        steps[stratum](session, unit, n)


def _same_token(session: Session, unit: Unit, n: dict[str, int]) -> None:
    del unit
    last = _n_tiles(session) - 1
    if last < 0:
        return
    session.once("strata/spelled")
    session.once("strata/spellings")
    session.once("strata/role_bits", last=last)
    session.run("strata/peak_tokens", n_tokens=N_PEAK_TOKENS)
    session.run("strata/token_bits", last=last)
    session.run("strata/fired_bits", last=last)
    session.run("strata/same_token", seed=session.config.seed, **n)


def _neighbour(session: Session, unit: Unit, n: dict[str, int]) -> None:
    config = session.config
    hookpoint = {"capture": unit.capture, "hookpoint": unit.hookpoint}
    _require_neighbours(session, unit)
    session.widen("neighbours", **hookpoint)
    session.run(
        "strata/near",
        methods=list(config.neighbour_methods),
        n_nearest=config.n_nearest,
        seed=config.seed,
        **hookpoint,
    )
    session.widen("activations", **hookpoint)
    wanted = queries.load("strata/wanted").table(session.con)
    fires = near.fires_of(session, unit, set(wanted["neighbour"].to_pylist()))
    active = queries.load("strata/active").table(session.con)
    found = near.draw(fires, wanted, active, _by_role(n), config.neighbour_share)
    with shown_as(session, "near_tiles", found):
        session.run("strata/neighbour", **n)


def _similar(session: Session, unit: Unit, n: dict[str, int]) -> None:
    del unit
    similar.nearest(session, n)


def _by_role(n: dict[str, int]) -> dict[str, int]:
    return {name.removeprefix("n_"): wanted for name, wanted in n.items()}


def _require_neighbours(session: Session, unit: Unit) -> None:
    missing = [
        method
        for method in session.config.methods_needed
        if not session.lake.committed("neighbours", neighbours_app(unit, method))
    ]
    if missing:
        raise LakeError(
            f"{unit}: the lake holds no neighbours by {' and '.join(missing)}; "
            "`lakeinterp sample` makes them"
        )


def _n_tiles(session: Session) -> int:
    ((n,),) = session.con.execute("SELECT count(*) FROM tiles").fetchall()
    return int(n)
