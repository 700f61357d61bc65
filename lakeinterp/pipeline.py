"""The main job as plain functions of the configuration; commands and flows call these.

Each step does what is left to do and nothing else, so that running one again after a kill, or
with more tokens, completes the lake.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from uuid import uuid4

from lakeinterp import registry
from lakeinterp.lake import Lake, units
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from lakeinterp.chat import Chat
    from lakeinterp.config import Config
    from lakeinterp.terms import Unit

    UnitDone: TypeAlias = Callable[[Unit, Counter[str]], None]

FAILURES = frozenset(
    {"parse_failed", "refused", "http_error", "timeout", "truncated", "budget_stopped"}
)
"""Statuses that make a run end with exit code 3; the others are findings about a latent."""


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
    """Return an id for the rows of one run: its time and something random."""
    return f"{now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"


def needs_chat(config: Config, step: Literal["explain", "score"]) -> bool:
    """Return whether a step asks a language model under these settings.

    Raises:
        NotFound: the explainer or a scorer is unknown.
    """
    if step == "explain":
        return bool(registry.resolve("explainer", config.explain.explainer).needs_chat)
    return any(registry.resolve("scorer", name).needs_chat for name in config.score.scorers)


def explain(
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    unit: Unit | None = None,
    progress: UnitDone | None = None,
    chat: Chat | None = None,
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

    Raises:
        ConfigError: a model is needed and none is configured.
    """
    from lakeinterp.explain import explain as explain_all
    from lakeinterp.explain import explain_unit

    async def work(lake: Lake, asked: Chat | None) -> Counter[str]:
        if unit is not None:
            return await explain_unit(lake, unit, config, asked, run=run)
        return await explain_all(
            lake, config, asked, capture=capture, hookpoints=hookpoints, run=run, progress=progress
        )

    return asyncio.run(_with_chat(config, "explain", work, chat))


def score(
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    unit: Unit | None = None,
    progress: UnitDone | None = None,
    chat: Chat | None = None,
) -> Asked:
    """Score one unit, or every unit of a capture; arguments as `explain`.

    After single units call `finish`, which ranks the scores in the hookpoint's null.
    """
    from lakeinterp.score import score as score_all
    from lakeinterp.score import score_unit

    async def work(lake: Lake, asked: Chat | None) -> Counter[str]:
        if unit is not None:
            return await score_unit(lake, unit, config, asked, run=run)
        return await score_all(
            lake, config, asked, capture=capture, hookpoints=hookpoints, run=run, progress=progress
        )

    return asyncio.run(_with_chat(config, "score", work, chat))


def finish(config: Config, capture: str, hookpoints: Sequence[str] = (), *, run: str) -> int:
    """Rank the scores of each hookpoint in its pooled null; return the rows that changed."""
    from lakeinterp.score import finish_hookpoint

    lake = Lake(config.lake)
    rows = units.hookpoints(lake, capture, hookpoints)
    return sum(finish_hookpoint(lake, capture, r["hookpoint"], config, run=run) for r in rows)


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by status."""
    added: Counter[str] = Counter()
    for one in counts:
        added.update(one)
    return dict(added)


async def _with_chat(
    config: Config,
    step: Literal["explain", "score"],
    work: Callable[[Lake, Chat | None], Awaitable[Counter[str]]],
    chat: Chat | None,
) -> Asked:
    lake = Lake(config.lake)
    async with AsyncExitStack() as stack:
        stored = None
        if needs_chat(config, step):
            from lakeinterp.chat import open_chat

            stored = await stack.enter_async_context(open_chat(lake, config.chat, chat=chat))
        counts = await work(lake, stored)
    return Asked(counts, str(stored.stats) if stored else "")


def check_chat(config: Config) -> None:
    """Find a missing model or key before any work is done.

    Raises:
        ConfigError: a step needs a language model and its route has none, or no key.
        NotFound: the explainer or a scorer is unknown.
    """
    if needs_chat(config, "explain") or needs_chat(config, "score"):
        from lakeinterp.chat.router import LiteLLMChat

        LiteLLMChat(config.chat)
