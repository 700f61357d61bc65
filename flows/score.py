"""The score flow: one task a unit, then the pooled null of each hookpoint."""

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
    task_run_name="score {unit}",
)
def score_unit(config: Config, unit: Unit, run: str) -> dict[str, int]:
    """Judge a unit's explanations and borrowed ones; return judgements by status."""
    return dict(pipeline.score(config, run=run, unit=unit).counts)


@task(retries=2, retry_delay_seconds=WAITS_S, retry_condition_fn=may_work_later)
def finish(config: Config, capture: str, run: str) -> int:
    """Rank every score in its hookpoint's null; return the scores that changed."""
    return pipeline.finish(config, capture, config.capture.hookpoints, run=run)


@flow(name="lakeinterp-score")
def score(config: Config, capture: str | None = None) -> dict[str, int]:
    """Say how far each explanation can be trusted; return the judgements written, by status."""
    pipeline.check_chat(config)
    capture, run = capture or capture_of(config), pipeline.new_run()
    pipeline.check_explained(config, capture, config.capture.hookpoints)
    with pipeline.served(config) as asking:
        written = for_each(score_unit, asking, unit=units_of(config, capture), run=run)
        finish(asking, capture, run)
    return pipeline.total(written)


if __name__ == "__main__":
    start(score)
