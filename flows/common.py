"""What the flows share: when a retry makes sense, how units are listed, how a flow is started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cyclopts import App
from prefect import unmapped
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from lakeinterp import cli
from lakeinterp.commands.common import Common
from lakeinterp.config import Config
from lakeinterp.errors import Conflict, LakeinterpError, StorageError
from lakeinterp.lake import Lake, units

if TYPE_CHECKING:
    from prefect import Flow, Task

    from lakeinterp.terms import Unit

WAITS_S = [10.0, 60.0]
"""Seconds before the first and the second retry of a task."""


def may_work_later(_task: object, _run: object, state: Any) -> bool:
    """Return whether a failed task is worth a retry: not when the user has to mend something."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (Conflict, StorageError)) or not isinstance(error, LakeinterpError)


def for_each(task: Task[..., Any], config: Config, **things: Any) -> list[Any]:
    """Run a task for each thing, at most `flows.workers` at one time, and return what they return.

    Args:
        task: Takes `config` and the rest by name.
        config: The settings.
        things: One list with a value for each task; the others are the same for all.

    Raises:
        Exception: what the first failed task raised; the others are done by then.
    """
    with ThreadPoolTaskRunner[Any](max_workers=config.flows.workers) as runner:
        futures = runner.map(task, {"config": unmapped(config), **things})
        wait(futures)
        return [future.result() for future in futures]


def units_of(config: Config, capture: str) -> list[Unit]:
    """Return the units of the capture's hookpoints that the settings name."""
    return units.units(
        Lake(config.lake, storage_options=config.store_options()),
        capture,
        config.capture.hookpoints,
    )


def capture_of(config: Config) -> str:
    """Return the capture that the settings name, or the only one there is."""
    return str(
        Lake(config.lake, storage_options=config.store_options()).capture(config.capture.name)[
            "capture"
        ]
    )


def start(flow: Flow[[Config], Any]) -> None:
    """Run a flow from the command line with `--lake`, `--config` and `--set`."""
    app = App(
        name=f"python -m flows.{flow.fn.__name__}",
        help=flow.__doc__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )

    @app.default
    def begin(common: Common = Common()) -> None:  # noqa: B008 - frozen
        flow(common.load())

    sys.exit(cli.run(sys.argv[1:], app))
