"""A step's units shared among processes: LiteLLM fills a core with 100 to 190 calls a second.

Each process has a chat of its own and takes one unit after the other until none is left. Replies
and budget are shared through the lake's journal, so nothing is bought twice; rows are committed
unit by unit, as in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import threading
from collections import Counter
from dataclasses import fields
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lakeinterp import logs, telemetry
from lakeinterp.errors import ConfigError, LakeinterpError
from lakeinterp.lake import faults, open_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from lakeinterp.chat import ChatStats
    from lakeinterp.config import ChatConfig, Config
    from lakeinterp.config.section import Section
    from lakeinterp.terms import Unit

    Step: TypeAlias = Literal["explain", "score"]
    UnitDone: TypeAlias = Callable[[Unit, Counter[str]], None]

_log = logging.getLogger(__name__)
_ROUTES, _KINDS = ("explainer", "judge"), ("deployments", "fallbacks")
_SHARED = ("concurrency", "max_concurrency", "requests_per_minute", "tokens_per_minute")
_PATIENCE_S = 60.0
"""For workers to keep the replies in flight when the run is interrupted."""


def over_units(
    config: Config,
    step: Step,
    found: Sequence[Unit],
    *,
    run: str,
    progress: UnitDone | None = None,
    watch: Callable[[ChatStats], None] | None = None,
) -> tuple[Counter[str], ChatStats]:
    """Do a step on units with `chat.workers` processes.

    Args:
        config: The settings; limits of calls are shared out, so that they hold for all together.
        step: `explain` or `score`.
        found: The units; each is done once, in any order.
        run: Id written to the rows.
        progress: Called here after each unit with the rows it wrote, by status.
        watch: Given the counts of all chats before the first call; they grow with each unit.

    Returns:
        Rows written, by status, and what all chats did.

    Raises:
        LakeinterpError: a worker failed or died; what the others did until then is in the lake.
    """
    from lakeinterp.chat import ChatStats

    n_workers = n_sharing(config.chat, min(config.chat.workers, len(found)) or 1)
    context = multiprocessing.get_context("spawn")
    next_unit = context.Value("q", 0)
    crew: dict[Connection, SpawnProcess] = {}
    for number in range(n_workers):
        own = config.model_copy(update={"chat": share(config.chat, n_workers, number)})
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_main, args=(own, step, found, run, next_unit, there))
        process.start()
        there.close()
        crew[here] = process
    stats = ChatStats()
    if watch is not None:
        watch(stats)
    try:
        return _gather(crew, stats, progress), stats
    finally:
        next_unit.value = len(found)  # none is begun any more
        _dismiss(crew)


def n_sharing(chat: ChatConfig, wanted: int) -> int:
    """Return how many workers, at most those wanted, can share the limits of calls.

    Each needs at least 1 of every limit, so that all together never exceed one: of three requests
    a minute no four workers can have a part.
    """
    smallest = min(_limits(chat), key=lambda limit: limit[1])
    if smallest[1] < wanted:
        said = "%s = %d is shared by no more workers than that: %d are started in place of %d"
        _log.warning(said, *smallest, smallest[1], wanted)
    return max(1, min(wanted, smallest[1]))


def share(chat: ChatConfig, n_workers: int, number: int | None = None) -> ChatConfig:
    """Return the settings of one of several workers: its part of every limit.

    The parts of all add up to the limit, or to less; the budget is the lake's and is not shared
    out. Names of models, keys of replies and digests of settings are those of the whole.

    Args:
        chat: The settings for all workers together.
        n_workers: At most `n_sharing`.
        number: Of the worker, from 0: the first ones get what is left over. None takes the part
            that all have.

    Raises:
        ConfigError: there are more workers than a limit can be shared by.
    """
    for name, limit in _limits(chat):
        if limit < n_workers:
            raise ConfigError(f"{name} = {limit} cannot be shared by {n_workers} workers")

    def part(section: Section) -> dict[str, Any]:
        found = {name: getattr(section, name, None) for name in _SHARED}
        return {
            name: n // n_workers + (number is not None and number < n % n_workers)
            for name, n in found.items()
            if n is not None
        }

    routes = {}
    for name in _ROUTES:
        route = getattr(chat, name)
        asked = {
            kind: tuple(d.model_copy(update=part(d)) for d in getattr(route, kind))
            for kind in _KINDS
        }
        routes[name] = route.model_copy(update={**asked, **part(route)})
    return chat.model_copy(update={**routes, **part(chat), "workers": 1})


def _limits(chat: ChatConfig) -> Iterator[tuple[str, int]]:
    """Yield every limit of calls that is set, with the name of its setting."""
    sections: list[tuple[str, Section]] = [("chat", chat)]
    for name in _ROUTES:
        route = getattr(chat, name)
        sections.append((f"chat.{name}", route))
        for kind in _KINDS:
            at = enumerate(getattr(route, kind))
            sections += [(f"chat.{name}.{kind}[{i}]", deployment) for i, deployment in at]
    for path, section in sections:
        for name in _SHARED:
            if (limit := getattr(section, name, None)) is not None:
                yield f"{path}.{name}", limit


def _gather(
    crew: dict[Connection, SpawnProcess], stats: ChatStats, progress: UnitDone | None
) -> Counter[str]:
    total = Counter[str]()
    newest: dict[Connection, ChatStats] = {}
    left = set(crew)
    while left:
        for pipe in left.intersection(wait(list(left))):
            try:
                kind, *said = pipe.recv()
            except EOFError:
                crew[pipe].join()
                raise LakeinterpError(_died(crew[pipe].exitcode)) from None
            if kind == "failed":
                raise LakeinterpError(said[0])
            newest[pipe] = said[0]
            _add_up(stats, newest.values())
            if kind == "done":
                left.discard(pipe)
                continue
            total += said[2]
            if progress is not None:
                progress(said[1], said[2])
    return total


def _died(code: int | None) -> str:
    """Return what a worker's end without a word means."""
    if code is not None and code > 0:
        why = "a fault of lakeinterp or of a library: what it wrote above says which; please report"
    else:
        why = "it was killed, often for want of memory"
    return (
        f"a worker process ended with exit code {code} ({why}); run the same command again, it "
        "continues where this one stopped"
    )


