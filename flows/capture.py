"""The capture flow: one task that runs the model and commits shard after shard."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp.config import Config

from .common import WAITS_S, may_work_later, start


@task(
    retries=2,
    retry_delay_seconds=WAITS_S,
    retry_condition_fn=may_work_later,
    task_run_name="capture",
)
def capture_shards(config: Config) -> str:
    """Capture what is left to capture; a retry goes on with the first shard that is missing."""
    from lakeinterp.capture import capture as capture_now
    from lakeinterp.lake import Lake

    done = capture_now(Lake(config.lake, storage_options=config.store_options()), config)
    log = get_run_logger()
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
    """Run a model and its sparse coders over a corpus into the lake; return the capture's id."""
    return str(capture_shards(config))


if __name__ == "__main__":
    start(capture)
