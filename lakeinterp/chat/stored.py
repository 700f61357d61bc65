"""The chat that everyone uses: answers from the store, asks once, keeps what it bought."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lakeinterp.chat.ledger import Ledger
from lakeinterp.chat.router import LiteLLMChat
from lakeinterp.chat.store import ReplyStore
from lakeinterp.chat.targets import model_of
from lakeinterp.chat.types import NamedChat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lakeinterp.chat.types import Chat, Reply, Request, RouteName
    from lakeinterp.config import ChatConfig
    from lakeinterp.lake import Lake

_GRACE_S = 10.0


@dataclass(slots=True)
class ChatStats:
    """What a chat did so far."""

    n_asked: int = 0
    """Requests given to the chat."""
    n_stored: int = 0
    """Of these, answered by the lake."""
    n_joined: int = 0
    """Of these, equal to one in flight and answered with it."""
    n_calls: int = 0
    """Of these, put to a model."""
    n_sent: int = 0
    """HTTP requests made for them, retries included."""
    prompt_tokens: int = 0
    """As the providers counted them, for calls only."""
    completion_tokens: int = 0
    """As above."""
    cost_usd: float = 0.0
    """Known cost of the calls."""
    cost_states: Counter[str] = field(default_factory=Counter)
    """Calls whose cost is priced, free or unknown."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Replies by status, stored ones too."""

    @property
    def failures(self) -> dict[str, int]:
        """Counts of the statuses that are not ok."""
        return {s: n for s, n in sorted(self.statuses.items()) if s != "ok"}

    def __str__(self) -> str:
        parts = [f"{self.n_calls} calls", f"{self.n_stored + self.n_joined} from the lake"]
        parts.append(f"{self.prompt_tokens + self.completion_tokens} tokens")
        parts.append(f"${self.cost_usd:.4f}")
        if n_unknown := self.cost_states["unknown"]:
            parts.append(f"{n_unknown} of unknown cost")
        return ", ".join(parts + [f"{n} {status}" for status, n in self.failures.items()])

    def bought(self, reply: Reply) -> None:
        """Count a reply that a model gave."""
        self.n_calls += 1
        self.n_sent += reply.attempts
        self.prompt_tokens += reply.prompt_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        self.cost_usd += reply.cost_usd or 0.0
        self.cost_states[reply.cost_state] += 1


class StoredChat:
    """A chat around another: a reply that the lake holds is never asked for again.

    Args:
        chat: Asked when the store has no final reply.
        store: Where replies are kept before anyone sees them.
        model: Route to the name that replies are kept under.
    """

    def __init__(self, chat: Chat, store: ReplyStore, model: Callable[[RouteName], str]) -> None:
        self.chat, self.store, self.model = chat, store, model
        self.stats = ChatStats()
        self._flying: dict[str, asyncio.Task[Reply]] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer from the store, from an equal request in flight, or by asking.

        A caller that is cancelled leaves its call running: it is paid for, so it is kept.

        Raises:
            ConfigError: the request's route has no model.
        """
        key = request.key(self.model(request.route))
        self.stats.n_asked += 1
        task = self._flying.get(key)
        if task is None:
            task = asyncio.create_task(self._answer(key, request))
            self._flying[key] = task
            task.add_done_callback(lambda _: self._flying.pop(key, None))
        else:
            self.stats.n_joined += 1
        reply = await asyncio.shield(task)
        self.stats.statuses[reply.status] += 1
        return reply

    async def _answer(self, key: str, request: Request) -> Reply:
        if (stored := await self.store.get(key)) is not None:
            self.stats.n_stored += 1
            return stored
        reply = replace(await self.chat(request), key=key)
        self.stats.bought(reply)
        return await self.store.put(request, reply)

    async def finish(self, timeout_s: float | None = None) -> None:
        """Wait for the calls in flight, then cancel those still running after `timeout_s`."""
        tasks = set(self._flying.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_chat(
    lake: Lake, config: ChatConfig, *, chat: Chat | None = None
) -> AsyncIterator[StoredChat]:
    """Open the chat of a lake; leaving moves its new replies to the `replies` table.

    Replies that an earlier, killed run left in the journal are moved on entry.

    Args:
        lake: Keeps the replies.
        config: Routes, limits and budget.
        chat: Asked in place of the configured models, for example a `ScriptedChat`; replies are
            kept under the name its `model` gives, or else the configured one.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """
    asked = LiteLLMChat(config) if chat is None else chat
    store = ReplyStore(lake)
    ledger: Ledger | None = None
    try:
        await asyncio.to_thread(store.move)
        if chat is None and config.budget_usd is not None:
            spent_usd = await asyncio.to_thread(store.spent_usd)
            ledger = Ledger(store.folder / "ledger.sqlite", config.budget_usd, spent_usd)
        if isinstance(asked, LiteLLMChat):
            asked.ledger = ledger or asked.ledger
        stored = StoredChat(asked, store, _naming(asked, config))
        try:
            yield stored
        except BaseException:
            await stored.finish(_GRACE_S)
            raise
        await stored.finish()
    finally:
        if chat is None and isinstance(asked, LiteLLMChat):
            await asked.aclose()
        if ledger is not None:
            ledger.close()
        await store.aclose()


def _naming(chat: Chat, config: ChatConfig) -> Callable[[RouteName], str]:
    if isinstance(chat, NamedChat):
        return chat.model
    return lambda route: model_of(config, route)
