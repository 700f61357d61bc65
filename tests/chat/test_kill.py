"""SIGKILL in the middle of many calls: every answered reply was bought once."""

import signal
import subprocess
import sys
import time
from collections import Counter

from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire

N, CONCURRENCY = 60, 4
CODE = """
import asyncio, sys
from tests.chat.helpers import question
from lakeinterp.chat import open_chat
from lakeinterp.config import ChatConfig
from lakeinterp.lake import Lake
from lakeinterp.work import in_parallel

async def ask_all(lake, config, n):
    async with open_chat(lake, config) as chat:
        requests = (question(str(i)) for i in range(n))
        async for reply in in_parallel(requests, chat, limit=config.concurrency):
            pass

config = ChatConfig.model_validate_json(sys.argv[2])
asyncio.run(ask_all(Lake(sys.argv[1]), config, int(sys.argv[3])))
"""


def test_killed_run_is_finished_by_the_next_and_buys_again_only_what_was_in_flight(lake):
    with Wire(lambda body: Answer(text=body["messages"][0]["content"], delay_s=0.03)) as wire:
        config = settings(wire, concurrency=CONCURRENCY)
        arguments = [sys.executable, "-c", CODE, lake.root, config.model_dump_json(), str(N)]
        with subprocess.Popen(arguments) as process:
            while wire.n_requests < N // 2 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        bought_by_then = wire.n_requests
        assert bought_by_then < N
        replies, stats = ask_stored(lake, config, *(question(str(i)) for i in range(N)))
        times = Counter(body["messages"][0]["content"] for body in wire.requests)
    assert [r.text for r in replies] == [str(i) for i in range(N)]
    assert stats.n_stored >= bought_by_then - 2 * CONCURRENCY
    # Those in flight, and those whose replies were on their way to the disk.
    assert sum(times.values()) <= N + 2 * CONCURRENCY
    assert max(times.values()) <= 2
    assert len(lake.rows("replies")) == N
