"""The main job as plain functions of the configuration; commands and flows call these.

Each step does what is left to do and nothing else, so that running one again after a kill, or
with more tokens, completes the lake.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from contextlib import AsyncExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from lakeinterp import logs, registry, subject, telemetry
from lakeinterp.errors import ConfigError
from lakeinterp.lake import open_lake, units, where

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from lakeinterp.chat import Chat, ChatStats
    from lakeinterp.chat.batch import Collected
    from lakeinterp.chat.batchbook import Batch
    from lakeinterp.chat.types import RouteName
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Unit

    UnitDone: TypeAlias = Callable[[Unit, Counter[str]], None]

FAILURES = frozenset(
    {"parse_failed", "refused", "http_error", "timeout", "truncated", "budget_stopped"}
)
"""Statuses that make a run end with exit code 3; the others are findings about a latent."""


class Submitted(NamedTuple):
    """What a step left to batch files."""

    counts: Counter[str]
    """Rows it wrote from stored replies, and what waits, by status."""
    batches: list[Batch]
    """Sent now."""
    n_awaited: int
    """Requests in batches that are not collected, those of earlier ones too."""


class Asked(NamedTuple):
    """What one explain or score step wrote, and what its language model calls came to."""

    counts: Counter[str]
    """Rows written, by status."""
    calls: str
    """Calls, tokens, cost and failures in words; empty when no model was needed."""

    @property
    def n_failed(self) -> int:
        """Rows whose status is a failure of the run rather than a finding about a latent."""
        return sum(n for status, n in self.counts.items() if status in FAILURES)


def new_run() -> str:
    """Return the id of the run that is on, or a new one: its time and something random."""
    return logs.run_id() or logs.new_id()


def needs_chat(config: Config, step: Literal["explain", "score"]) -> bool:
    """Return whether a step asks a language model under these settings.

    Raises:
        NotFound: the explainer or a scorer is unknown.
    """
    if step == "explain":
        return bool(registry.resolve("explainer", config.explain.explainer).needs_chat)
    return any(registry.resolve("scorer", name).needs_chat for name in config.score.scorers)


@contextmanager
def served(config: Config) -> Iterator[Config]:
    """Have vLLM in a block if `chat.vllm.model` names a model and explaining or scoring asks one.

    It is started by the first request, so not at all where the lake has every reply; at once where
    other processes ask. `explain` and `score` do so for themselves; around both, it is started
    once. It is stopped however the block ends.

    Yields:
        The settings with the server as a deployment: plain values for tasks and processes.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: the server does not start, with the last thing it said.
    """
    if not (needs_chat(config, "explain") or needs_chat(config, "score")):
        yield config
        return
    from lakeinterp.chat.vllm import served as served_chat

    _free_devices()
    is_own = config.chat.workers == 1 and config.flows.runner == "threads"
    with served_chat(config.chat, at_first_request=is_own) as chat:
        yield config.model_copy(update={"chat": chat})


def explain(
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    unit: Unit | None = None,
    progress: UnitDone | None = None,
    chat: Chat | None = None,
    watch: Callable[[ChatStats], None] | None = None,
    within_s: float | None = None,
) -> Asked:
    """Explain one unit, or every unit of a capture.

    Args:
        config: The settings.
        run: Id written to the rows.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        unit: Only this one; then the two before are not looked at.
        progress: Called after each unit with the rows it wrote, by status.
        chat: Asked in place of the configured models.
        watch: Given the chat's counts before the first call; they grow while the step runs.
        within_s: Seconds after which the step stops where it is; processes of `chat.workers` have
            no such limit.

    Raises:
        TimeoutError: `within_s` is over; what was committed and what was paid for stays.
        ConfigError: a model is needed and none is configured, or a hookpoint is not sampled yet.
    """
    capture = check_sampled(config, capture, hookpoints) if unit is None else None
    from lakeinterp.explain import explain as explain_all
    from lakeinterp.explain import explain_unit

    async def work(lake: Lake, asked: Chat | None) -> Counter[str]:
        if unit is not None:
            return await explain_unit(lake, unit, config, asked, run=run)
        return await explain_all(
            lake, config, asked, capture=capture, hookpoints=hookpoints, run=run, progress=progress
        )

    with _served_to(config, "explain", chat) as config:
        if capture is not None and _is_shared(config, "explain", chat):
            return _shared_out(config, "explain", capture, hookpoints, run, progress, watch)
        return asyncio.run(_within(within_s, _with_chat(config, "explain", work, chat, watch)))


def score(
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    unit: Unit | None = None,
    progress: UnitDone | None = None,
    chat: Chat | None = None,
    watch: Callable[[ChatStats], None] | None = None,
    within_s: float | None = None,
) -> Asked:
    """Score one unit, or every unit of a capture; arguments as `explain`.

    After single units call `finish`, which ranks the scores in the hookpoint's null.

    Raises:
        ConfigError: a model is needed and none is configured, or nothing is explained yet.
    """
    capture = check_explained(config, capture, hookpoints) if unit is None else None
    from lakeinterp.score import score as score_all
    from lakeinterp.score import score_unit

    async def work(lake: Lake, asked: Chat | None) -> Counter[str]:
        if unit is not None:
            return await score_unit(lake, unit, config, asked, run=run)
        return await score_all(
            lake, config, asked, capture=capture, hookpoints=hookpoints, run=run, progress=progress
        )

    with _served_to(config, "score", chat) as config:
        if capture is not None and _is_shared(config, "score", chat):
            return _shared_out(config, "score", capture, hookpoints, run, progress, watch)
        return asyncio.run(_within(within_s, _with_chat(config, "score", work, chat, watch)))


def submit(
    config: Config,
    step: Literal["explain", "score"],
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
) -> Submitted:
    """Send what a step would ask and the lake has no reply to as batch files.

    Run the step again after `collect`. Arguments as `explain`.

    Raises:
        ConfigError: the step asks no language model, or its route has no batch files.
        BudgetStopped: what would be sent could exceed the budget.
    """
    if not needs_chat(config, step):
        raise ConfigError(f"{step} asks no language model with these settings: just run it")
    from lakeinterp.chat.batch import open_batches
    from lakeinterp.chat.gather import gathering

    lake = open_lake(config)
    with gathering(lake, config.chat) as chat:
        take = explain if step == "explain" else score
        done = take(config, run=run, capture=capture, hookpoints=hookpoints, chat=chat)

    async def send() -> Submitted:
        async with open_batches(lake, config.chat) as batches:
            made = await batches.submit()
            return Submitted(done.counts, made, batches.n_awaited())

    return asyncio.run(send())


def collect(config: Config) -> Collected:
    """Put the replies of finished batches into the lake."""
    from lakeinterp.chat.batch import open_batches

    async def whole() -> Collected:
        lake = open_lake(config)
        async with open_batches(lake, config.chat) as batches:
            return await batches.collect()

    return asyncio.run(whole())


def batch_states(config: Config) -> tuple[int, list[tuple[Batch, str]]]:
    """Return how many requests wait to be sent, and every batch with what is known of it."""
    from lakeinterp.chat.batch import open_batches

    async def whole() -> tuple[int, list[tuple[Batch, str]]]:
        lake = open_lake(config)
        async with open_batches(lake, config.chat) as batches:
            return batches.n_waiting(), await batches.states()

    return asyncio.run(whole())


def finish(config: Config, capture: str, hookpoints: Sequence[str] = (), *, run: str) -> int:
    """Rank the scores of each hookpoint in its pooled null; return the rows that changed."""
    from lakeinterp.score import finish_hookpoint

    lake = open_lake(config)
    rows = units.hookpoints(lake, capture, hookpoints)
    return sum(finish_hookpoint(lake, capture, r["hookpoint"], config, run=run) for r in rows)


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by status."""
    added: Counter[str] = Counter()
    for one in counts:
        added.update(one)
    return dict(added)


