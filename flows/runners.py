"""What runs a flow's tasks: one place, chosen by `flows.runner`."""

from __future__ import annotations

from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from lakeinterp.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from prefect import Task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

    from lakeinterp.config import Config, FlowsConfig

    AnyRunner = TaskRunner[Any]

_ON_CLUSTERS = ("dask", "ray")


def on_cluster(flows: FlowsConfig) -> bool:
    """Whether tasks may run on other machines."""
    return flows.runner in _ON_CLUSTERS


@contextmanager
def cluster(config: Config) -> Iterator[Config]:
    """Have the cluster that `flows.cluster` names in a block, or one of this machine.

    Threads and processes need none. A block in a block uses the cluster of the outer one.

    Yields:
        The settings with the address of the cluster.

    Raises:
        MissingExtra: the package of the runner is not installed.
        ConfigError: nothing answers at the address.
    """
    if not on_cluster(config.flows):
        yield config
        return
    with _clusters(config.flows).running(config) as address:
        flows = config.flows.model_copy(update={"cluster": address})
        yield config.model_copy(update={"flows": flows})


def runner_of(flows: FlowsConfig) -> AnyRunner:
    """Return what the settings choose, not started; it is a context manager.

    Raises:
        MissingExtra: the package of the runner is not installed.
    """
    return _RUNNERS[flows.runner](flows)


def each(
    runner: AnyRunner,
    flows: FlowsConfig,
    task: Task[..., Any],
    calls: Sequence[Mapping[str, Any]],
    *,
    gpus: float = 0.0,
    done: Callable[[], None] = lambda: None,
) -> list[Any]:
    """Run a task once for each set of arguments and return what the runs return, in their order.

    Args:
        runner: Started.
        flows: `workers` runs are submitted at one time, however many machines there are, so that
            what tasks share out, as limits of calls, holds.
        task: What to run.
        calls: Every argument by name.
        gpus: Each run needs, on a cluster.
        done: Called here after each run, however it ended.

    Raises:
        LakeError: the machines that did a run were lost again and again.
        Exception: what the first failed run raised; the others are done by then.
    """
    ended = SimpleQueue[object]()
    futures: list[PrefectFuture[Any]] = []
    with _needing(flows, gpus):
        for n, parameters in enumerate(calls):
            if n >= flows.workers:
                ended.get()
                done()
            future = runner.submit(task, dict(parameters))
            future.add_done_callback(ended.put)
            futures.append(future)
    for _ in range(min(flows.workers, len(futures))):
        ended.get()
        done()
    with _named(flows, task.name):
        return [future.result() for future in futures]


@contextmanager
def _needing(flows: FlowsConfig, gpus: float) -> Iterator[None]:
    if not (gpus and on_cluster(flows)):
        yield
        return
    with _clusters(flows).needing(gpus):
        yield


@contextmanager
def _named(flows: FlowsConfig, name: str) -> Iterator[None]:
    """Turn what a cluster says of lost machines into one line."""
    if not on_cluster(flows):
        yield
        return
    with _clusters(flows).losses_named(name):
        yield


def _clusters(flows: FlowsConfig) -> ModuleType:
    """Return the module of a runner, which imports the packages of an extra."""
    try:
        if flows.runner == "dask":
            from . import on_dask

            return on_dask
        from . import on_ray
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith((__package__ or "flows", "lakeinterp")):
            raise
        name = flows.runner
        raise MissingExtra(f"flows.runner = '{name}'", name, f"prefect-{name}") from exc
    return on_ray


def _threads(flows: FlowsConfig) -> AnyRunner:
    return ThreadPoolTaskRunner[Any](max_workers=flows.workers)


def _processes(flows: FlowsConfig) -> AnyRunner:
    return ProcessPoolTaskRunner(max_workers=flows.workers)


def _machines(flows: FlowsConfig) -> AnyRunner:
    found: AnyRunner = _clusters(flows).runner(flows)
    return found


_RUNNERS: dict[str, Callable[[FlowsConfig], AnyRunner]] = {
    "threads": _threads,
    "processes": _processes,
    "dask": _machines,
    "ray": _machines,
}
"""The values of `flows.runner`."""
