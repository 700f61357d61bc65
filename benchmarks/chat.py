"""How many calls a second the chat makes, against a bare HTTP client in the same run.

    python benchmarks/chat.py [--seconds 4] [--delays 20,50,200] [--only cells,split,workers]
    python benchmarks/chat.py --memory 100000 [--of own]

A provider on loopback in a process of its own answers after 20, 50 or 200 ms; of a thousand
requests ten fail in turn with 429, with 500 or by not answering within `chat.timeout_s`. Each
client has a process of its own and keeps C calls in flight for some seconds, retries as the chat
does, and is fed one request at a time. The chat's gate is C and twice as many callers wait for
it, as when explaining: what a caller does besides (journal, table) is not in flight.

- bare: aiohttp, one session, no parsing but JSON;
- litellm: `litellm.Router`, set up as the chat sets it up;
- chat: `LiteLLMChat`: that, routes, retries, prices and the reply's reading;
- stored: `open_chat` on a lake: that, keys, journal, table and budget. What a run uses;
  Beside its ratio to bare stands the one to the smaller of bare and what one core can carry;
- own: `open_chat` around a chat that answers at once: what our layer costs without HTTP.

Split: CPU per call of each, in milliseconds. Workers: `stored` in 1 and 2 processes on one lake.
Memory: resident memory of `stored`, or of `own` with --of own, at each tenth of so many calls.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lakeinterp.chat import Request

    Ask = Callable[[int], Awaitable[bool]]

SYSTEM = "Say for each text whether the explanation fits it. " * 80
CONCURRENCIES, FAULTS = (16, 64, 256), 10
TIMEOUT_S, WAIT_S, ATTEMPTS = 10.0, 0.05, 6
WARM_S = 1.5


def main() -> None:
    """Run what is wanted and print tables."""
    arguments = parsed()
    if arguments.client:
        asyncio.run(measure(arguments))
        return
    with loopback.provider() as url:
        arguments.url = url
        if arguments.memory:
            memory(arguments)
            return
        if "cells" in arguments.only:
            cells(arguments)
        if "split" in arguments.only:
            split(arguments)
        if "workers" in arguments.only:
            workers(arguments)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--delays", default="20,50,200", help="of the provider, milliseconds")
    parser.add_argument("--only", default="cells,split,workers")
    parser.add_argument("--memory", type=int, default=0, metavar="CALLS")
    parser.add_argument("--of", default="stored", help="whose memory; own makes no HTTP calls")
    for name in ("client", "url", "lake"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--plan", default="[]", help=argparse.SUPPRESS)
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# -- tables -----------------------------------------------------------------------------------


def cells(arguments: argparse.Namespace) -> None:
    """Print calls/s of the bare client and of the chat at each delay and concurrency."""
    plan = [[int(d), c, FAULTS] for d in arguments.delays.split(",") for c in CONCURRENCIES]
    bare = run(arguments, "bare", plan)
    stored = run(arguments, "stored", plan)
    print("                  calls/s           CPU ms a call              chat over")
    print("delay  in flight    bare    chat       bare    chat    bare   min(bare, its CPU)")
    row = "{:3} ms {:8}  {:7.1f} {:7.1f}   {:8.2f} {:7.2f} {:7.2f} {:7.2f}"
    for (delay_ms, concurrency, _), b, s in zip(plan, bare, stored, strict=True):
        b_rate, s_rate = b["rate"], s["rate"]
        capped = s_rate / min(b_rate, 1000 / s["cpu_ms"])
        cpu = b["cpu_ms"], s["cpu_ms"]
        print(row.format(delay_ms, concurrency, b_rate, s_rate, *cpu, s_rate / b_rate, capped))


def split(arguments: argparse.Namespace) -> None:
    """Print CPU per call, layer by layer, without faults."""
    print("50 ms, 64 in flight, no faults      CPU ms a call   calls/s")
    for client in ("bare", "litellm", "chat", "stored", "own"):
        (found,) = run(arguments, client, [[50, 64, 0]])
        print(f"  {client:30} {found['cpu_ms']:16.2f}   {found['rate']:7.1f}")


def workers(arguments: argparse.Namespace) -> None:
    """Print calls/s of one and two processes on one lake."""
    print("50 ms, 128 in flight in all, no faults     calls/s   CPU ms a call")
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 2):
            plan, lake = [[50, 128 // n, 0]], f"{folder}/lake-{n}"
            children = [start(arguments, "stored", plan, lake, held=True) for _ in range(n)]
            for child in children:
                assert child.stdout is not None
                child.stdout.readline()
            for child in children:  # all are ready: what they do in the same seconds is added up
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            found = [finish(child)[0] for child in children]
            if not all(one["rate"] for one in found):
                raise SystemExit("a process made no calls: give it more --seconds")
            rate = sum(one["rate"] for one in found)
            cpu_ms = sum(one["rate"] * one["cpu_ms"] for one in found) / rate
            print(f"  {n} at a time {rate:36.1f} {cpu_ms:15.2f}")


def memory(arguments: argparse.Namespace) -> None:
    """Print resident memory along many calls."""
    plan = [[1, 64, 0, arguments.memory // 10]] * 10
    print("calls      resident MiB   calls/s")
    n = 0
    for found in run(arguments, arguments.of, plan):
        n += found["n"]
        print(f"{n:8,}   {found['rss_mib']:10.0f}   {found['rate']:7.1f}")


def run(arguments: argparse.Namespace, client: str, plan: list[list[int]]) -> list[dict[str, Any]]:
    """Run a client's plan in a process of its own and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        return finish(start(arguments, client, plan, f"{folder}/lake"))


