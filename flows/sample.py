"""The sample flow: statistics of every unit, then the examples of every unit."""

from __future__ import annotations

from prefect import flow, task, unmapped

from lakeinterp.config import Config
from lakeinterp.lake import Lake
from lakeinterp.terms import Unit

from .common import WAITS_S, capture_of, may_work_later, start, units_of


@task(
    retries=2,
    retry_delay_seconds=WAITS_S,
    retry_condition_fn=may_work_later,
    task_run_name="statistics {unit}",
)
def statistics_unit(config: Config, unit: Unit) -> int:
    """Write a unit's latent statistics; return its latents."""
    from lakeinterp.sampling import statistics_unit as work

    return work(Lake(config.lake), unit, config.sampling).n_latents


@task(
    retries=2,
    retry_delay_seconds=WAITS_S,
    retry_condition_fn=may_work_later,
    task_run_name="examples {unit}",
)
def examples_unit(config: Config, unit: Unit) -> int:
    """Draw, audit and write a unit's examples; return how many."""
    from lakeinterp.sampling import audit_unit
    from lakeinterp.sampling import examples_unit as work

    lake = Lake(config.lake)
    drawn = work(lake, unit, config.sampling)
    audit_unit(lake, unit, config.sampling)
    return drawn.n_examples


@flow(name="lakeinterp-sample")
def sample(config: Config, capture: str | None = None) -> int:
    """Compute latent statistics and draw examples; return the number of examples.

    The choice of at most `sampling.max_latents` latents needs the statistics of all units.
    """
    todo = units_of(config, capture or capture_of(config))
    statistics_unit.map(unmapped(config), todo).result()
    return sum(examples_unit.map(unmapped(config), todo).result())


if __name__ == "__main__":
    start(sample)
