"""How many sequences go through the model at one time: measured on a GPU, halved when it is full.

The number decides no row, only speed and memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

T = TypeVar("T")

ON_CPU = 8
"""Sequences: more do not make a CPU faster, fewer leave its cores idle."""
_MOST_TOKENS = 32_768
"""Of one batch; a GPU is busy long before."""
_PROBED = (1, 3)
"""Sequences of the two passes whose memory is compared."""
_SHARE = 0.8
"""Of the free memory that a batch may take; the rest is for pieces that do not fit together."""


class Batches:
    """The size of a batch, and what happens when one does not fit."""

    def __init__(self, size: int) -> None:
        self.size = size
        """Sequences."""

    def fitting(self, work: Callable[[], T]) -> T | None:
        """Return what a piece of work returns; None if memory ran out, and then the size is halved.

        Raises:
            ConfigError: one sequence alone does not fit.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as exc:
            if not is_full(exc):
                raise
            reason = str(exc).strip().split("\n", 1)[0]
        # Outside of the handler, whose traceback keeps the tensors of the failed pass alive.
        if self.size == 1:
            raise ConfigError(
                "capture.batch_sequences: not even one sequence fits the memory; lower "
                "corpus.context_tokens or capture.encode_chunk_bytes, take a smaller "
                f"capture.dtype, or spread the model with capture.device_map ({reason})"
            )
        self.size = -(-self.size // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def is_full(exc: BaseException) -> bool:
    """Whether an exception says that the memory of a device or of the host ran out."""
    if isinstance(exc, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "out of memory" in str(exc).lower() or "can't allocate memory" in str(exc)


def choose(
    wanted: int | None, device: torch.device, tokens_BT: Tensor, step: Callable[[Tensor], object]
) -> Batches:
    """Return the size that the settings give, or one that the device has the memory for.

    Args:
        wanted: `capture.batch_sequences`.
        device: Where the model is.
        tokens_BT: Some sequences to try it on.
        step: One pass of the model and of every coder.
    """
    if wanted is not None:
        return Batches(wanted)
    if device.type != "cuda":
        return Batches(ON_CPU)
    most = max(1, _MOST_TOKENS // tokens_BT.shape[1])
    return Batches(min(most, _fitting(device, tokens_BT, step)))


def _fitting(device: torch.device, tokens_BT: Tensor, step: Callable[[Tensor], object]) -> int:
    """Return how many sequences fit what is free, from the peaks of two small passes."""
    few, more = _PROBED
    try:
        low, high = (_peak(device, _rows(tokens_BT, n), step) for n in _PROBED)
    except torch.OutOfMemoryError:
        return 1
    each = max(1, (high - low) / (more - few))
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int((free * _SHARE - (low - few * each)) / each))


def _peak(device: torch.device, tokens_BT: Tensor, step: Callable[[Tensor], object]) -> int:
    """Return the bytes that a pass takes above what lies there before it."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step(tokens_BT)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _rows(tokens_BT: Tensor, n: int) -> Tensor:
    return tokens_BT.repeat(-(-n // len(tokens_BT)), 1)[:n]
