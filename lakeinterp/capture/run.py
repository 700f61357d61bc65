"""The capture loop: sequences in, one commit a shard out, nothing kept in between.

The model runs in the calling thread; sequences are made ahead of it and shards are sorted and
written behind it, each in one thread of its own, at most one shard waiting.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from lakeinterp.capture import plan as plans
from lakeinterp.capture import points as points_of
from lakeinterp.capture.check import check_coder, refuse_if_far
from lakeinterp.capture.model import SubjectModel
from lakeinterp.capture.rows import ShardBuffer
from lakeinterp.corpus import Sequence, SequenceSource, Tokenizer
from lakeinterp.errors import ConfigError
from lakeinterp.lake import where
from lakeinterp.lake.activations import bucket_latents, write_activations

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch import Tensor

    from lakeinterp.capture.check import Check
    from lakeinterp.capture.model import Read
    from lakeinterp.capture.plan import Plan
    from lakeinterp.capture.points import Point
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake, Written

_CHECKED_TOKENS = 4096


class Captured(NamedTuple):
    """What one run of a capture did."""

    capture: str
    n_tokens: int
    """Tokens run through the model by this run."""
    n_rows: int
    """Activations committed by this run."""
    n_bytes: int
    n_shards: int
    """Shards committed by this run."""
    n_skipped: int
    """Shards that were there already."""


class Progress(Protocol):
    """Called after each batch and each commit."""

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        """Add to what is shown; `total` is set once, before the first batch."""
        ...


@dataclass(frozen=True)
class _Run:
    lake: Lake
    config: Config
    plan: Plan
    model: SubjectModel
    points: list[Point]
    special: Tensor


class _Todo(NamedTuple):
    """A shard, or what is left of one."""

    shard: int
    first: int
    """Sequence to go on with."""
    stop: int
    done: int
    """Sequences of the shard that are committed."""


class _Group(NamedTuple):
    """The sequences of one piece of work; fewer than asked for where the corpus ends."""

    todo: _Todo
    sequences: list[Sequence]


def capture(lake: Lake, config: Config, *, progress: Progress | None = None) -> Captured:
    """Run the model over the corpus and stream every active latent to the lake.

    Shards that are committed are skipped, so a killed run continues where it ended and a larger
    `capture.n_tokens` adds to what is there.

    Raises:
        ConfigError: a setting is wrong, or a coder does not fit the model.
        NotFound: the model, a coder, a hookpoint or the text does not exist.
        NonFinite: the model or a coder produced NaN or infinity.
    """
    settings = config.capture
    coders = points_of.of_files(settings)
    tokenizer = Tokenizer(settings.model, settings.model_revision)
    source = SequenceSource(lake, config.corpus, tokenizer)
    model = SubjectModel(settings)
    coders = coders or points_of.of_neurons(model, settings)
    plan = plans.make_plan(config, source.corpus, model, coders, tokenizer)
    plans.check_same(lake, plan)
    points = points_of.load(coders, model, settings)
    todo = _todo(lake, plan)
    skipped = len(list(plan.shards())) - len(todo)
    if not todo:
        return Captured(plan.capture, 0, 0, 0, 0, skipped)
    special = torch.tensor(tokenizer.special, dtype=torch.int64)
    run = _Run(lake, config, plan, model, points, special)
    run, reads, checks = _ready(run, _first_sequences(source, config))
    plans.write_plan(lake, plan, config, coders, model.revision, tokenizer)
    for point, check in checks:
        plans.write_hookpoint(lake, plan, point, check, settings.n_buckets)
    if progress:
        progress(total=sum(t.stop - t.first for t in todo) * plan.context_tokens)
    return Captured(plan.capture, *_all(run, reads, source, progress), n_skipped=skipped)


def _all(
    run: _Run, reads: list[Read], source: SequenceSource, progress: Progress | None
) -> tuple[int, int, int, int]:
    """Run what is left, and what another process left of a shard meanwhile; return the totals."""
    totals = (0, 0, 0, 0)
    while todo := _todo(run.lake, run.plan):
        with closing(_group(source, todo)) as groups:
            done = _shards(run, reads, groups, progress)
        if not done[0]:
            break  # the corpus ends here
        totals = (
            totals[0] + done[0],
            totals[1] + done[1],
            totals[2] + done[2],
            totals[3] + done[3],
        )
    return totals


def _todo(lake: Lake, plan: Plan) -> list[_Todo]:
    """Return the shards that are not committed in full, in order."""
    delta = lake.table("activations")
    left = []
    for shard, first, stop in plan.shards():
        done = 0 if delta is None else int(delta.transaction_version(plan.app(shard)) or 0)
        if first + done < stop:
            left.append(_Todo(shard, first + done, stop, done))
    return left


def _first_sequences(source: SequenceSource, config: Config) -> list[Sequence]:
    """Return what coders are measured on: the same sequences in every run of every length.

    Raises:
        ConfigError: the corpus has not even one.
    """
    context = config.corpus.context_tokens
    with closing(source.read(0, _CHECKED_TOKENS // context or 1)) as chunks:
        found = list(chain.from_iterable(chunks))
    if not found:
        raise ConfigError(
            f"corpus.dataset: {config.corpus.dataset} has less text than one sequence of {context} "
            "tokens: give more, or lower corpus.context_tokens"
        )
    return found


def _ready(
    run: _Run, sequences: list[Sequence]
) -> tuple[_Run, list[Read], list[tuple[Point, Check]]]:
    """Return the run with its coders settled, the reads in forward order, new coders' checks."""
    places = list({place for point in run.points for place in (point.read, point.target)})
    tokens_BT = _stack(sequences)
    ordered = run.model.in_order(places, tokens_BT[:1])
    known = {
        row["hookpoint"]: row
        for row in run.lake.rows("hookpoints", where(capture=run.plan.capture))
    }
    states: dict[Read, Tensor] = {}
    if any(point.coder.spec.hookpoint not in known for point in run.points):
        hidden = run.model.hidden(tokens_BT, ordered)
        keep_N = ~torch.isin(tokens_BT, run.special).flatten().to(run.model.device)
        states = {read: x_BTD.flatten(0, 1)[keep_N] for read, x_BTD in hidden.items()}
    points, checks = [], []
    for point in run.points:
        row = known.get(point.coder.spec.hookpoint)
        points.append(points_of.settle(point, row, states, run.model.device, run.config.capture))
        if row is None:
            checks.append((points[-1], _check(run, points[-1], states)))
    wanted = {point.read for point in points}
    reads = [read for read in ordered if read in wanted]
    return replace(run, points=points), reads, checks


