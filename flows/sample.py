"""The sample flow: one task a hookpoint, which cuts the corpus into tiles once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task

from lakeinterp.config import Config
from lakeinterp.lake import Lake

from .common import WAITS_S, capture_of, for_each, may_work_later, start, units_of

if TYPE_CHECKING:
    from lakeinterp.terms import Unit


@task(
    retries=2,
    retry_delay_seconds=WAITS_S,
    retry_condition_fn=may_work_later,
    task_run_name="sample {hookpoint}",
)
def sample_hookpoint(config: Config, capture: str, hookpoint: str) -> int:
    """Write statistics and audited examples of a hookpoint's units; return its examples.

    A retry goes on with the first unit that is missing.
    """
    from lakeinterp.sampling import sample as sample_now

    log = get_run_logger()

    def progress(step: str, unit: Unit, n_done: int, n_all: int) -> None:
        log.info("%s of %s: %d of %d units", step, unit, n_done, n_all)

    lake = Lake(config.lake, storage_options=config.store_options())
    if config.sampling.needs_coder:
        from lakeinterp.capture.neighbours import write_neighbours

        write_neighbours(lake, config, capture=capture, hookpoints=[hookpoint])
    done = sample_now(lake, config, capture=capture, hookpoints=[hookpoint], progress=progress)
    return sum(unit.n_examples for unit in done)


@flow(name="lakeinterp-sample")
def sample(config: Config, capture: str | None = None) -> int:
    """Compute latent statistics and draw examples; return the number of examples."""
    capture = capture or capture_of(config)
    hookpoints = list(dict.fromkeys(unit.hookpoint for unit in units_of(config, capture)))
    return sum(for_each(sample_hookpoint, config, capture=capture, hookpoint=hookpoints))


if __name__ == "__main__":
    start(sample)
