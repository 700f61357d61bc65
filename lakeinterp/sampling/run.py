"""The whole of sampling: statistics of every unit, then examples of the chosen latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from lakeinterp import telemetry
from lakeinterp.lake.selection import check_condition
from lakeinterp.lake.units import units
from lakeinterp.sampling import neighbours, similar
from lakeinterp.sampling.audit import audit_unit
from lakeinterp.sampling.crew import crew_for
from lakeinterp.sampling.examples import examples_unit
from lakeinterp.sampling.session import session_for
from lakeinterp.sampling.statistics import statistics, statistics_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from lakeinterp.config import Config, SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.crew import Crew
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
    neighbours.prepare(lake, unit.capture, unit.hookpoint, config)
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
    only: Container[Unit] | None = None,
    progress: Callable[[str, Unit, int, int], None] | None = None,
) -> list[SampledUnit]:
    """Write statistics and audited examples of every unit; what is there is not made again.

    Args:
        lake: The lake.
        config: `config.sampling` decides.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        only: Only these units; None takes all. The others' statistics must be there.
        progress: Called after each unit with the step (`neighbours`, `statistics` or
            `examples`), the unit,
            and how many units of the step are done and there are.

    Returns:
        One record a unit, in the order of hookpoint and bucket.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: `sampling.where` is not a condition; nothing was written.
        AuditFailed: an example breaks a rule; it was not written.
        Conflict: other writers won every retry.
    """
    name = str(lake.capture(capture)["capture"])
    check_condition(lake, config.sampling)
    todo = [u for u in units(lake, name, hookpoints) if only is None or u in only]
    similar.prepare(lake, name, config.sampling)
    sampled: list[SampledUnit] = []

    def tell(step: str, unit: Unit, n_done: int) -> None:
        if progress:
            progress(step, unit, n_done, len(todo))

    for hookpoint, group in groupby(todo, key=lambda unit: unit.hookpoint):
        counting = partial(_tell_counted, progress)
        neighbours.prepare(lake, name, hookpoint, config.sampling, progress=counting)
        with crew_for(lake, name, config.sampling, hookpoint=hookpoint) as crew:
            sampled += _sample_hookpoint(crew, list(group), len(sampled), tell)
    return sampled


def _sample_hookpoint(
    crew: Crew, todo: Sequence[Unit], n_before: int, tell: Callable[[str, Unit, int], None]
) -> list[SampledUnit]:
    """Count all units, then draw from each: which latents are chosen may depend on all counts."""

    def count_done(unit: Unit, n_done: int) -> None:
        tell("statistics", unit, n_before + n_done)

    def draw(session: Session, unit: Unit) -> DrawnUnit:
        with telemetry.span("sample unit", unit=str(unit)):
            return examples_unit(crew.lake, unit, crew.config, session=session)

    counted = statistics(crew, todo, count_done)
    for session in crew.sessions:
        session.refresh("latents")
    sampled = []
    for count, drawn in zip(counted, crew.each(draw, todo), strict=True):
        sampled.append(_sampled(count, drawn))
        tell("examples", count.unit, n_before + len(sampled))
    return sampled


def _tell_counted(
    progress: Callable[[str, Unit, int, int], None] | None, unit: Unit, n_done: int, n_all: int
) -> None:
    if progress:
        progress("neighbours", unit, n_done, n_all)


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