def _check(run: _Run, point: Point, states: dict[Read, Tensor]) -> Check:
    """Measure one coder, or refuse it."""
    check = check_coder(point.coder, states[point.read], states[point.target])
    place = f"the {point.read.site} of {point.read.module}"
    refuse_if_far(point.coder, check, place, run.config.capture)
    return check


def _shards(
    run: _Run, reads: list[Read], groups: Iterable[_Group], progress: Progress | None
) -> tuple[int, int, int, int]:
    """Run and commit the shards left; return tokens, rows, bytes and shards of this run."""
    totals = [0, 0, 0, 0]
    waiting: Future[tuple[int, int] | None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="shard-writer") as writer:
        for group in groups:
            buffers = _encode(run, reads, group, progress)
            _settle(waiting, totals, progress)
            waiting = writer.submit(_commit, run, group, buffers)
            totals[0] += len(group.sequences) * run.plan.context_tokens
        _settle(waiting, totals, progress)
    return totals[0], totals[1], totals[2], totals[3]


def _settle(
    waiting: Future[tuple[int, int] | None] | None, totals: list[int], progress: Progress | None
) -> None:
    """Wait for the shard that is being written and count it."""
    if waiting is None or (written := waiting.result()) is None:
        return
    for place, n in enumerate((*written, 1), start=1):
        totals[place] += n
    if progress:
        progress(rows=written[0], n_bytes=written[1])


def _group(source: SequenceSource, todo: list[_Todo]) -> Generator[_Group, None, None]:
    """Yield the sequences of each piece of work, in order; fewer where the corpus ends."""
    left = iter(todo)
    current = next(left)
    gathered: list[Sequence] = []
    with closing(source.read(todo[0].first, todo[-1].stop)) as chunks:
        for sequence in chain.from_iterable(chunks):
            if sequence.sequence < current.first:
                continue
            gathered.append(sequence)
            if sequence.sequence + 1 == current.stop:
                yield _Group(current, gathered)
                gathered = []
                if (following := next(left, None)) is None:
                    return
                current = following
    if gathered:
        yield _Group(current, gathered)


def _encode(
    run: _Run, reads: list[Read], group: _Group, progress: Progress | None
) -> list[ShardBuffer]:
    """Run the model over the sequences of one shard, batch by batch."""
    value_dtype = getattr(torch, run.config.capture.value_dtype)
    buffers = [ShardBuffer(p.coder.spec.hookpoint, value_dtype) for p in run.points]
    size, context = run.config.capture.batch_sequences, run.plan.context_tokens
    for start in range(0, len(group.sequences), size):
        tokens_BT = _stack(group.sequences[start : start + size])
        hidden = run.model.hidden(tokens_BT, reads)
        keep_N = ~torch.isin(tokens_BT, run.special).flatten()
        first_token = (group.todo.first + start) * context
        index_N = torch.arange(first_token, first_token + keep_N.numel())[keep_N]
        keep_N, index_N = keep_N.to(run.model.device), index_N.to(run.model.device)
        for point, buffer in zip(run.points, buffers, strict=True):
            active = point.coder.encode(hidden[point.read].flatten(0, 1)[keep_N])
            buffer.add(active, index_N[active.token_M], context)
        if progress:
            progress(tokens=tokens_BT.numel())
    return buffers


def _commit(run: _Run, group: _Group, buffers: list[ShardBuffer]) -> tuple[int, int] | None:
    """Write one shard of every hookpoint and commit it as one.

    Returns:
        Rows and bytes, or None if another process committed the shard meanwhile.
    """
    files: list[Written] = []
    first, n = group.todo.first, len(group.sequences)
    for point, buffer in zip(run.points, buffers, strict=True):
        spec, rows = point.coder.spec, buffer.sorted()
        files += write_activations(
            run.lake.store,
            capture=run.plan.capture,
            hookpoint=spec.hookpoint,
            latents_per_bucket=bucket_latents(spec.n_latents, run.config.capture.n_buckets),
            latents=rows.latents,
            tokens=rows.tokens,
            values=rows.values,
            name=f"{first:010d}-{first + n:010d}",
        )
    app, done = run.plan.app(group.todo.shard), group.todo.done
    if not run.lake.publish("activations", files, app=app, version=done + n, after=done):
        return None
    return sum(f.n_rows for f in files), sum(f.n_bytes for f in files)


def _stack(sequences: list[Sequence]) -> Tensor:
    return torch.tensor([s.tokens for s in sequences], dtype=torch.int64)
