"""The chat that everyone uses: answers from the store, asks once, keeps what it bought."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lakeinterp.chat import ledger as ledgers
from lakeinterp.chat.batchbook import FILE, BatchBook
from lakeinterp.chat.claims import CLAIMS, Claims
from lakeinterp.chat.learnt import Learnt
from lakeinterp.chat.ledger import Ledger
from lakeinterp.chat.offline import OfflineChat
from lakeinterp.chat.router import LiteLLMChat
from lakeinterp.chat.store import ReplyStore, folder_of
from lakeinterp.chat.targets import model_of
from lakeinterp.chat.types import NamedChat
from lakeinterp.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from lakeinterp.chat.types import Chat, Reply, Request, RouteName
    from lakeinterp.config import ChatConfig
    from lakeinterp.lake import Lake

_GRACE_S = 10.0
_LOOK_S, _LONGEST_LOOK_S = 0.05, 1.0
"""Between two looks for the reply that another process asks for; doubles."""


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

    @property
    def cost(self) -> str:
        """What the calls cost in words: money, calls that were free, calls of unknown cost."""
        parts = [f"${self.cost_usd:.4f}"]
        parts += [f"{n} free" for n in [self.cost_states["free"]] if n]
        parts += [f"{n} of unknown cost" for n in [self.cost_states["unknown"]] if n]
        return ", ".join(parts)

    @property
    def n_tokens(self) -> int:
        """Tokens of prompts and replies, as the providers counted them, for calls only."""
        return self.prompt_tokens + self.completion_tokens

    def __str__(self) -> str:
        parts = [f"{self.n_calls:,} calls", f"{self.n_stored + self.n_joined:,} from the lake"]
        parts += [f"{self.n_tokens:,} tokens", self.cost]
        return ", ".join(parts + [f"{n} {status}" for status, n in self.failures.items()])

    def bought(self, reply: Reply) -> None:
        """Count a reply that a model gave, or failed to give; none if it was not asked."""
        if not reply.attempts:
            return
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
        self.book_file: Path | None = None
        """Where requests in batch files are written down, which are not bought a second time; it
        need not be there yet."""
        self.claims: Claims | None = None
        """Requests that other processes ask for now: their replies are waited for."""
        self._book: BatchBook | None = None
        self._flying: dict[str, asyncio.Task[Reply]] = {}

    def close(self) -> None:
        """Close the book; store and claims stay open."""
        if self._book is not None:
            self._book.close()

    async def __call__(self, request: Request) -> Reply:
        """Answer from the store, from an equal request in flight, or by asking.

        A caller that is cancelled leaves its call running: it is paid for, so it is kept.

        Raises:
            ConfigError: the request's route has no model.
            Deferred: the request is in a batch file that is not collected yet.
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
        if (stored := await self._known(key)) is not None:
            return stored
        if self.claims is None:
            return await self._bought(key, request)
        look_s = _LOOK_S
        while not self.claims.take(key):
            await asyncio.sleep(look_s)
            look_s = min(_LONGEST_LOOK_S, 2 * look_s)
        try:
            # What another process asked for until just now is there, or in its batch file.
            if (stored := await self._known(key)) is not None:
                return stored
            return await self._bought(key, request)
        finally:
            self.claims.give(key)

    async def _known(self, key: str) -> Reply | None:
        """Return a stored reply, None if it is to be asked for.

        Raises:
            Deferred: it will come by a batch file.
        """
        if self._book is None and self.book_file is not None and self.book_file.is_file():
            self._book = BatchBook(self.book_file)
        # In this order, as a request leaves the book when its reply is in the store.
        is_awaited = self._book is not None and self._book.is_awaited(key)
        if (stored := await self.store.get(key)) is not None:
            self.stats.n_stored += 1
            return stored
        if is_awaited:
            raise Deferred("the request is in a batch file: run `lakeinterp llm batch collect`")
        return None

    async def _bought(self, key: str, request: Request) -> Reply:
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
        NotFound: raised by the chat if `config.offline` is set and a reply is not stored.
    """
    asked = asked_chat(config) if chat is None else chat
    async with AsyncExitStack() as stack:
        store = ReplyStore(lake, folder_of(lake, config))
        stack.push_async_callback(store.aclose)
        await asyncio.to_thread(store.move)
        stored = StoredChat(asked, store, _naming(asked, config))
        stored.claims = Claims(store.folder / CLAIMS)
        stack.callback(stored.claims.close)
        stored.book_file = store.folder / FILE
        stack.callback(stored.close)
        if chat is None and isinstance(asked, LiteLLMChat):
            asked.ledger = await _ledger(store, config)
            stack.callback(asked.ledger.close)
            asked.learnt = Learnt(store.folder / "deployments.sqlite")
            stack.callback(asked.learnt.close)
            stack.push_async_callback(asked.aclose)
        try:
            yield stored
        except BaseException:
            await stored.finish(_GRACE_S)
            raise
        await stored.finish()


def asked_chat(config: ChatConfig) -> LiteLLMChat | OfflineChat:
    """Return what is asked when the lake has no reply: the models, or nobody.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """
    asks_nobody = config.offline or config.reread
    return OfflineChat(config) if asks_nobody else LiteLLMChat(config)


async def _ledger(store: ReplyStore, config: ChatConfig) -> Ledger:
    limits = config.budget_usd, config.budget_tokens
    spent = None if limits == (None, None) else await asyncio.to_thread(store.spent)
    return Ledger(store.folder / ledgers.FILE, *limits, spent)


def _naming(chat: Chat, config: ChatConfig) -> Callable[[RouteName], str]:
    if isinstance(chat, NamedChat):
        return chat.model
    return lambda route: model_of(config, route)
