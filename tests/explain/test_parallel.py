"""Many small pieces of waiting at one time."""

from __future__ import annotations

import asyncio

import pytest

from lakeinterp.work import in_parallel


async def gathered(items, work, limit):
    return [result async for result in in_parallel(items, work, limit=limit)]


def test_every_item_is_done_once_and_never_more_than_the_limit_at_a_time():
    under_way, most, taken = 0, 0, 0

    def source():
        nonlocal taken
        for i in range(50):
            taken += 1
            assert taken <= done_before(i) + 7
            yield i

    finished = 0

    def done_before(_):
        return finished

    async def work(i):
        nonlocal under_way, most, finished
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        finished += 1
        return i

    assert sorted(asyncio.run(gathered(source(), work, 7))) == list(range(50))
    assert most == 7


def test_an_error_is_raised_as_it_is_and_stops_the_others():
    cancelled = []

    async def work(i):
        if i in (2, 3):
            raise ValueError(f"item {i}")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(i)
            raise

    with pytest.raises(ValueError, match="item"):
        asyncio.run(gathered(range(9), work, 4))
    assert sorted(cancelled) == [0, 1]


def test_no_items_give_no_results():
    async def work(i):
        return i

    assert asyncio.run(gathered([], work, 3)) == []