def start(
    arguments: argparse.Namespace,
    client: str,
    plan: list[list[int]],
    lake: str,
    *,
    held: bool = False,
) -> subprocess.Popen[str]:
    """Start a client's process; a held one says when it is ready and waits for a line."""
    command = [sys.executable, __file__, "--client", client, "--url", arguments.url]
    command += ["--lake", lake, "--plan", json.dumps(plan), "--seconds", str(arguments.seconds)]
    command += ["--held"] if held else []
    given = subprocess.PIPE if held else None
    return subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for a client and return what it printed."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a client ended with exit code {process.returncode}")
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


# -- in the client's process ------------------------------------------------------------------


async def measure(arguments: argparse.Namespace) -> None:
    """Do a plan's parts one after the other and print what was measured."""
    found = []
    open_client = {"bare": bare, "litellm": litellm, "chat": chat, "stored": stored, "own": own}
    numbers = itertools.count(os.getpid() * 10_000_000)
    for delay_ms, concurrency, faults, *n in json.loads(arguments.plan):
        url = f"{arguments.url}/{delay_ms}/{faults}/v1"
        async with open_client[arguments.client](url, arguments.lake, concurrency) as ask:
            assert await ask(next(numbers))  # LiteLLM loads a part of itself with the first call
            if arguments.held:
                print("ready", flush=True)
                sys.stdin.readline()
            if n:
                found.append(await counted(ask, numbers, concurrency, n[0]))
            else:
                n_callers = concurrency * (1 if arguments.client in ("bare", "litellm") else 2)
                found.append(await timed(ask, numbers, n_callers, arguments.seconds))
    print(json.dumps(found))


