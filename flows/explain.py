"""The explain flow: one task a unit."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline
from lakeinterp.config import Config
from lakeinterp.terms import Unit

from .artifacts import show_costs, show_counts
from .common import CHAT, at_work, capture_of, for_each, shared, start, units_of


@task(task_run_name="explain {unit}")
def explain_unit(config: Config, unit: Unit, run: str) -> dict[str, int]:
    """Explain a unit's latents that have no finished explanation; return rows by status."""
    with at_work(run):
        done = pipeline.explain(config, run=run, unit=unit, within_s=config.flows.timeout_s)
    get_run_logger().info("%s: %s", dict(done.counts) or "nothing to do", done.calls or "no calls")
    return dict(done.counts)


@flow(name="lakeinterp-explain")
def explain(config: Config, capture: str | None = None) -> dict[str, int]:
    """Say what each latent means; return the explanations written, by status.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
        capture: Capture id; the only one there is if not given.
    """
    pipeline.check_chat(config)
    named = capture or capture_of(config)
    todo = units_of(config, pipeline.check_sampled(config, named, config.capture.hookpoints))
    tags = [CHAT] if pipeline.needs_chat(config, "explain") else []
    with at_work() as run, pipeline.served(config) as asking:
        own = shared(asking, len(todo))
        written = pipeline.total(for_each(explain_unit, own, tags=tags, unit=todo, run=run))
    show_counts("explain", written)
    show_costs(config, named)
    return written


if __name__ == "__main__":
    start(explain)
