"""One worker of a capture: a process with one device, told shard by shard what to do.

Started by `lakeinterp.capture.workers` with its messages on standard input and output.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

import torch

from lakeinterp import logs
from lakeinterp.capture import messages
from lakeinterp.capture.opening import first_sequences, make_ready, open_capture
from lakeinterp.capture.shard import Group, run_shards
from lakeinterp.config import load
from lakeinterp.corpus import Sequence, SequenceSource, Tokenizer
from lakeinterp.errors import LakeinterpError
from lakeinterp.lake import faults, open_lake
from lakeinterp.lake.shards import Todo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.capture.messages import Message
    from lakeinterp.capture.shard import Committed

_TELL_EVERY_S = 0.2
_NOBODY = 3
"""Exit code of a worker that nobody gives orders any more."""


def main() -> int:
    """Do what is asked on standard input until the end; return the exit code."""
    # Ctrl-C reaches whoever started this process, and that one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _private_output()
    logs.inherit()
    if not (line := sys.stdin.buffer.readline()):
        return _NOBODY
    first = messages.read(line)
    torch.set_num_threads(int(first["threads"]))
    try:
        _work(first, answers)
    except LakeinterpError as exc:
        messages.write(answers, **messages.failure(exc))
        return 2
    except Exception as exc:
        if not faults.is_foreign(exc):
            messages.write(answers, **messages.failure(exc))
            raise
        messages.write(answers, **messages.failure(faults.translate(exc)))
        return 2
    messages.write(answers, said="ended")
    return 0


def _private_output() -> IO[bytes]:
    """Keep standard output for messages; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _work(first: Message, answers: IO[bytes]) -> None:
    config = load(values=_settings(first))
    lake = open_lake(config)
    tokenizer = Tokenizer(config.capture.model, config.capture.model_revision)
    source = SequenceSource(lake, config.corpus, tokenizer)
    inbox = _Inbox(source)
    opened = open_capture(lake, config, tokenizer, source, str(first["device"]))
    messages.write(answers, said="loaded", capture=opened.plan.capture, epoch=opened.epoch)
    inbox.get()  # `plan` or `go`: the coders are measured by one worker alone
    run = make_ready(opened, first_sequences(source, config))
    messages.write(answers, said="ready", batch=run.batches.size)
    run_shards(run, inbox.groups(), _Teller(answers))


def _settings(first: Message) -> dict[str, object]:
    found: dict[str, object] = dict(first["config"])
    found["storage_options"] = first["storage_options"]
    return found


class _Inbox:
    """Messages as they come; sequences of a shard are read ahead of the model."""

    def __init__(self, source: SequenceSource) -> None:
        self._source = source
        self._come: queue.Queue[tuple[Message, Future[list[Sequence]] | None]] = queue.Queue()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="sequences")
        threading.Thread(target=self._listen, name="messages", daemon=True).start()

    def get(self) -> tuple[Message, Future[list[Sequence]] | None]:
        """Return the next message, and what is read for it."""
        return self._come.get()

    def groups(self) -> Iterator[Group | None]:
        """Yield a piece of work for each shard until the end, None where one is waited for."""
        while True:
            if self._come.empty():
                yield None
            message, sequences = self.get()
            if sequences is None:
                self._loader.shutdown()
                return
            yield Group(Todo(*message["todo"]), sequences.result())

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            message = messages.read(line)
            if message["do"] == "shard":
                todo = Todo(*message["todo"])
                reading = self._loader.submit(self._source.load, todo.first, todo.stop)
                self._come.put((message, reading))
            else:
                self._come.put((message, None))
            if message["do"] == "end":
                return
        os._exit(_NOBODY)  # whoever gives the orders is gone: nothing half done is ever committed


class _Teller:
    """Tells what is done; tokens every now and then."""

    def __init__(self, answers: IO[bytes]) -> None:
        self._answers, self._n_tokens, self._told = answers, 0, time.monotonic()

    def tokens(self, n: int) -> None:
        """Add tokens that went through the model."""
        self._n_tokens += n
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._tell_tokens()

    def encoded(self, group: Group) -> None:
        """Ask for another shard."""
        self._tell_tokens()
        messages.write(self._answers, said="encoded", shard=group.todo.shard)

    def committed(self, group: Group, done: Committed | None) -> None:
        """Tell of a shard that is in the lake."""
        more: dict[str, Any] = done._asdict() if done else {"n_rows": None, "n_bytes": None}
        messages.write(self._answers, said="committed", shard=group.todo.shard, **more)

    def _tell_tokens(self) -> None:
        if self._n_tokens:
            messages.write(self._answers, said="tokens", n=self._n_tokens)
        self._n_tokens, self._told = 0, time.monotonic()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of libraries are not waited for; every commit is made.
    os._exit(code)
