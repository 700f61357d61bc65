"""The corpus as stored sequences: made once, read back by every later capture.

Sequences lie in chunks of `CHUNK`; a chunk is committed before any of its sequences is handed
out, so that no activation ever refers to a sequence that is not there.
"""

from __future__ import annotations

import queue
import threading
import time
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakeinterp.corpus import documents as sources
from lakeinterp.corpus import ready
from lakeinterp.corpus.pack import Sequence, Span, pack
from lakeinterp.lake import Lake, queries, where
from lakeinterp.lake.schema import TABLES
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from collections.abc import Sequence as Ordered

    from lakeinterp.config import CorpusConfig
    from lakeinterp.corpus.tokenizer import Tokenizer

CHUNK = 1024
"""Sequences in one file of the `sequences` table."""
PATIENCE_S = 10.0
"""Seconds after which a process that waits for sequences of another one makes them itself."""
_PREFETCHED_CHUNKS = 2
_LOOK_EVERY_S = 0.2
_END = None


class SequenceSource:
    """The sequences of one corpus for one tokenizer and one context length."""

    def __init__(self, lake: Lake, config: CorpusConfig, tokenizer: Tokenizer) -> None:
        self._lake, self._config, self._tokenizer = lake, config, tokenizer
        self._bos = tokenizer.bos(config)
        self.corpus = digest(
            {
                **sources.identity(config),
                "tokenizer": tokenizer.digest,
                "context_tokens": config.context_tokens,
                "bos": self._bos,
                "separator": tokenizer.separator,
                "chunk": CHUNK,
            }
        )
        """Digest of everything that decides a sequence."""

    def stored(self, known: int = 0) -> int:
        """Return how many leading sequences the lake holds.

        Args:
            known: So many were there before; spares looking for them again.
        """
        chunk = known // CHUNK
        done = chunk * CHUNK
        while count := self._lake.committed("sequences", self._app(chunk)):
            done, chunk = done + count, chunk + 1
            if count < CHUNK:
                break
        return max(done, known)

    def read(self, first: int, stop: int) -> Generator[list[Sequence], None, None]:
        """Yield the sequences from `first` up to `stop`; see `read_ranges`."""
        return self.read_ranges([(first, stop)])

    def read_ranges(
        self, ranges: Ordered[tuple[int, int]], *, patience_s: float = 0.0
    ) -> Generator[list[Sequence], None, None]:
        """Yield the sequences of some ranges in lists, in order, made if not stored.

        A background thread reads, tokenizes and commits ahead of the consumer.

        Args:
            ranges: (First, one past the last) of each, ascending, none reaching into another.
            patience_s: Wait so long for another process to make what is missing.

        Raises:
            ConfigError: the source cannot be read; raised where the consumer takes the list.
        """
        ahead: queue.Queue[Any] = queue.Queue(maxsize=_PREFETCHED_CHUNKS)
        stopped = threading.Event()
        thread = threading.Thread(
            target=self._produce,
            args=(_joined(ranges), patience_s, ahead, stopped),
            name="sequences",
            daemon=True,
        )
        thread.start()
        try:
            while (item := ahead.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            while thread.is_alive():
                _drain(ahead)
                thread.join(timeout=0.05)

    def load(self, first: int, stop: int) -> list[Sequence]:
        """Return sequences that are stored."""
        pruned = where(corpus=self.corpus) + f" AND sequence >= {first} AND sequence < {stop}"
        with self._lake.connect(sequences=pruned) as con:
            query = queries.load("corpus/sequences")
            rows = query.run(con, corpus=self.corpus, first=first, stop=stop).fetchall()
        return [
            Sequence(s, tuple(tokens), tuple(Span(d["document"], d["start"]) for d in spans), r, o)
            for s, tokens, spans, r, o in rows
        ]

    def grow(self, stop: int, patience_s: float, stopped: threading.Event) -> Iterator[int]:
        """Make sequences up to `stop`, or to the end of the text, and yield how many are stored.

        Args:
            stop: Sequences wanted.
            patience_s: Wait so long for another process to make what is missing.
            stopped: Set by another thread to end it.
        """
        stored = self.stored()
        yield stored
        for _, end, _ in self._later(stored, stop, patience_s, stopped):
            yield end

    def _produce(
        self,
        ranges: list[tuple[int, int]],
        patience_s: float,
        ahead: queue.Queue[Any],
        stopped: threading.Event,
    ) -> None:
        try:
            for chunk in self._chunks(ranges, patience_s, stopped):
                if stopped.is_set():
                    break
                ahead.put(chunk)
        except BaseException as exc:  # noqa: BLE001 - handed to the consumer, which raises it
            ahead.put(exc)
        ahead.put(_END)

    def _chunks(
        self, ranges: list[tuple[int, int]], patience_s: float, stopped: threading.Event
    ) -> Iterator[list[Sequence]]:
        stored = self.stored()
        yield from self._stored_in(ranges, 0, stored)
        for begin, end, made in self._later(stored, ranges[-1][1], patience_s, stopped):
            if made is None:
                yield from self._stored_in(ranges, begin, end)
            elif wanted := [s for s in made if _is_in(s.sequence, ranges)]:
                yield wanted

    def _stored_in(
        self, ranges: list[tuple[int, int]], begin: int, end: int
    ) -> Iterator[list[Sequence]]:
        """Yield the wanted sequences between two numbers, a chunk or less at a time."""
        for first, stop in ranges:
            first, stop = max(first, begin), min(stop, end)
            for start in range(first, stop, CHUNK):
                yield self.load(start, min(start + CHUNK, stop))

    def _later(
        self, stored: int, stop: int, patience_s: float, stopped: threading.Event
    ) -> Iterator[tuple[int, int, list[Sequence] | None]]:
        """Yield (first, one past the last, sequences) of what is not stored yet, as it comes.

        The sequences are None where another process made them. Whoever is overtaken goes on from
        where the lake ends, so that processes do not tokenize the same text side by side.
        """
        while stored < stop and not stopped.is_set():
            grown = min(self._await(stored, patience_s, stopped), stop)
            if grown > stored:
                yield stored, grown, None
                stored = grown
                continue
            for made in self._make(stored, stop):
                yield stored, (end := made[-1].sequence + 1), made
                stored = end
                if stopped.is_set() or self.stored(stored) > stored:
                    break
            else:
                return

    def _await(self, stored: int, patience_s: float, stopped: threading.Event) -> int:
        """Return how many sequences are stored once there are more, or patience is at an end."""
        deadline = time.monotonic() + patience_s
        while (grown := self.stored(stored)) == stored and time.monotonic() < deadline:
            if stopped.wait(_LOOK_EVERY_S):
                break
        return grown

    def _make(self, stored: int, stop: int) -> Iterator[list[Sequence]]:
        """Tokenize from where the lake ends, commit chunk by chunk, yield what was committed."""
        row, offset = 0, 0
        if stored:
            last = self.load(stored - 1, stored)[0]
            row, offset = last.next_row, last.next_offset
        chunk: list[Sequence] = []
        for sequence in self._from(stored, row, offset):
            chunk.append(sequence)
            if sequence.sequence + 1 == stop or (sequence.sequence + 1) % CHUNK == 0:
                yield self._commit(chunk)
                chunk = []
                if sequence.sequence + 1 == stop:
                    return
        if chunk:
            yield self._commit(chunk)

    def _from(self, first: int, row: int, offset: int) -> Iterator[Sequence]:
        """Return the sequences from number `first` on, which starts at a place of the source."""
        if ready.holds_tokens(self._config):
            return ready.sequences(self._config, self._tokenizer.special, first=first)
        rows = sources.documents(self._config, skip=row)
        return pack(
            map(self._tokenizer.as_text, rows) if self._config.chat else rows,
            self._tokenizer.encode_chat if self._config.chat else self._tokenizer.encode,
            context_tokens=self._config.context_tokens,
            bos=self._bos,
            separator=self._tokenizer.separator,
            first=first,
            row=row,
            offset=offset,
        )

    def _commit(self, sequences: list[Sequence]) -> list[Sequence]:
        """Make sequences of one chunk durable, those that another writer has committed excepted."""
        number = sequences[0].sequence // CHUNK
        app, end = self._app(number), sequences[-1].sequence + 1
        while (done := self._lake.committed("sequences", app)) < end - number * CHUNK:
            new = [s for s in sequences if s.sequence >= number * CHUNK + done]
            written = self._lake.store.write_parquet(
                "sequences",
                _table(new),
                schema=TABLES["sequences"].schema,
                partition={"corpus": self.corpus},
                name=f"{new[0].sequence:010d}-{end:010d}",
                statistics=("sequence",),
                compression="zstd",
            )
            version = end - number * CHUNK
            self._lake.publish("sequences", [written], app=app, version=version, after=done)
        return sequences

    def _app(self, chunk: int) -> str:
        return f"corpus/{self.corpus}/{chunk:08d}"


def _table(sequences: list[Sequence]) -> pa.Table:
    schema = TABLES["sequences"].schema
    rows = [
        {
            "sequence": s.sequence,
            "tokens": list(s.tokens),
            "documents": [{"document": p.document, "start": p.start} for p in s.spans],
            "next_row": s.next_row,
            "next_offset": s.next_offset,
        }
        for s in sequences
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([f for f in schema if f.name != "corpus"]))


def _joined(ranges: Ordered[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges with those joined that follow on each other."""
    edges = [i for i, (a, b) in enumerate(pairwise(ranges), start=1) if a[1] != b[0]]
    starts = [0, *edges]
    return [
        (ranges[i][0], ranges[j - 1][1]) for i, j in zip(starts, [*edges, len(ranges)], strict=True)
    ]


def _is_in(number: int, ranges: list[tuple[int, int]]) -> bool:
    place = bisect_right(ranges, number, key=lambda r: r[0])
    return place > 0 and number < ranges[place - 1][1]


def _drain(ahead: queue.Queue[Any]) -> None:
    while True:
        try:
            ahead.get_nowait()
        except queue.Empty:
            return
