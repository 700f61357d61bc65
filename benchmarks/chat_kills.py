"""Twenty thousand paid calls, killed ten times at random: what is bought twice, what is lost.

    python benchmarks/chat_kills.py [--calls 20000] [--kills 10] [--concurrency 64] [--seed 0]

A process puts N different requests to a provider on loopback through the lake's chat and is killed
with SIGKILL whenever the provider has answered a random number more; the same command is started
again each time. The provider counts how often it answered each request. A reply is lost if it was
given and is neither in the journal nor in the `replies` table after a kill: it was in flight. All
others must be bought once; what was in flight is bought once more for each time it was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import loopback
from lakeinterp.chat import Message, Request, open_chat
from lakeinterp.chat.ledger import Ledger
from lakeinterp.chat.store import ReplyStore
from lakeinterp.config import ChatConfig, Deployment, RouteConfig
from lakeinterp.lake import Lake
from lakeinterp.work import in_parallel

MODEL, PRICES, DELAY_MS = "hosted_vllm/tiny", (1e-6, 4e-6), 20
SYSTEM = "Say for each text whether the explanation fits it. " * 80
"""As long as a judge's prompt, 4 kB."""
COST_USD = 1200 * PRICES[0] + 20 * PRICES[1]


def main() -> None:
    """Run, kill, run again, and compare what was bought with what is kept."""
    arguments = parsed()
    if arguments.child:
        asyncio.run(ask_all(arguments))
        return
    with tempfile.TemporaryDirectory() as folder, loopback.provider() as url:
        arguments.lake, arguments.url = str(Path(folder) / "lake"), url
        start, lost, n_rounds = time.perf_counter(), Counter[str](), 0
        dice = random.Random(arguments.seed)
        marks = sorted(dice.sample(range(arguments.calls // 50, arguments.calls), arguments.kills))
        for mark in [*marks, None]:
            n_rounds += 1
            if not run_until(arguments, mark):
                break
            gone = set(loopback.counts(url)) - kept(arguments)
            lost.update(gone)
            print(f"  killed after {sum(loopback.counts(url).values()):6,} answers: "
                  f"{len(gone):3} in flight were lost", flush=True)  # fmt: skip
        report(arguments, lost, n_rounds - 1, time.perf_counter() - start)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


def request(i: int) -> Request:
    """Return the request of a number."""
    messages = Message(role="system", content=SYSTEM), Message(role="user", content=str(i))
    return Request(route="judge", messages=messages, max_tokens=100)


async def ask_all(arguments: argparse.Namespace) -> None:
    """Put all requests to the lake's chat; what it holds is not asked again."""
    deployment = Deployment(
        model=MODEL,
        api_base=f"{arguments.url}/{DELAY_MS}/0/v1",
        input_cost_per_token=PRICES[0],
        output_cost_per_token=PRICES[1],
    )
    config = ChatConfig(
        explainer=RouteConfig(deployments=(deployment,)),
        concurrency=arguments.concurrency,
        budget_usd=1e6,
    )
    requests = (request(i) for i in range(arguments.calls))
    async with open_chat(Lake(arguments.lake), config) as chat:
        async for reply in in_parallel(requests, chat, limit=arguments.concurrency):
            assert reply.status == "ok", reply


def run_until(arguments: argparse.Namespace, mark: int | None) -> bool:
    """Start the run; kill it when the provider has answered `mark` requests.

    Returns:
        Whether it was killed; False if it ended by itself.
    """
    command = [sys.executable, __file__, "--child", "--calls", str(arguments.calls)]
    command += ["--concurrency", str(arguments.concurrency)]
    command += ["--lake", arguments.lake, "--url", arguments.url]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(0.1)
            if mark is not None and len(loopback.counts(arguments.url)) >= mark:
                process.kill()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    time.sleep(0.2)  # answers that were on their way are counted
    return process.returncode != 0


def kept(arguments: argparse.Namespace) -> set[str]:
    """Return the requests whose replies survived: what the next start will find."""
    lake = Lake(arguments.lake)
    store = ReplyStore(lake)
    store.move()
    return {json.loads(row["request"])["messages"][-1]["content"] for row in lake.rows("replies")}


def report(arguments: argparse.Namespace, lost: Counter[str], n_kills: int, seconds: float) -> None:
    """Compare, print, and fail if a reply was bought without need or is missing."""
    bought = loopback.counts(arguments.url)
    lake = Lake(arguments.lake)
    rows = lake.rows("replies")
    expected = {str(i): 1 + lost[str(i)] for i in range(arguments.calls)}
    wrong = {i: n for i, n in bought.items() if n != expected.get(i)}
    ledger = Ledger(Path(arguments.lake) / "_journal" / "budget.sqlite")
    n_bought, cost = sum(bought.values()), sum(row["cost_usd"] for row in rows)
    print(f"{arguments.calls:,} calls at concurrency {arguments.concurrency}, {n_kills} kills, "
          f"{seconds:.0f} s")  # fmt: skip
    print(f"  answers the provider gave               {n_bought:10,}")
    print(f"  of these in flight at a kill, and lost  {sum(lost.values()):10,}")
    print(f"  requests bought not as often as due     {len(wrong):10,}")
    print(f"  rows in `replies`, distinct keys        {len(rows):10,} "
          f"{len({row['key'] for row in rows}):,}")  # fmt: skip
    print(f"  cost in `replies` / calls x price       {cost / (arguments.calls * COST_USD):10.6f}")
    print(f"  booked in the budget / answers x price  "
          f"{ledger.spent.usd / (n_bought * COST_USD):10.6f}")  # fmt: skip
    ledger.close()
    if wrong or len(rows) != arguments.calls or n_kills != arguments.kills:
        raise SystemExit(f"not as it should be: {dict(list(wrong.items())[:5])}")


if __name__ == "__main__":
    main()