async def timed(ask: Ask, numbers: itertools.count[int], c: int, seconds: float) -> dict[str, Any]:
    """Keep `c` calls in flight; those that end within some seconds after the warm-up count."""
    start = time.perf_counter() + WARM_S
    n = 0

    async def keep_asking() -> None:
        nonlocal n
        while time.perf_counter() < start + seconds:
            assert await ask(next(numbers))
            n += start <= time.perf_counter() < start + seconds

    tasks = [asyncio.create_task(keep_asking()) for _ in range(c)]
    await asyncio.sleep(start - time.perf_counter())
    since, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(start + seconds - since)
    spent, cpu = time.perf_counter() - since, time.process_time() - cpu
    found = {"rate": n / spent, "cpu_ms": 1000 * cpu / max(1, n)}
    for task in tasks:  # bare waits for nobody; a chat keeps what is under way when it closes
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def counted(ask: Ask, numbers: itertools.count[int], c: int, n: int) -> dict[str, Any]:
    """Make so many calls, `c` in flight, fed lazily as the steps feed them."""
    from lakeinterp.work import in_parallel

    start = time.perf_counter()
    async for is_ok in in_parallel(itertools.islice(numbers, n), ask, limit=c):
        assert is_ok
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    rate = n / (time.perf_counter() - start)
    return {"n": n, "rate": rate, "rss_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20}


def messages(i: int) -> list[dict[str, str]]:
    """Return a prompt as long as a judge's."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": str(i)}]


def request(i: int) -> Request:
    """Return the same as a request."""
    from lakeinterp.chat import Message, Request

    said = tuple(Message(**message) for message in messages(i))  # type: ignore[arg-type]
    return Request(route="judge", messages=said, max_tokens=100)


def settings(url: str, concurrency: int) -> Any:
    """Return the chat's settings."""
    from lakeinterp.config import ChatConfig, Deployment, RouteConfig

    deployment = Deployment(
        model="hosted_vllm/tiny",
        api_base=url,
        input_cost_per_token=1e-6,
        output_cost_per_token=1e-6,
    )
    return ChatConfig(
        explainer=RouteConfig(deployments=(deployment,)),
        concurrency=concurrency,
        timeout_s=TIMEOUT_S,
        retry_wait_s=WAIT_S,
        attempts=ATTEMPTS,
        budget_usd=1e6,
    )


@asynccontextmanager
async def bare(url: str, _: str, __: int) -> AsyncIterator[Ask]:
    """Post with aiohttp and retry after a fixed wait."""
    import aiohttp

    limits = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=limits, timeout=aiohttp.ClientTimeout(TIMEOUT_S)
    ) as session:

        async def ask(i: int) -> bool:
            body = {"model": "tiny", "messages": messages(i), "max_tokens": 100, "temperature": 0.0}
            for _ in range(ATTEMPTS):
                try:
                    async with session.post(f"{url}/chat/completions", json=body) as answer:
                        if answer.status == 200:
                            return bool((await answer.json())["choices"])
                        await answer.read()
                except TimeoutError:
                    pass
                await asyncio.sleep(WAIT_S)
            return False

        yield ask


@asynccontextmanager
async def litellm(url: str, _: str, c: int) -> AsyncIterator[Ask]:
    """Ask LiteLLM's Router; without faults only."""
    from lakeinterp.chat.backend import close_router, open_router
    from lakeinterp.chat.targets import arguments, routes_of

    target = routes_of(settings(url, c))["judge"].deployments[0]
    router = open_router((target,))

    async def ask(i: int) -> bool:
        wanted = arguments(request(i), target, set(), TIMEOUT_S)
        return bool((await router.acompletion(**wanted)).choices)

    yield ask
    await close_router(router)


@asynccontextmanager
async def chat(url: str, _: str, c: int) -> AsyncIterator[Ask]:
    """Ask `LiteLLMChat`."""
    from lakeinterp.chat import LiteLLMChat

    asked = LiteLLMChat(settings(url, c))

    async def ask(i: int) -> bool:
        return (await asked(request(i))).status == "ok"

    yield ask
    await asked.aclose()


@asynccontextmanager
async def stored(url: str, lake: str, c: int) -> AsyncIterator[Ask]:
    """Ask the lake's chat."""
    from lakeinterp.chat import open_chat
    from lakeinterp.lake import Lake

    async with open_chat(Lake(lake), settings(url, c)) as asked:

        async def ask(i: int) -> bool:
            return (await asked(request(i))).status == "ok"

        yield ask


@asynccontextmanager
async def own(url: str, lake: str, c: int) -> AsyncIterator[Ask]:
    """Ask the lake's chat around one that answers at once."""
    from lakeinterp.chat import ScriptedChat, open_chat
    from lakeinterp.lake import Lake

    scripted = ScriptedChat(lambda _: '{"labels": [1, 0, 0, 1, 0]}')
    async with open_chat(Lake(lake), settings(url, c), chat=scripted) as asked:

        async def ask(i: int) -> bool:
            return (await asked(request(i))).status == "ok"

        yield ask


if __name__ == "__main__":
    main()
