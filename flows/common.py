"""What the flows share: settings of tasks, retries, how things are done at one time, logs."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cyclopts import App
from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from lakeinterp import cli, logs
from lakeinterp.commands.common import Common
from lakeinterp.config import Config
from lakeinterp.errors import Conflict, LakeinterpError, StorageError
from lakeinterp.lake import kept
from lakeinterp.steps import capture_of, hookpoints_of, units_of
from lakeinterp.workers import n_sharing, share

from .artifacts import Progress
from .runners import cluster, each, runner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefect import Flow, Task

__all__ = [
    "CHAT",
    "at_work",
    "capture_of",
    "each_hookpoint",
    "for_each",
    "hookpoints_of",
    "may_work_later",
    "one",
    "package",
    "shared",
    "start",
    "units_of",
]

CHAT = "lakeinterp-chat"
"""Tag of tasks that ask a language model."""
_MOST_RETRY_WAITS = 50
"""Prefect takes no more."""


def may_work_later(_task: object, _run: object, state: Any) -> bool:
    """Return whether a failed task is worth a retry: not when the user has to mend something."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (Conflict, StorageError)) or not isinstance(error, LakeinterpError)


def for_each(
    task: Task[..., Any],
    config: Config,
    *,
    tags: Sequence[str] = (),
    gpus: float = 0.0,
    **things: Any,
) -> list[Any]:
    """Run a task for each thing, at most `flows.workers` at one time, and return what they return.

    The flow's page shows how many are done.

    Args:
        task: Takes `config` and the rest by name.
        config: The settings.
        tags: Of these tasks, beside the task's own and `flows.tags`. Few: whoever starts a task
            with a tag waits for what the server says of its limit (`benchmarks/flows.py`).
        gpus: Each task needs, where a cluster runs them.
        things: One list with a value for each task; the others are the same for all.

    Raises:
        Exception: what the first failed task raised; the others are done by then.
    """
    (n_tasks,) = {len(values) for values in things.values() if isinstance(values, list)}
    with kept(config), cluster(config) as config, runner_of(config.flows) as runner:
        calls = [
            {"config": config}
            | {name: v[n] if isinstance(v, list) else v for name, v in things.items()}
            for n in range(n_tasks)
        ]
        with Progress(task.name, n_tasks) as progress:
            own = _set(task, config, tags)
            return each(runner, config.flows, own, calls, gpus=gpus, done=progress.step)


def each_hookpoint(task: Task[..., int], config: Config, capture: str | None) -> int:
    """Run a task for each hookpoint of the settings and return the sum of what they return.

    Args:
        task: Takes `config`, `capture`, `hookpoint` and `run`.
        config: The settings.
        capture: Capture id; None takes the one that the settings name, or the only one there is.
    """
    capture = capture or capture_of(config)
    todo = hookpoints_of(config, capture, config.capture.hookpoints)
    with at_work() as run:
        return sum(for_each(task, config, capture=capture, hookpoint=todo, run=run))


def one(
    task: Task[..., Any],
    config: Config,
    *,
    tags: Sequence[str] = (),
    is_limited: bool = True,
    **things: Any,
) -> Any:
    """Run one task as the settings want it, here and now, and return what it returns.

    Args:
        task: Takes `config` and the rest by name.
        config: The settings.
        tags: As of `for_each`.
        is_limited: Whether `flows.timeout_s` holds for it.
        things: By name.
    """
    limit = config.flows.timeout_s if is_limited else None
    return _set(task, config, tags).with_options(timeout_seconds=limit)(config=config, **things)


def _set(task: Task[..., Any], config: Config, tags: Sequence[str]) -> Task[..., Any]:
    flows = config.flows
    waits = list(flows.retry_waits_s[:_MOST_RETRY_WAITS])
    return task.with_options(
        retries=flows.retries,
        retry_delay_seconds=waits,
        retry_condition_fn=may_work_later,
        tags={*task.tags, *tags, *flows.tags},
    )


def shared(config: Config, n_tasks: int) -> Config:
    """Return the settings of each of several tasks at one time: its part of the chat's limits.

    There are no more at one time than can share the limits.
    """
    n_workers = n_sharing(config.chat, min(config.flows.workers, n_tasks) or 1)
    flows = config.flows.model_copy(update={"workers": n_workers})
    return config.model_copy(update={"chat": share(config.chat, n_workers), "flows": flows})


class _ToRun(logging.Handler):
    """Hands log lines of the package to the flow or task run that they belong to."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one line; Prefect's own handlers do the rest."""
        try:
            get_run_logger().log(record.levelno, "%s", record.getMessage())
        except MissingContextError:
            return


_TO_RUN = _ToRun(logging.INFO)


@contextmanager
def at_work(run: str | None = None) -> Iterator[str]:
    """Give a flow's or a task's block the id of its run, and its log lines to Prefect.

    Args:
        run: The id, as the flow hands it to its tasks; None keeps the one there is, or makes one.

    Yields:
        The id.
    """
    logger = logging.getLogger("lakeinterp")
    if _TO_RUN not in logger.handlers:
        logger.addHandler(_TO_RUN)
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    with logs.run(run) as found:
        yield found


def start(flow: Flow[..., Any]) -> None:
    """Run a flow from the command line with `--lake`, `--config` and `--set`."""
    app = App(
        name=f"python -m {package()}.{flow.fn.__name__}",
        help=flow.__doc__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )

    @app.default
    def begin(common: Common = Common()) -> None:  # noqa: B008 - frozen
        flow(common.load())

    sys.exit(cli.run(sys.argv[1:], app))


def package() -> str:
    """Return `flows` in a checkout, `lakeinterp.flows` in an installed package."""
    return str(__package__)
