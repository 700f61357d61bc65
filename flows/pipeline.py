"""The whole main job as one flow of the four others, and the page at the end."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline as steps
from lakeinterp.config import Config
from lakeinterp.lake import Lake

from .capture import capture
from .common import start
from .explain import explain
from .sample import sample
from .score import score


@task
def write_report(config: Config, capture_id: str) -> str:
    """Write the page beside the lake's tables; return where it is."""
    from lakeinterp.report import write_page

    lake = Lake(config.lake, storage_options=config.store_options())
    folder = Path(lake.root) if lake.store.is_local else Path()
    return str(write_page(lake, folder / "report.html", config, capture=capture_id))


@flow(name="lakeinterp-pipeline")
def pipeline(config: Config) -> str:
    """Capture, sample, explain, score and report; return where the page is."""
    steps.check_chat(config)
    capture_id = capture(config)
    sample(config, capture_id)
    with steps.served(config) as asking:
        explained = explain(asking, capture_id)
        judged = score(asking, capture_id)
    page = write_report(config, capture_id)
    get_run_logger().info("explained %s; judged %s; page %s", explained, judged, page)
    return page


if __name__ == "__main__":
    start(pipeline)