def _free_devices() -> None:
    """Give back what a capture in this process holds of the GPUs and does not use any more."""
    subject.close()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _served_to(
    config: Config, step: Literal["explain", "score"], chat: Chat | None
) -> AbstractContextManager[Config]:
    asks = chat is None and needs_chat(config, step)
    return served(config) if asks else nullcontext(config)


def _is_shared(config: Config, step: Literal["explain", "score"], chat: Chat | None) -> bool:
    return config.chat.workers > 1 and chat is None and needs_chat(config, step)


def _shared_out(
    config: Config,
    step: Literal["explain", "score"],
    capture: str,
    hookpoints: Sequence[str],
    run: str,
    progress: UnitDone | None,
    watch: Callable[[ChatStats], None] | None,
) -> Asked:
    from lakeinterp import workers

    lake = open_lake(config)
    found = units.units(lake, capture, hookpoints)
    with telemetry.span(step):
        counts, stats = workers.over_units(
            config, step, found, run=run, progress=progress, watch=watch
        )
    if step == "score":
        finish(config, capture, hookpoints, run=run)
    telemetry.asked(step, counts, stats)
    return Asked(counts, str(stats))


async def _within(seconds: float | None, work: Awaitable[Asked]) -> Asked:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if seconds is None or not limit.expired():
            raise
        raise TimeoutError(f"not done within {seconds:g} s; what it committed stays") from None


