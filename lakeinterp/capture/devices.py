"""Which devices share a capture, and which part of its shards is wanted here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from lakeinterp.capture.loading import find_device
from lakeinterp.errors import ConfigError
from lakeinterp.lake.shards import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import CaptureConfig

_SEVERAL_CPU = re.compile(r"cpu:([1-9]\d*)")


def devices_of(config: CaptureConfig) -> list[str]:
    """Return the device of each worker; one device means no process of its own.

    `cpu:2` stands for the CPU twice and `cuda` for every GPU there is; a GPU that is named twice
    has two workers.

    Raises:
        ConfigError: torch knows no such device, or the model is to be spread over all of them.
    """
    if not config.devices:
        return [config.device]
    found: list[str] = []
    for name in config.devices:
        found += _expanded(name)
    for name in found:
        try:
            find_device(name)
        except ConfigError as exc:
            raise ConfigError(str(exc).replace("capture.device:", "capture.devices:", 1)) from exc
    if len(found) > 1 and config.device_map is not None:
        raise ConfigError(
            "capture.devices: every one of them holds the whole model, capture.device_map spreads "
            "one model over all; choose one of the two"
        )
    return found


def part_of(config: CaptureConfig) -> tuple[int, int]:
    """Return (i, n) of `capture.shards`, i counted from 1."""
    if config.shards is None:
        return WHOLE
    part, _, n_parts = config.shards.partition("/")
    return int(part), int(n_parts)


def threads_each(devices: Sequence[str]) -> int:
    """Return how many threads of torch each worker may have."""
    return max(1, torch.get_num_threads() // len(devices))


def _expanded(name: str) -> list[str]:
    if name == "cuda":
        n_devices = torch.cuda.device_count()
        if not n_devices:
            raise ConfigError("capture.devices: 'cuda', but torch sees no GPU here")
        return [f"cuda:{i}" for i in range(n_devices)]
    if several := _SEVERAL_CPU.fullmatch(name):
        return ["cpu"] * int(several[1])
    return [name]
