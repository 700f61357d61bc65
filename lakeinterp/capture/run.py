"""Capture: sequences in, one commit a shard out, nothing kept in between.

In this process, or in one process a device: see `lakeinterp.capture.workers`.
"""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lakeinterp.capture import plan as plans
from lakeinterp.capture import points as points_of
from lakeinterp.capture.devices import devices_of, part_of
from lakeinterp.capture.opening import first_sequences, make_ready, open_capture
from lakeinterp.capture.shard import Group, run_shards
from lakeinterp.corpus import Sequence, SequenceSource, Tokenizer
from lakeinterp.corpus.sequences import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Generator

    from lakeinterp.capture.opening import Opened
    from lakeinterp.capture.shard import Committed
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.lake.shards import Todo


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
    n_nonfinite: int = 0
    """Activations of the capture left out as NaN or infinite, by this and earlier runs."""
    n_left: int = 0
    """Shards of the capture that other parts have to do."""
    lost: tuple[str, ...] = ()
    """Workers that ended before their time; others took over what they had."""


class Progress(Protocol):
    """Called after each batch and each commit."""

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        """Add to what is shown; `total` is set once, before the first batch."""
        ...


class Totals:
    """Adds up what a run does and shows it."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.n_tokens = self.n_rows = self.n_bytes = self.n_shards = 0

    def expect(self, todo: list[Todo], context_tokens: int) -> None:
        """Take note of what is left to do."""
        if self._progress:
            self._progress(total=sum(t.stop - t.first for t in todo) * context_tokens)

    def tokens(self, n: int) -> None:
        """Add tokens that went through the model."""
        self.n_tokens += n
        if self._progress:
            self._progress(tokens=n)

    def encoded(self, group: Group) -> None:
        """Nothing to add."""

    def committed(self, group: Group, done: Committed | None) -> None:
        """Add a shard that is in the lake."""
        del group
        if done is not None:
            self.add(done)

    def add(self, done: Committed) -> None:
        """Add what a commit added."""
        self.n_rows += done.n_rows
        self.n_bytes += done.n_bytes
        self.n_shards += 1
        if self._progress:
            self._progress(rows=done.n_rows, n_bytes=done.n_bytes)


def capture(lake: Lake, config: Config, *, progress: Progress | None = None) -> Captured:
    """Run the model over the corpus and stream every active latent to the lake.

    Shards that are committed are skipped, so a killed run continues where it ended and a larger
    `capture.n_tokens` adds to what is there.

    Raises:
        ConfigError: a setting is wrong, or a coder does not fit the model.
        NotFound: the model, a coder, a hookpoint or the text does not exist.
        NonFinite: the model or a coder produced NaN or infinity.
        LakeError: the capture was forgotten meanwhile, or every worker was killed.
    """
    points_of.of_files(config.capture)  # wrong coders are told before any text is read
    devices = devices_of(config.capture)
    if len(devices) > 1:
        from lakeinterp.capture import workers

        return workers.capture(lake, config, devices, progress)
    settings = config.capture
    tokenizer = Tokenizer(settings.model, settings.model_revision)
    source = SequenceSource(lake, config.corpus, tokenizer)
    opened = open_capture(lake, config, tokenizer, source, devices[0])
    shards, part = opened.plan.shards, part_of(settings)
    todo, totals = shards.left(lake, part), Totals(progress)
    skipped = shards.count(part) - len(todo)
    if todo:
        totals.expect(todo, opened.plan.context_tokens)
        _all(opened, todo, source, totals)
    return ended(lake, config, source, opened.plan.capture, totals, skipped)


def ended(
    lake: Lake, config: Config, source: SequenceSource, name: str, totals: Totals, n_skipped: int,
    lost: tuple[str, ...] = (),
) -> Captured:  # fmt: skip
    """Return what a run did, with what the lake says of the whole capture."""
    part, shards = part_of(config.capture), plans.shards_of(config, name)
    own = {todo.shard for todo in shards.left(lake, part)}
    others = [todo for todo in shards.left(lake) if todo.shard not in own]
    if own:  # only what lies beyond the end of the text is left of this part
        n_stored = source.stored()
        others = [todo for todo in others if todo.first < n_stored]
    return Captured(
        name,
        totals.n_tokens,
        totals.n_rows,
        totals.n_bytes,
        totals.n_shards,
        n_skipped,
        plans.write_dropped(lake, name) if config.capture.allow_nonfinite else 0,
        len(others),
        lost,
    )


def _all(opened: Opened, todo: list[Todo], source: SequenceSource, totals: Totals) -> None:
    """Run what is left, and what another process left of a shard meanwhile."""
    lake, settings = opened.lake, opened.config.capture
    part = part_of(settings)
    run = make_ready(opened, first_sequences(source, opened.config))
    while todo:
        with closing(_groups(source, todo, PATIENCE_S if part[0] > 1 else 0.0)) as groups:
            run_shards(run, groups, totals)
        n_stored = source.stored()  # less than what was asked for where the corpus ends
        todo = [t for t in opened.plan.shards.left(lake, part) if t.first < n_stored]


def _groups(
    source: SequenceSource, todo: list[Todo], patience_s: float
) -> Generator[Group, None, None]:
    """Yield the sequences of each piece of work, in order; fewer where the corpus ends."""
    left = iter(todo)
    current = next(left)
    gathered: list[Sequence] = []
    ranges = [(piece.first, piece.stop) for piece in todo]
    with closing(source.read_ranges(ranges, patience_s=patience_s)) as chunks:
        for sequence in chain.from_iterable(chunks):
            gathered.append(sequence)
            if sequence.sequence + 1 == current.stop:
                yield Group(current, gathered)
                gathered = []
                if (following := next(left, None)) is None:
                    return
                current = following
    if gathered:
        yield Group(current, gathered)
