"""Many small pieces of waiting at one time, in bounded memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")


async def in_parallel(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, limit: int
) -> AsyncIterator[R]:
    """Yield `await work(item)` of every item, as they end; the order is not the items'.

    At most `limit` items are under way, and an item is taken only when there is room for it, so
    that memory does not grow with their number. The first error cancels the rest and is raised
    as it is.

    Args:
        items: Taken one at a time; may be a generator.
        work: Called once an item.
        limit: Items under way at one time.
    """
    live: set[asyncio.Future[R]] = set()
    source = iter(items)
    try:
        while True:
            while len(live) < limit:
                try:
                    item = next(source)
                except StopIteration:
                    limit = 0
                else:
                    live.add(asyncio.ensure_future(work(item)))
            if not live:
                return
            done, _ = await asyncio.wait(live, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                yield future.result()
                live.discard(future)
    finally:
        for future in live:
            future.cancel()
        await asyncio.gather(*live, return_exceptions=True)
