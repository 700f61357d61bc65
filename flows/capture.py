"""The capture flow: one task, or several that share the shards, on one machine or on many."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import steps
from lakeinterp.config import Config

from .common import at_work, for_each, start
from .runners import on_cluster

WHOLE = "1/1"


@task(task_run_name="capture {part}", tags=["lakeinterp-capture"])
def capture_shards(config: Config, run: str, part: str) -> str:
    """Capture what is left of a part of the shards; a retry goes on where the first one ended."""
    log = get_run_logger()
    with at_work(run):
        done = steps.capture(_only(config, part))
    for worker in done.lost:
        log.warning("worker %s was lost; the others did its shards", worker)
    if done.n_nonfinite:
        log.warning("%d activations are left out as NaN or infinite", done.n_nonfinite)
    log.info(
        "%s: %d tokens, %d activations, %d shards; %d shards were there",
        done.capture, done.n_tokens, done.n_rows, done.n_shards, done.n_skipped,
    )  # fmt: skip
    return done.capture


@flow(name="lakeinterp-capture")
def capture(config: Config) -> str:
    """Run a model and its sparse coders over a corpus into the lake; return the capture's id.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
    """
    with at_work() as run:
        names = for_each(
            capture_shards, config, gpus=config.flows.gpus, run=run, part=parts_of(config)
        )
        return str(names[0])


def parts_of(config: Config) -> list[str]:
    """Return the parts of the shards that tasks take, as `capture.shards` writes them.

    Of `capture.shards` = 2/3, which is this machine's, two tasks take 2/6 and 5/6.
    """
    flows = config.flows
    n_tasks = flows.capture_parts or (flows.workers if on_cluster(flows) else 1)
    part, n_parts = (int(n) for n in (config.capture.shards or WHOLE).split("/"))
    return [f"{part + n_parts * i}/{n_parts * n_tasks}" for i in range(n_tasks)]


def _only(config: Config, part: str) -> Config:
    if part == WHOLE:
        return config
    own = config.capture.model_copy(update={"shards": part})
    return config.model_copy(update={"capture": own})


if __name__ == "__main__":
    start(capture)
