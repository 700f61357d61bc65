"""Tasks on a Dask cluster: one that is there, or one of this machine for the time of a flow."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from prefect import get_run_logger
from prefect_dask import DaskTaskRunner

from lakeinterp.errors import ConfigError, LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.config import Config, FlowsConfig

_ANSWERS_IN_S = 30
_answered: set[str] = set()
"""Schedulers that this process has found."""


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Give the address of the cluster's scheduler.

    Raises:
        ConfigError: none answers at `flows.cluster`.
    """
    flows, gpus = config.flows, config.flows.gpus
    if flows.cluster is not None:
        if flows.cluster not in _answered:
            _require(flows.cluster, gpus)
        yield flows.cluster
        return
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # Capture on several devices, and sampling, have processes of their own; a daemon may not.
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(
            n_workers=flows.workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            resources={"GPU": gpus} if gpus else None,
        ) as local,
    ):
        _answered.add(str(local.scheduler_address))
        yield str(local.scheduler_address)


def runner(flows: FlowsConfig) -> DaskTaskRunner:
    """Return a runner on the cluster that is running."""
    return DaskTaskRunner(address=flows.cluster)


@contextmanager
def needing(gpus: float) -> Iterator[None]:
    """Have what is submitted in a block run on workers alone that have so many GPUs free."""
    with dask.annotate(resources={"GPU": gpus}):
        yield


@contextmanager
def losses_named(task: str) -> Iterator[None]:
    """Say in one line that machines were lost.

    Raises:
        LakeError: they were.
    """
    try:
        yield
    except KilledWorker as exc:
        raise LakeError(
            f"{task}: every worker that took it was lost, the last one at "
            f"{exc.last_worker.address}; what is committed stays: run the same command again"
        ) from exc
    except (FutureCancelledError, CommClosedError) as exc:
        raise LakeError(
            f"{task}: the Dask scheduler is gone; what is committed stays: run the same command "
            "again"
        ) from exc


def _require(address: str, gpus: float) -> None:
    try:
        with Client(address, timeout=_ANSWERS_IN_S, set_as_default=False) as client:
            workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    except (OSError, ValueError) as exc:
        raise ConfigError(f"flows.cluster: no Dask scheduler answers at {address!r}") from exc
    if not workers:
        get_run_logger().warning("no worker is at %s yet: tasks wait for one", address)
    elif gpus and all(w["resources"].get("GPU", 0) < gpus for w in workers.values()):
        get_run_logger().warning(
            "flows.gpus: no worker at %s has %g GPUs, so capture waits: start workers with "
            "`dask worker %s --resources GPU=1`", address, gpus, address,
        )  # fmt: skip
    _answered.add(address)
