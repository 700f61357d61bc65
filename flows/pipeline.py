"""The whole main job as one flow of the others, and the page at the end."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline as asked
from lakeinterp import steps
from lakeinterp.config import Config
from lakeinterp.errors import ConfigError

from .artifacts import show_page
from .capture import capture
from .common import at_work, one, start
from .explain import explain
from .runners import cluster
from .sample import sample
from .score import score
from .statistics import statistics


@task
def write_report(config: Config, capture: str, run: str) -> str:
    """Write the page beside the lake's tables; return where it is."""
    with at_work(run):
        return str(steps.report(config, capture))


@task
def write_outputs(config: Config, capture: str, run: str) -> int:
    """Write the tokens that latents make likelier; return of how many, or log why of none."""
    with at_work(run):
        try:
            return steps.outputs(config, capture)
        except ConfigError as exc:
            get_run_logger().warning("output tokens: %s", exc)
            return 0


@flow(name="lakeinterp-pipeline")
def pipeline(config: Config) -> str:
    """Capture, sample, explain, score and report; return where the page is.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
    """
    asked.check_chat(config)
    with at_work() as run, cluster(config) as config:
        name = capture(config)
        statistics(config, name)
        sample(config, name)
        one(write_outputs, config, capture=name, run=run)
        with asked.served(config) as asking:
            explained = explain(asking, name)
            judged = score(asking, name)
        page = str(one(write_report, config, capture=name, run=run))
    show_page(config, name, page)
    get_run_logger().info("explained %s; judged %s; page %s", explained, judged, page)
    return page


if __name__ == "__main__":
    start(pipeline)
