"""The statistics flow: one task a hookpoint, which cuts the corpus into tiles once."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import steps
from lakeinterp.config import Config

from .common import at_work, each_hookpoint, start


@task(task_run_name="statistics {hookpoint}")
def count_hookpoint(config: Config, capture: str, hookpoint: str, run: str) -> int:
    """Write what is missing of a hookpoint's statistics; return the latents counted anew."""
    with at_work(run):
        done = steps.statistics(config, capture, [hookpoint])
    n_new = sum(unit.n_latents for unit in done if unit.is_new)
    get_run_logger().info("%s: %d latents counted in %d units", hookpoint, n_new, len(done))
    return n_new


@flow(name="lakeinterp-statistics")
def statistics(config: Config, capture: str | None = None) -> int:
    """Count what every latent does in the corpus; return the latents counted anew.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
        capture: Capture id; the only one there is if not given.
    """
    return each_hookpoint(count_hookpoint, config, capture)


if __name__ == "__main__":
    start(statistics)
