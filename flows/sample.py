"""The sample flow: one task a hookpoint, which cuts the corpus into tiles once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task

from lakeinterp import steps
from lakeinterp.config import Config

from .common import at_work, each_hookpoint, start

if TYPE_CHECKING:
    from lakeinterp.terms import Unit


@task(task_run_name="sample {hookpoint}")
def sample_hookpoint(config: Config, capture: str, hookpoint: str, run: str) -> int:
    """Write statistics and audited examples of a hookpoint's units; return its examples.

    A retry goes on with the first unit that is missing.
    """
    log = get_run_logger()

    def progress(step: str, unit: Unit, n_done: int, n_all: int) -> None:
        log.info("%s of %s: %d of %d units", step, unit, n_done, n_all)

    with at_work(run):
        done = steps.sample(config, capture, [hookpoint], progress)
    return sum(unit.n_examples for unit in done)


@flow(name="lakeinterp-sample")
def sample(config: Config, capture: str | None = None) -> int:
    """Compute latent statistics and draw examples; return the number of examples.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
        capture: Capture id; the only one there is if not given.
    """
    return each_hookpoint(sample_hookpoint, config, capture)


if __name__ == "__main__":
    start(sample)
