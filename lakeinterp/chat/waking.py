"""Servers of this process that are started by the first request to them: a run may need none."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakeinterp.errors import LakeinterpError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakeinterp.chat.vllm import VllmServer

_HOST = "127.0.0.1"


class Sleeper:
    """A server that is not started yet; its port is kept for it.

    Args:
        server: Not started.
    """

    def __init__(self, server: VllmServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._problem: Exception | None = None
        self._is_awake = False
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((_HOST, server.port))

    def wake(self) -> None:
        """Start it and return once it answers; at once if it was started before.

        Raises:
            ConfigError: it does not start, now or when it was woken before.
        """
        with self._lock:
            if self._problem is not None:
                raise self._problem
            if self._is_awake:
                return
            self._reserved.close()
            try:
                self._server.start()
            except (LakeinterpError, OSError) as exc:
                self._problem = exc
                raise
            self._is_awake = True

    def stop(self) -> None:
        """End it, also while it is being started."""
        self._reserved.close()
        self._server.stop()


_sleepers: dict[str, Sleeper] = {}
"""By address."""


@contextmanager
def sleeping(server: VllmServer) -> Iterator[None]:
    """Let the first request to a server's address start it while the block runs; end it after.

    Only requests of this process do: others have to be given a server that runs.
    """
    sleeper = Sleeper(server)
    _sleepers[server.url] = sleeper
    try:
        yield
    finally:
        del _sleepers[server.url]
        sleeper.stop()


async def wake(addresses: Iterable[str | None]) -> None:
    """Return once every server that stands behind one of these addresses answers.

    Raises:
        ConfigError: one does not start, with the last thing it said.
    """
    for address in addresses:
        if address is None or (sleeper := _sleepers.get(address)) is None:
            continue
        try:
            await asyncio.to_thread(sleeper.wake)
        except asyncio.CancelledError:
            sleeper.stop()  # else the thread would go on waiting for it
            raise
