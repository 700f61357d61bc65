"""The explain flow: one task a unit."""

from __future__ import annotations

from prefect import flow, task

from lakeinterp import pipeline
from lakeinterp.config import Config
from lakeinterp.terms import Unit

from .common import WAITS_S, capture_of, for_each, may_work_later, start, units_of


@task(
    retries=2,
    retry_delay_seconds=WAITS_S,
    retry_condition_fn=may_work_later,
    task_run_name="explain {unit}",
)
def explain_unit(config: Config, unit: Unit, run: str) -> dict[str, int]:
    """Explain a unit's latents that have no finished explanation; return rows by status."""
    return dict(pipeline.explain(config, run=run, unit=unit).counts)


@flow(name="lakeinterp-explain")
def explain(config: Config, capture: str | None = None) -> dict[str, int]:
    """Say what each latent means; return the explanations written, by status."""
    pipeline.check_chat(config)
    capture = pipeline.check_sampled(
        config, capture or capture_of(config), config.capture.hookpoints
    )
    todo = units_of(config, capture)
    with pipeline.served(config) as asking:
        return pipeline.total(for_each(explain_unit, asking, unit=todo, run=pipeline.new_run()))


if __name__ == "__main__":
    start(explain)
