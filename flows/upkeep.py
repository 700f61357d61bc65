"""The upkeep flow: many small files become few, and files that nothing names go."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import steps
from lakeinterp.config import Config
from lakeinterp.lake.upkeep import RETENTION_HOURS

from .common import at_work, one, start


@task
def compact(config: Config, run: str) -> int:
    """Merge small files; return how many fewer there are."""
    with at_work(run):
        done = steps.compact(config)
    get_run_logger().info("%d files are %d now", done.n_files_before, done.n_files_after)
    return done.n_files_before - done.n_files_after


@task
def vacuum(config: Config, retention_hours: float, run: str) -> int:
    """Delete files that no commit names; return how many."""
    with at_work(run):
        done = steps.vacuum(config, retention_hours)
    get_run_logger().info("%d files deleted, %d bytes", len(done.files), done.n_bytes)
    return len(done.files)


@flow(name="lakeinterp-upkeep")
def upkeep(config: Config, retention_hours: float = RETENTION_HOURS) -> dict[str, int]:
    """Merge small files and delete dead ones; return how many were merged away and deleted.

    Args:
        config: Every setting, as `lakeinterp config` lists them.
        retention_hours: Files that were replaced or written later than this stay, for readers
            and writers that are at work.
    """
    with at_work() as run:
        merged = one(compact, config, run=run)
        deleted = one(vacuum, config, retention_hours=retention_hours, run=run)
    return {"merged": merged, "deleted": deleted}


if __name__ == "__main__":
    start(upkeep)