def _dismiss(crew: dict[Connection, SpawnProcess]) -> None:
    for pipe, process in crew.items():
        # Nobody listens any more; a worker that still has something to say goes on without.
        pipe.close()
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()


def _add_up(stats: ChatStats, parts: Iterable[ChatStats]) -> None:
    """Set counts to the sums of others."""
    parts = list(parts)
    for name in (field.name for field in fields(stats)):
        values = [getattr(part, name) for part in parts]
        first, *more = values
        if isinstance(first, Counter | int | float):
            setattr(stats, name, sum(more, start=first))


def _main(
    config: Config, step: Step, found: Sequence[Unit], run: str, next_unit: Any, pipe: Connection
) -> None:
    """Work in a process of its own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.inherit()
    try:
        asyncio.run(_work(config, step, _taken(found, next_unit), run, pipe))
        telemetry.flush()
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as exc:
        if not (isinstance(exc, LakeinterpError) or faults.is_foreign(exc)):
            raise
        line = str(exc) if isinstance(exc, LakeinterpError) else str(faults.translate(exc))
        _say(pipe, "failed", line)


async def _work(
    config: Config, step: Step, taken: Iterator[Unit], run: str, pipe: Connection
) -> None:
    from lakeinterp.chat import open_chat
    from lakeinterp.explain import explain_unit
    from lakeinterp.score import score_unit

    do = explain_unit if step == "explain" else score_unit
    lake = open_lake(config)
    vocabulary = None
    async with open_chat(lake, config.chat) as chat:
        for unit in taken:
            vocabulary = vocabulary or lake.vocabulary(lake.capture(unit.capture)["tokenizer"])
            counts = await do(lake, unit, config, chat, run=run, vocabulary=vocabulary)
            _say(pipe, "unit", chat.stats, unit, counts)
    _say(pipe, "done", chat.stats)


def _taken(found: Sequence[Unit], next_unit: Any) -> Iterator[Unit]:
    while True:
        with next_unit.get_lock():
            i = next_unit.value
            next_unit.value = i + 1
        if i >= len(found):
            return
        yield found[i]


def _say(pipe: Connection, *message: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.send(message)


def _end_with_parent() -> None:
    """End at once if the parent dies: what was bought is in the journal."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
