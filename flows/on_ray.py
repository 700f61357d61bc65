"""Tasks on a Ray cluster: one that is there, or one of this machine for the time of a flow."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray
from prefect import get_run_logger
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from ray.exceptions import RayError

from lakeinterp.errors import ConfigError, LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.config import Config, FlowsConfig

_LOCAL = "local"
_STORE_BYTES = 100 * 2**20
"""Tasks take settings and return counts; the lake holds everything else."""


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Connect to Ray, if this process is not; give the address.

    Raises:
        ConfigError: nothing answers at `flows.cluster`.
        LakeError: Ray does not start on this machine.
    """
    flows = config.flows
    if ray.is_initialized():
        yield flows.cluster or _LOCAL
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _connect(flows)
    try:
        if flows.gpus and ray.cluster_resources().get("GPU", 0) < flows.gpus:
            get_run_logger().warning(
                "flows.gpus: the Ray cluster has fewer than %g GPUs, so capture waits", flows.gpus
            )
        yield flows.cluster or _LOCAL
    finally:
        ray.shutdown()


def _connect(flows: FlowsConfig) -> None:
    if flows.cluster is not None:
        try:
            ray.init(address=flows.cluster)
        except (OSError, ValueError) as exc:
            raise ConfigError(f"flows.cluster: no Ray answers at {flows.cluster!r}") from exc
        return
    try:
        ray.init(
            address=_LOCAL,
            num_cpus=flows.workers,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
        )
    except (OSError, RuntimeError, ValueError) as exc:
        raise LakeError(
            f"flows.runner = 'ray': Ray does not start on this machine ({exc}); run it again, or "
            "start one with `ray start --head` and name it as flows.cluster"
        ) from exc


def runner(flows: FlowsConfig) -> RayTaskRunner:
    """Return a runner on the cluster that this process is connected to."""
    return RayTaskRunner(address=flows.cluster)


@contextmanager
def needing(gpus: float) -> Iterator[None]:
    """Have each task that is submitted in a block get so many GPUs."""
    with remote_options(num_gpus=gpus):
        yield


@contextmanager
def losses_named(task: str) -> Iterator[None]:
    """Say in one line that machines were lost.

    Raises:
        LakeError: they were.
    """
    try:
        yield
    except RayError as exc:
        raise LakeError(
            f"{task}: Ray lost it ({type(exc).__name__}); what is committed stays: run the same "
            "command again"
        ) from exc
