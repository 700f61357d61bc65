"""Settings of flows, reports and the served page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakeinterp.config.section import Positive, Section


class FlowsConfig(Section):
    """How the Prefect flows run."""

    runner: Literal["threads", "processes", "dask", "ray"] = "threads"
    """What runs a flow's tasks: threads of its process, processes beside it, or the machines of a
    Dask or Ray cluster."""
    cluster: str | None = None
    """Where the Dask scheduler or Ray answers: `tcp://host:8786`, `ray://host:10001`; not set, a
    cluster of this machine is there while the flow runs."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that each capture task needs: the resource `GPU` of Dask workers, `num_gpus` of Ray."""
    capture_parts: Positive | None = None
    """Tasks that share the shards of a capture; as many as `flows.workers` with Dask and Ray, else
    one if not set."""
    workers: Positive = 2
    """Tasks at one time; each needs memory for its own unit or hookpoint. Limits of language model
    calls hold for all of them together."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a task is tried again that failed by what may pass: a lost connection, another
    writer, a time-out. What is wrong with a setting is never tried again."""
    retry_waits_s: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (
        10.0,
        60.0,
    )
    """Seconds before the first retry, the second and so on; the last one holds for all after."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a capture, or a unit that is explained or scored, is stopped and tried
    again; no limit if not set. What it committed stays, and replies that were paid for too.
    Statistics, samples and re-scoring have no limit."""
    tags: tuple[str, ...] = ()
    """Tags of every task beside its own, `lakeinterp` and the step; tasks that ask a language model
    also have `lakeinterp-chat`. `prefect concurrency-limit create TAG N` holds each to N at one
    time, over all flows of a server."""
    page_url: str | None = None
    """Where people open the page, as https://host/report.html; its file if not set."""


class ReportConfig(Section):
    """What the page shows."""

    title: str = "lakeinterp report"
    """Heading of the page."""
    max_latents: Positive = 500
    """Latents shown in full, best score first; the rest are counted."""
    examples_per_section: Positive = 3
    """Examples shown for each quantile or stratum of a role."""


class ServeConfig(Section):
    """The page that `lakeinterp serve` gives."""

    page_latents: Positive = 50
    """Latents on one page of a list."""
    sql_seconds: Positive = 60
    """Time that a statement of the SQL box may take."""
    sql_rows: Positive = 1000
    """Rows of its result that are shown."""
    download_rows: Positive = 1_000_000
    """Rows of its result that a download holds at most."""
    sql_memory: Annotated[str, Field(pattern=r"^[1-9]\d*(\.\d+)? ?[KMGT]i?B$")] = "2GB"
    """Memory that a statement may use before it spills to the disk, as `2GB`."""
