"""The score flow: one task a unit, then the pooled null of each hookpoint."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline
from lakeinterp.config import Config
from lakeinterp.terms import Unit

from .artifacts import show_costs, show_counts, show_results
from .common import CHAT, at_work, capture_of, for_each, one, shared, start, units_of


@task(task_run_name="score {unit}")
def score_unit(config: Config, unit: Unit, run: str) -> dict[str, int]:
    """Judge a unit's explanations and borrowed ones; return judgements by status."""
    with at_work(run):
        done = pipeline.score(config, run=run, unit=unit, within_s=config.flows.timeout_s)
    get_run_logger().info("%s: %s", dict(done.counts) or "nothing to do", done.calls or "no calls")
    return dict(done.counts)


@task
def finish(config: Config, capture: str, run: str) -> int:
    """Rank every score in its hookpoint's null; return the scores that changed."""
    with at_work(run):
        return pipeline.finish(config, capture, config.capture.hookpoints, run=run)


@flow(name="lakeinterp-score")
def score(config: Config, capture: str | None = None) -> dict[str, int]:
    """Say how far each explanation can be trusted; return the judgements written, by status.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
        capture: Capture id; the only one there is if not given.
    """
    pipeline.check_chat(config)
    capture = capture or capture_of(config)
    pipeline.check_explained(config, capture, config.capture.hookpoints)
    todo = units_of(config, capture)
    tags = [CHAT] if pipeline.needs_chat(config, "score") else []
    with at_work() as run, pipeline.served(config) as asking:
        own = shared(asking, len(todo))
        written = pipeline.total(for_each(score_unit, own, tags=tags, unit=todo, run=run))
        one(finish, config, capture=capture, run=run)
    show_counts("score", written)
    show_costs(config, capture)
    show_results(config, capture)
    return written


if __name__ == "__main__":
    start(score)
