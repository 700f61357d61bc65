"""The steps that ask no language model, as plain functions of the configuration.

Flows call these and `lakeinterp.pipeline`; nothing here knows of Prefect. Each does what is left
to do, so that running one again after a kill, or with more tokens, completes the lake.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lakeinterp import telemetry
from lakeinterp.lake import open_lake, units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.capture.run import Captured, Progress
    from lakeinterp.config import Config
    from lakeinterp.lake.compaction import Compacted
    from lakeinterp.lake.upkeep import Vacuumed
    from lakeinterp.sampling.run import SampledUnit
    from lakeinterp.sampling.statistics import CountedUnit
    from lakeinterp.terms import Unit

    Told = Callable[[str, Unit, int, int], None]


def capture(config: Config, progress: Progress | None = None) -> Captured:
    """Run the model over what is not captured yet; see `lakeinterp.capture.capture`."""
    from lakeinterp.capture import capture as capture_now

    with telemetry.span("capture"):
        done = capture_now(open_lake(config), config, progress=_Shards(progress))
    telemetry.count("tokens", done.n_tokens, step="capture")
    telemetry.count("rows", done.n_rows, step="capture", status="ok")
    return done


class _Shards:
    """Tells of every shard that is committed, from the commit before on."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._began_s = progress, time.time()

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        if n_bytes:
            telemetry.past("capture shard", self._began_s, rows=rows, bytes=n_bytes)
            self._began_s = time.time()
        if self._progress is not None:
            self._progress(tokens=tokens, total=total, rows=rows, n_bytes=n_bytes)


def statistics(
    config: Config,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    progress: Told | None = None,
) -> list[CountedUnit]:
    """Write what is missing of the latents' statistics, without drawing examples.

    Args:
        config: The settings.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        progress: Called after each unit with the step, the unit, and how many of a hookpoint's
            units are done and there are.

    Returns:
        One record a unit, in the order of hookpoint and bucket.

    Raises:
        NotFound: no such capture or hookpoint.
        Conflict: other writers won every retry.
    """
    from lakeinterp.sampling.crew import crew_for
    from lakeinterp.sampling.statistics import statistics as count

    lake, counted = open_lake(config), list["CountedUnit"]()
    name = str(lake.capture(capture)["capture"])
    with telemetry.span("statistics", capture=name):
        for hookpoint in hookpoints_of(config, name, hookpoints):
            todo = units.units(lake, name, [hookpoint])

            def tell(unit: Unit, n_done: int, n_all: int = len(todo)) -> None:
                if progress is not None:
                    progress("statistics", unit, n_done, n_all)

            with crew_for(lake, name, config.sampling, hookpoint=hookpoint) as crew:
                counted += count(crew, todo, tell)
    telemetry.count("rows", sum(u.n_latents for u in counted if u.is_new), step="statistics")
    return counted


def sample(
    config: Config,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    progress: Told | None = None,
) -> list[SampledUnit]:
    """Write what is missing of statistics and examples; see `lakeinterp.sampling.sample`."""
    from lakeinterp.sampling import sample as sample_now

    lake = open_lake(config)
    with telemetry.span("sample"):
        if config.sampling.needs_coder:
            from lakeinterp.capture.neighbours import write_neighbours

            told = partial(progress, "neighbours") if progress is not None else None
            write_neighbours(lake, config, capture=capture, hookpoints=hookpoints, progress=told)
        done = sample_now(lake, config, capture=capture, hookpoints=hookpoints, progress=progress)
    telemetry.count("rows", sum(u.n_examples for u in done if u.is_new), step="sample")
    return done


def outputs(
    config: Config,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    *,
    n_tokens: int = 10,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Write what latents do to the logits; see `lakeinterp.subject.projected.write_outputs`.

    The model is let go of afterwards: a device's memory may be wanted for a server.
    """
    from lakeinterp import subject
    from lakeinterp.subject.projected import write_outputs

    lake = open_lake(config)
    with telemetry.span("outputs"):
        try:
            return write_outputs(
                lake, config,
                capture=capture, hookpoints=hookpoints, n_tokens=n_tokens, progress=progress,
            )  # fmt: skip
        finally:
            subject.close()


def report(config: Config, capture: str | None = None) -> Path:
    """Write the page beside the lake's tables, or here if they are not on a disk; say where."""
    from lakeinterp.report import write_page

    lake = open_lake(config)
    folder = Path(lake.root) if lake.store.is_local else Path()
    with telemetry.span("report"):
        return write_page(lake, folder / "report.html", config, capture=capture)


def compact(config: Config, capture: str | None = None) -> Compacted:
    """Merge many small files into few; see `lakeinterp.lake.compaction.compact`."""
    from lakeinterp.lake.compaction import compact as compact_now

    with telemetry.span("compact"):
        return compact_now(open_lake(config), capture)


def vacuum(config: Config, retention_hours: float) -> Vacuumed:
    """Delete files that no commit names; see `lakeinterp.lake.upkeep.vacuum`."""
    from lakeinterp.lake.upkeep import vacuum as vacuum_now

    with telemetry.span("vacuum"):
        return vacuum_now(open_lake(config), retention_hours=retention_hours)


def capture_of(config: Config) -> str:
    """Return the capture that the settings name, or the only one there is.

    Raises:
        NotFound: there is none, or several.
    """
    return str(open_lake(config).capture(config.capture.name)["capture"])


def hookpoints_of(config: Config, capture: str, hookpoints: Sequence[str] = ()) -> list[str]:
    """Return a capture's hookpoints, or those of them that are named.

    Raises:
        NotFound: there is no such capture or hookpoint.
    """
    rows = units.hookpoints(open_lake(config), capture, hookpoints)
    return [str(row["hookpoint"]) for row in rows]


def units_of(config: Config, capture: str) -> list[Unit]:
    """Return the units of the capture's hookpoints that the settings name."""
    return units.units(open_lake(config), capture, config.capture.hookpoints)