async def _with_chat(
    config: Config,
    step: Literal["explain", "score"],
    work: Callable[[Lake, Chat | None], Awaitable[Counter[str]]],
    chat: Chat | None,
    watch: Callable[[ChatStats], None] | None,
) -> Asked:
    lake = open_lake(config)
    async with AsyncExitStack() as stack:
        stored = None
        if needs_chat(config, step):
            from lakeinterp.chat import open_chat

            stored = await stack.enter_async_context(open_chat(lake, config.chat, chat=chat))
            if watch is not None:
                watch(stored.stats)
        with telemetry.span(step):
            counts = await work(lake, stored)
    telemetry.asked(step, counts, stored.stats if stored else None)
    return Asked(counts, str(stored.stats) if stored else "")


def check_chat(config: Config) -> set[RouteName]:
    """Find what is missing before any work is done; return the routes that would be asked.

    Models and keys, prompts and files of explanations are looked for.

    Raises:
        ConfigError: a step needs a language model and its route has none, or no key; or prompts or
            explanations to be loaded are not what they should be.
        NotFound: the explainer or a scorer is unknown.
    """
    from lakeinterp.explain.explainer import load_explainer

    explainer = load_explainer(config.explain)
    needed: set[RouteName] = set(explainer.routes) if explainer.needs_chat else set()
    scorers = [registry.resolve("scorer", name) for name in config.score.scorers]
    needed |= {scorer.route for scorer in scorers if scorer.needs_chat}
    if needed:
        from lakeinterp.chat.store import own_folder
        from lakeinterp.chat.stored import asked_chat
        from lakeinterp.chat.vllm import check_installed, named

        own_folder(config.chat)
        check_installed(config.chat)
        chat = asked_chat(named(config.chat))
        for route in sorted(needed):
            chat.model(route)
    return needed


def check_sampled(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> str:
    """Return the capture that is meant, if `lakeinterp sample` was there.

    Raises:
        ConfigError: a hookpoint has no statistics of its latents.
        NotFound: there is no such capture, hookpoint or explainer.
    """
    lake = open_lake(config)
    needs_chat(config, "explain")
    name = str(lake.capture(capture)["capture"])
    for row in units.hookpoints(lake, name, hookpoints):
        hookpoint = row["hookpoint"]
        if not lake.files("latents", where(capture=name, hookpoint=hookpoint)):
            raise ConfigError(
                f"{name}/{hookpoint} is not sampled yet: run `lakeinterp sample` first, or choose "
                "others with --hookpoints"
            )
    return name


def check_explained(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> str:
    """Return the capture that is meant, if the explainer of the settings was there.

    Raises:
        ConfigError: a hookpoint has chosen latents and no explanation to score, or is not sampled.
        NotFound: there is no such capture, hookpoint, explainer or scorer.
    """
    from lakeinterp.score.planning import explained

    needs_chat(config, "score")
    name = check_sampled(config, capture, hookpoints)
    lake = open_lake(config)
    explainer, found = config.explain.explainer, units.units(lake, name, hookpoints)
    done = explained(lake, config, name, {unit.hookpoint for unit in found})
    for unit in found:
        if unit.hookpoint in done:
            continue
        if units.selected_latents(lake, unit, config.sampling):
            raise ConfigError(
                f"{name}/{unit.hookpoint} has no explanations by {explainer!r} on this sample: run "
                f"`lakeinterp explain --explainer {explainer}` with the same settings first"
            )
    return name
