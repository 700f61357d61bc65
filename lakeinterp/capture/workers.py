"""Capture by one process a device: shards are handed out, a lost worker's go to the others.

This process makes the sequences, so that text is tokenized once, and hands out a shard when its
sequences are in the lake. Workers read them there, and write what they find there: nothing but
numbers of shards goes through the pipes. A worker that is killed loses what it had not committed,
which another one does again.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lakeinterp
from lakeinterp.capture import messages
from lakeinterp.capture.devices import part_of, threads_each
from lakeinterp.capture.opening import n_checked
from lakeinterp.capture.plan import shards_of
from lakeinterp.capture.run import Captured, Progress, Totals, ended
from lakeinterp.capture.shard import Committed
from lakeinterp.corpus import SequenceSource, Tokenizer
from lakeinterp.corpus.sequences import PATIENCE_S
from lakeinterp.errors import ConfigError, LakeError, LakeinterpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.capture.messages import Message
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.lake.shards import Todo

_AHEAD = 2
"""Shards a worker has that it has not encoded: one in the model, one whose sequences are read."""
_NEEDED = {"lake", "corpus", "capture", "sampling"}
"""Settings that a worker is given; those of `sampling` are checked together with the others."""
_END_S = 10.0


def capture(
    lake: Lake, config: Config, devices: Sequence[str], progress: Progress | None = None
) -> Captured:
    """Capture with one process for each device; see `lakeinterp.capture.capture`.

    Raises:
        LakeinterpError: what stopped a worker; the others finished the shards they had.
        LakeError: every worker was killed.
    """
    settings = config.capture
    tokenizer = Tokenizer(settings.model, settings.model_revision)
    source = SequenceSource(lake, config.corpus, tokenizer)
    with _Crew(lake, config, source, devices, Totals(progress)) as crew:
        crew.run()
        return ended(lake, config, source, crew.name, crew.totals, crew.n_skipped, tuple(crew.lost))


@dataclass(eq=False)
class _Worker:
    name: str
    process: subprocess.Popen[bytes]
    state: Literal["loading", "loaded", "planning", "starting", "ready", "ending", "gone"]
    holds: dict[int, Todo] = field(default_factory=dict)
    """Shards it was given and has not committed."""
    n_ahead: int = 0
    """Of them, those that it has not encoded."""

    def tell(self, **message: object) -> None:
        """Send a message; one that is gone is noticed by the end of its answers."""
        assert self.process.stdin is not None
        try:
            messages.write(self.process.stdin, **message)
        except OSError:
            return


class _Crew:
    """The workers of one capture, and what is left to do."""

    def __init__(
        self, lake: Lake, config: Config, source: SequenceSource, devices: Sequence[str],
        totals: Totals,
    ) -> None:  # fmt: skip
        self.totals = totals
        self.lost: list[str] = []
        self.name = ""
        self.n_skipped = 0
        self._lake, self._config, self._source = lake, config, source
        self._devices, self._part = devices, part_of(config.capture)
        self._come: queue.Queue[tuple[_Worker | None, Message | BaseException]] = queue.Queue()
        self._stopped = threading.Event()
        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._todo: deque[Todo] = deque()
        self._epoch: int | None = None
        self._is_planned = False
        self._n_stored = 0
        self._is_stored = False
        """Whether all sequences that are wanted, or all there are, are in the lake."""
        self._error: LakeinterpError | None = None

    # -- processes ----------------------------------------------------------------------------

    def __enter__(self) -> _Crew:
        return self

    def _start_all(self) -> None:
        threads, names = threads_each(self._devices), _names(self._devices)
        for name, device in zip(names, self._devices, strict=True):
            process = subprocess.Popen(
                [sys.executable, "-m", "lakeinterp.capture.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(threads),
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
            worker = _Worker(name, process, "loading")
            self._workers.append(worker)
            worker.tell(
                config=self._config.model_dump(mode="json", include=_NEEDED),
                storage_options=self._config.store_options(),
                device=device,
                threads=threads,
            )
            self._start(self._hear, worker)
        self._start(self._feed)

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for worker in self._workers:
            # Nothing is lost by a kill but what is not committed.
            if worker.state != "gone":
                worker.process.kill()
            worker.process.wait()
        for thread in self._threads:
            thread.join(_END_S)
        for worker in self._workers:
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    _close(pipe)

    def _start(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _hear(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._come.put((worker, messages.read(line)))
        self._come.put((worker, {"said": "gone"}))

    def _feed(self) -> None:
        patience_s = PATIENCE_S if self._part[0] > 1 else 0.0
        n_wanted = max(n_checked(self._config), shards_of(self._config, "").n_sequences)
        try:
            for n in self._source.grow(n_wanted, patience_s, self._stopped):
                self._come.put((None, {"said": "stored", "n": n}))
        except BaseException as exc:  # noqa: BLE001 - handed to `run`, which raises it
            self._come.put((None, exc))
        self._come.put((None, {"said": "all stored"}))

    # -- what happens -------------------------------------------------------------------------

    def run(self) -> None:
        """Hand out shards until none is left.

        Raises:
            LakeinterpError: what stopped a worker, or the text cannot be read.
        """
        self._start_all()
        while any(worker.state != "gone" for worker in self._workers):
            worker, message = self._come.get()
            if isinstance(message, BaseException):
                raise message
            if worker is None:
                self._grown(message)
            else:
                getattr(self, f"_{message['said']}")(worker, message)
            if not self._error:
                self._go_on()
        if self._error:
            raise self._error

    def _grown(self, message: Message) -> None:
        self._is_stored = message["said"] == "all stored"
        self._n_stored = message.get("n", self._n_stored)
        if self._is_stored and not self._n_stored:
            raise ConfigError(
                f"corpus.dataset: {self._config.corpus.dataset} has less text than one sequence of "
                f"{self._config.corpus.context_tokens} tokens: give more, or lower "
                "corpus.context_tokens"
            )

    def _loaded(self, worker: _Worker, message: Message) -> None:
        worker.state = "loaded"
        if self._epoch is None:
            self.name, self._epoch = str(message["capture"]), int(message["epoch"])
            shards = shards_of(self._config, self.name)
            self._todo = deque(shards.left(self._lake, self._part))
            self.n_skipped = shards.count(self._part) - len(self._todo)
            self.totals.expect(list(self._todo), self._config.corpus.context_tokens)
        elif message["epoch"] != self._epoch:
            self._fail(
                LakeError(f"capture {self.name}: it was forgotten while it began; try again")
            )

    def _ready(self, worker: _Worker, _: Message) -> None:
        worker.state, self._is_planned = "ready", True

    def _tokens(self, _: _Worker, message: Message) -> None:
        self.totals.tokens(int(message["n"]))

    def _encoded(self, worker: _Worker, _: Message) -> None:
        worker.n_ahead -= 1

    def _committed(self, worker: _Worker, message: Message) -> None:
        worker.holds.pop(int(message["shard"]))
        if message["n_rows"] is not None:
            self.totals.add(Committed(message["n_rows"], message["n_bytes"]))

    def _failed(self, worker: _Worker, message: Message) -> None:
        worker.state = "ending"
        self._fail(messages.raised(message, worker.name))

    def _ended(self, worker: _Worker, _: Message) -> None:
        worker.state = "ending"

    def _gone(self, worker: _Worker, _: Message) -> None:
        """Put back what a worker had that was killed; the others do it."""
        was_ending = worker.state == "ending" and not worker.holds
        worker.state = "gone"
        code = worker.process.wait()
        if was_ending or self._error:
            return
        self.lost.append(f"{worker.name} ({_cause(code)})")
        self._todo.extendleft(sorted(worker.holds.values(), reverse=True))
        worker.holds.clear()
        if all(other.state == "gone" for other in self._workers):
            left = shards_of(self._config, self.name).left(self._lake, self._part)
            n_left = f"{len(left)} shards are left" if self.name else "nothing is captured yet"
            self._fail(
                LakeError(
                    f"every worker was lost ({', '.join(self.lost)}); {n_left}: run the same "
                    "command again, with fewer workers or a smaller capture.batch_sequences if "
                    "memory ran out"
                )
            )

    def _fail(self, error: LakeinterpError) -> None:
        """Let workers finish the shards they have, and stop the others."""
        self._error = self._error or error
        for worker in self._workers:
            if worker.holds and worker.state == "ready":
                worker.tell(do="end")
                worker.state = "ending"
            elif worker.state not in ("ending", "gone"):
                worker.process.kill()

    # -- handing out --------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Tell each worker what there is for it to do."""
        self._todo = deque(t for t in self._todo if not self._is_beyond(t))
        is_done = self._epoch is not None and not self._todo and self._is_stored
        is_done = is_done and not any(worker.holds for worker in self._workers)
        if is_done and self._has_more():
            is_done = False
        for worker in self._workers:
            if is_done and worker.state != "gone":
                self._end(worker)
            elif worker.state == "loaded":
                self._begin(worker)
            while worker.state == "ready" and worker.n_ahead < _AHEAD and self._is_next_stored():
                self._give(worker, self._todo.popleft())

    def _is_beyond(self, todo: Todo) -> bool:
        return self._is_stored and todo.first >= self._n_stored

    def _is_next_stored(self) -> bool:
        return bool(self._todo) and (self._is_stored or self._todo[0].stop <= self._n_stored)

    def _has_more(self) -> bool:
        """Look for what another process committed only a part of; whether there is any."""
        left = shards_of(self._config, self.name).left(self._lake, self._part)
        self._todo = deque(t for t in left if not self._is_beyond(t))
        return bool(self._todo)

    def _begin(self, worker: _Worker) -> None:
        """Let one worker measure the coders once there is text, and the others go on after it."""
        if self._is_planned:
            worker.tell(do="go")
            worker.state = "starting"
        elif not any(w.state == "planning" for w in self._workers) and (
            self._is_stored or self._n_stored >= n_checked(self._config)
        ):
            worker.tell(do="plan")
            worker.state = "planning"

    def _give(self, worker: _Worker, todo: Todo) -> None:
        if self._is_stored:
            todo = todo._replace(stop=min(todo.stop, self._n_stored))
        worker.holds[todo.shard] = todo
        worker.n_ahead += 1
        worker.tell(do="shard", todo=list(todo))

    def _end(self, worker: _Worker) -> None:
        if worker.state == "ready":
            worker.tell(do="end")
        elif worker.state != "ending":
            worker.process.kill()  # it has nothing and is still on its way to begin
        worker.state = "ending"


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: this package is found, and cores are shared."""
    found = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    root = str(Path(lakeinterp.__file__).parents[1])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (root, found.get("PYTHONPATH"))))
    return found


def _names(devices: Sequence[str]) -> list[str]:
    """Return a name for each worker: its device, counted where several share one."""
    seen: dict[str, int] = {}
    names = []
    for device in devices:
        seen[device] = seen.get(device, 0) + 1
        names.append(f"{device}#{seen[device]}" if devices.count(device) > 1 else device)
    return names


def _cause(code: int) -> str:
    """Return how a process ended that did not say so."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, perhaps for want of memory" if code == -signal.SIGKILL else name


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        return
