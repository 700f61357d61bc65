"""The whole of sampling: statistics of every unit, then examples of the chosen latents."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from lakeinterp.lake.units import units
from lakeinterp.sampling.audit import audit_unit
from lakeinterp.sampling.examples import examples_unit
from lakeinterp.sampling.session import open_session, session_for
from lakeinterp.sampling.statistics import statistics_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.config import Config, SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.examples import DrawnUnit, Shortfall
    from lakeinterp.sampling.session import Session
    from lakeinterp.sampling.statistics import CountedUnit
    from lakeinterp.terms import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledUnit:
    """What sampling one unit came to."""

    unit: Unit
    sample: str
    """Digest of the settings and the captured tokens; the examples carry it."""
    n_latents: int
    n_ok: int
    n_rare: int
    n_dead: int
    n_dense: int
    n_selected: int
    """Latents chosen by the settings."""
    n_drawn: int
    """Chosen latents that have examples."""
    n_examples: int
    shortfalls: tuple[Shortfall, ...]
    """What was asked for and is not in the corpus."""
    is_new: bool
    """Whether anything was written; False if the lake held it all."""


def sample_unit(lake: Lake, unit: Unit, config: SamplingConfig) -> SampledUnit:
    """Write the statistics and the examples of one unit and audit what the lake then holds.

    With `config.max_latents` the choice among a hookpoint's latents needs the statistics of all
    of its units: run `statistics_unit` on them first, or use `sample`.

    Raises:
        LakeError: the hookpoint has more units and their statistics are not there.
        AuditFailed: an example breaks a rule.
        Conflict: other writers won every retry.
    """
    with session_for(lake, unit, config, None) as session:
        counted = statistics_unit(lake, unit, config, session=session)
        drawn = examples_unit(lake, unit, config, session=session)
        audit_unit(lake, unit, config, session=session)
    return _sampled(counted, drawn)


def sample(
    lake: Lake,
    config: Config,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    progress: Callable[[str, Unit, int, int], None] | None = None,
) -> list[SampledUnit]:
    """Write statistics and audited examples of every unit; what is there is not made again.

    Args:
        lake: The lake.
        config: `config.sampling` decides.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        progress: Called after each unit with the step (`statistics` or `examples`), the unit,
            and how many units of the step are done and there are.

    Returns:
        One record a unit, in the order of hookpoint and bucket.

    Raises:
        NotFound: no such capture or hookpoint.
        AuditFailed: an example breaks a rule; it was not written.
        Conflict: other writers won every retry.
    """
    name = str(lake.capture(capture)["capture"])
    todo = units(lake, name, hookpoints)
    sampled: list[SampledUnit] = []

    def tell(step: str, unit: Unit, n_done: int) -> None:
        if progress:
            progress(step, unit, n_before + n_done, len(todo))

    for hookpoint, group in groupby(todo, key=lambda unit: unit.hookpoint):
        n_before = len(sampled)
        with open_session(lake, name, config.sampling, hookpoint=hookpoint) as session:
            sampled += _sample_hookpoint(session, list(group), tell)
    return sampled


def _sample_hookpoint(
    session: Session, todo: Sequence[Unit], tell: Callable[[str, Unit, int], None]
) -> list[SampledUnit]:
    """Take each unit through both steps at once, unless the choice of latents needs them all."""
    lake, config = session.lake, session.config
    counted: list[CountedUnit] = []
    sampled: list[SampledUnit] = []

    def draw(counts: Sequence[CountedUnit]) -> None:
        for count in counts:
            drawn = examples_unit(lake, count.unit, config, session=session)
            sampled.append(_sampled(count, drawn))
            tell("examples", count.unit, len(sampled))

    for unit in todo:
        counted.append(statistics_unit(lake, unit, config, session=session))
        tell("statistics", unit, len(counted))
        if config.max_latents is None:
            draw(counted[-1:])
    if config.max_latents is not None:
        draw(counted)
    return sampled


def _sampled(counted: CountedUnit, drawn: DrawnUnit) -> SampledUnit:
    return SampledUnit(
        unit=counted.unit,
        sample=drawn.sample,
        n_latents=counted.n_latents,
        n_ok=counted.n_ok,
        n_rare=counted.n_rare,
        n_dead=counted.n_dead,
        n_dense=counted.n_dense,
        n_selected=drawn.n_selected,
        n_drawn=drawn.n_drawn,
        n_examples=drawn.n_examples,
        shortfalls=drawn.shortfalls,
        is_new=counted.is_new or drawn.is_new,
    )
