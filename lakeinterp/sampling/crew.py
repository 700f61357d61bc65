"""Several units of a hookpoint at the same time: one open session a thread.

DuckDB spreads one statement over cores, but the statements of a unit are too short for that to pay:
two sessions of one thread each do half as much again as one session of two.
"""

from __future__ import annotations

import os
import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from lakeinterp.sampling.session import Shared, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.session import Session

T = TypeVar("T")
U = TypeVar("U")
_MOST = 8


class Crew:
    """Sessions of one hookpoint, opened when they are first needed."""

    def __init__(self, lake: Lake, capture: str, config: SamplingConfig, *, hookpoint: str) -> None:
        self.lake, self.capture, self.config, self.hookpoint = lake, capture, config, hookpoint
        self.n_workers = config.workers or min(_MOST, os.cpu_count() or 1)
        self.sessions: list[Session] = []
        """Those that are open by now."""
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        self._opened = ExitStack()
        self._lock = Lock()
        self._shared = Shared(n_to_audit=1)

    def each(self, work: Callable[[Session, U], T], todo: Sequence[U]) -> Iterator[T]:
        """Yield what some work gives for each unit or group of units, in their order.

        What raises is raised here; what was not begun is left undone.
        """
        with ThreadPoolExecutor(self.n_workers, thread_name_prefix="unit") as pool:
            try:
                yield from pool.map(lambda one: self._with_session(work, one), todo)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _with_session(self, work: Callable[[Session, U], T], one: U) -> T:
        try:
            session = self._free.get_nowait()
        except queue.Empty:
            session = self._open()
        try:
            return work(session, one)
        finally:
            self._free.put(session)

    def _open(self) -> Session:
        stack = ExitStack()
        session = stack.enter_context(
            open_session(self.lake, self.capture, self.config, hookpoint=self.hookpoint)
        )
        session.shared = self._shared
        with self._lock:
            self._opened.push(stack)
            self.sessions.append(session)
        threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        session.con.execute("SET threads = $threads", {"threads": threads})
        return session

    def close(self) -> None:
        """Close the sessions."""
        self._opened.close()


@contextmanager
def crew_for(lake: Lake, capture: str, config: SamplingConfig, *, hookpoint: str) -> Iterator[Crew]:
    """Yield a crew of `config.workers` sessions for a hookpoint."""
    crew = Crew(lake, capture, config, hookpoint=hookpoint)
    try:
        yield crew
    finally:
        crew.close()
