"""How fast a deployment or a route may be asked: calls in flight, requests and tokens a minute.

Of this process: several processes share a provider's limit by each being given a part of it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager


class Pace:
    """A bucket that fills by `per_minute` and holds one second's worth, or one unit.

    What is larger than the bucket waits until it is full, and what comes next until the rest is
    paid back: over any minute at most one second's worth and one request pass beyond the limit.
    """

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60.0
        self._most = max(1.0, self._per_s)
        self._held = self._most
        self._at = time.monotonic()

    def wait_s(self, n: float) -> float:
        """Return how long one who comes now for `n` units has to wait."""
        now = time.monotonic()
        self._held = min(self._most, self._held + (now - self._at) * self._per_s)
        self._at = now
        return max(0.0, (min(n, self._most) - self._held) / self._per_s)

    def take(self, n: float) -> None:
        """Take `n` units."""
        self._held -= n

    def give_back(self, n: float) -> None:
        """Return units that were not used; a negative number takes more."""
        self._held += n


class Limits:
    """The limits of one deployment or route; None is no limit.

    Args:
        concurrency: Calls in flight at one time.
        requests_per_minute: HTTP requests sent in a minute.
        tokens_per_minute: Tokens of prompts and replies in a minute.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self._gate: AbstractAsyncContextManager[object] = nullcontext()
        if concurrency is not None:
            self._gate = asyncio.Semaphore(concurrency)
        self._requests = Pace(requests_per_minute) if requests_per_minute is not None else None
        self._tokens = Pace(tokens_per_minute) if tokens_per_minute is not None else None
        self._line = asyncio.Lock()
        """Held by the one call that waits for the paces; the others stand behind it in order."""
        self._returned = asyncio.Event()

    @asynccontextmanager
    async def turn(self, n_tokens: int) -> AsyncIterator[None]:
        """Wait for one's turn and hold a place while the block runs.

        Args:
            n_tokens: Expected of the call; `used` mends it.
        """
        async with self._gate:
            if self._requests is not None or self._tokens is not None:
                await self._stand_in_line(n_tokens)
            yield

    async def _stand_in_line(self, n_tokens: int) -> None:
        async with self._line:
            while (wait_s := self.wait_s(n_tokens)) > 0:
                self._returned.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._returned.wait()
            if self._requests is not None:
                self._requests.take(1)
            if self._tokens is not None:
                self._tokens.take(n_tokens)

    def used(self, n_tokens: int, expected: int) -> None:
        """Book the tokens that a call came to in place of those expected."""
        if self._tokens is not None:
            self._tokens.give_back(expected - n_tokens)
            self._returned.set()

    def wait_s(self, n_tokens: int = 1) -> float:
        """Return how long a call would have to wait now, places and those in line aside."""
        requests_s = self._requests.wait_s(1) if self._requests is not None else 0.0
        return max(requests_s, self._tokens.wait_s(n_tokens) if self._tokens is not None else 0.0)
