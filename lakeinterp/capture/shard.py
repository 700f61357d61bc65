"""One shard: its sequences through the model and every coder, its rows sorted, written, committed.

The model runs in the calling thread; shards are sorted and written behind it in a thread of its
own, at most one shard waiting.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from lakeinterp.capture.boundaries import positions
from lakeinterp.capture.rows import ShardBuffer
from lakeinterp.coders import Active
from lakeinterp.lake import shards as lake_shards
from lakeinterp.lake.activations import bucket_latents, write_activations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from lakeinterp.capture.batches import Batches
    from lakeinterp.capture.model import Read, SubjectModel
    from lakeinterp.capture.plan import Plan
    from lakeinterp.capture.points import Point
    from lakeinterp.config import Config
    from lakeinterp.corpus import Sequence
    from lakeinterp.lake import Lake, Written
    from lakeinterp.lake.shards import Todo


class Group(NamedTuple):
    """The sequences of one piece of work; fewer than asked for where the corpus ends."""

    todo: Todo
    sequences: list[Sequence]


@dataclass(frozen=True)
class Run:
    """A capture that is ready to encode."""

    lake: Lake
    config: Config
    plan: Plan
    epoch: int
    """Of the capture: no commit is made once it was forgotten."""
    model: SubjectModel
    points: list[Point]
    reads: list[Read]
    """Places in the order in which a forward pass reaches them."""
    special: Tensor
    batches: Batches


class Encoded(NamedTuple):
    """The rows of one shard, not yet sorted."""

    group: Group
    buffers: list[ShardBuffer]
    dropped: dict[str, int]
    """Activations left out as no finite numbers, by hookpoint; empty if there were none."""


class Committed(NamedTuple):
    """What one commit added."""

    n_rows: int
    n_bytes: int


class Watch(Protocol):
    """Is told what a run does, in the thread of the model."""

    def tokens(self, n: int) -> None:
        """Take note of tokens that went through the model."""

    def encoded(self, group: Group) -> None:
        """Take note of a shard that is encoded and goes to the writer."""

    def committed(self, group: Group, done: Committed | None) -> None:
        """Take note of a shard that is in the lake; None if another process committed it."""


def run_shards(run: Run, groups: Iterable[Group | None], watch: Watch) -> None:
    """Encode and commit pieces of work as they come.

    Args:
        run: The capture.
        groups: Pieces of work; None says that the next one may take a while, so that what is
            being written is waited for.
        watch: Is told what happens.

    Raises:
        NonFinite: the model or a coder produced NaN or infinity.
        LakeError: the capture was forgotten, or the disk or the object store refuses.
    """
    waiting: tuple[Group, Future[Committed | None]] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="shard-writer") as writer:
        for group in chain(groups, (None,)):
            encoded = None if group is None else encode(run, group, watch)
            if waiting:
                watch.committed(waiting[0], waiting[1].result())
                waiting = None
            if encoded:
                watch.encoded(encoded.group)
                waiting = encoded.group, writer.submit(commit, run, encoded)
            del encoded  # its rows go when they are written


def encode(run: Run, group: Group, watch: Watch) -> Encoded:
    """Run the model over the sequences of one shard, batch by batch."""
    value_dtype = getattr(torch, run.config.capture.value_dtype)
    names = [point.coder.spec.hookpoint for point in run.points]
    buffers = [ShardBuffer(name, value_dtype) for name in names]
    dropped: dict[str, int] = {}
    context, start = run.plan.context_tokens, 0
    while start < len(group.sequences):
        some = group.sequences[start : start + run.batches.size]
        tokens_BT = stack(some)
        positions_BT = positions(some) if run.config.capture.document_attention else None
        found = run.batches.fitting(partial(active_of, run, tokens_BT, positions_BT))
        if found is None:
            continue  # the same sequences again, fewer at one time
        first_token = (group.todo.first + start) * context
        for name, buffer, (active, position_N) in zip(names, buffers, found, strict=True):
            token_M = first_token + position_N[active.token_M]
            if run.config.capture.allow_nonfinite:
                active, token_M, n = _finite(active, token_M, value_dtype)
                dropped |= {name: dropped.get(name, 0) + n} if n else {}
            buffer.add(active, token_M, context)
        start += len(tokens_BT)
        watch.tokens(tokens_BT.numel())
    return Encoded(group, buffers, dropped)


def active_of(
    run: Run, tokens_BT: Tensor, positions_BT: Tensor | None = None
) -> list[tuple[Active, Tensor]]:
    """Return each coder's active latents, and the position in the batch of each token it read."""
    hidden = run.model.hidden(tokens_BT, run.reads, positions_BT=positions_BT)
    position_N = (~torch.isin(tokens_BT, run.special)).flatten().nonzero()[:, 0]
    positions = {x.device: position_N.to(x.device) for x in hidden.values()}
    found = []
    for point in run.points:
        x_BTD = hidden[point.read]
        kept_N = positions[x_BTD.device]
        found.append((point.coder.encode(x_BTD.flatten(0, 1)[kept_N]), kept_N))
    return found


def commit(run: Run, encoded: Encoded) -> Committed | None:
    """Write one shard of every hookpoint and commit it as one.

    Returns:
        What was added, or None if another process committed the shard meanwhile.
    """
    files: list[Written] = []
    todo, n = encoded.group.todo, len(encoded.group.sequences)
    name = f"{todo.first:010d}-{todo.first + n:010d}"
    if run.epoch:
        # What still runs from before the capture was forgotten must not write over these files.
        name += f"-{run.epoch}"
    for point, buffer in zip(run.points, encoded.buffers, strict=True):
        spec, rows = point.coder.spec, buffer.sorted()
        files += write_activations(
            run.lake.store,
            capture=run.plan.capture,
            hookpoint=spec.hookpoint,
            latents_per_bucket=bucket_latents(spec.n_latents, run.config.capture.n_buckets),
            latents=rows.latents,
            tokens=rows.tokens,
            values=rows.values,
            name=name,
        )
    if not lake_shards.publish(
        run.lake,
        files,
        todo,
        n,
        capture=run.plan.capture,
        epoch=run.epoch,
        dropped=encoded.dropped,
    ):
        return None
    return Committed(sum(f.n_rows for f in files), sum(f.n_bytes for f in files))


def stack(sequences: list[Sequence]) -> Tensor:
    """Return sequences as token ids, [B, T]."""
    return torch.tensor([s.tokens for s in sequences], dtype=torch.int64)


def _finite(
    active: Active, token_M: Tensor, value_dtype: torch.dtype
) -> tuple[Active, Tensor, int]:
    """Return what is finite once it is rounded, its tokens, and how many activations are not."""
    kept_M = torch.isfinite(active.value_M.to(value_dtype))
    n = len(kept_M) - int(kept_M.sum())
    if not n:
        return active, token_M, 0
    return Active(*(column[kept_M] for column in active)), token_M[kept_M], n
