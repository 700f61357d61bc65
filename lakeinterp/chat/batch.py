"""Asking through batch files: half the price at some providers, an answer within a day.

A step runs with a `GatheringChat` (see `lakeinterp.chat.gather`), which answers from the store and
notes what is missing; then `submit` sends what was noted, `collect` puts the replies where any
chat finds them, and the step is run again. Files and batches go through LiteLLM; providers: those
that speak OpenAI's protocol.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakeinterp.chat import ledger as ledgers
from lakeinterp.chat import targets as ways
from lakeinterp.chat.backend import (
    clients_into,
    close_connections,
    count_open,
    import_litellm,
    provider_errors,
    table_price,
)
from lakeinterp.chat.batchbook import FILE, BatchBook
from lakeinterp.chat.batchlines import answered, body_of, came_to, chunks, outcome_of
from lakeinterp.chat.claims import CLAIMS, Claims
from lakeinterp.chat.failures import failure_of
from lakeinterp.chat.ledger import Hold, Ledger
from lakeinterp.chat.prices import prompt_bytes
from lakeinterp.chat.store import ReplyStore, folder_of
from lakeinterp.errors import ConfigError, LakeError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from lakeinterp.chat.batchbook import Batch
    from lakeinterp.chat.targets import Target
    from lakeinterp.chat.types import Request
    from lakeinterp.config import ChatConfig
    from lakeinterp.lake import Lake

_log = logging.getLogger(__name__)
PROVIDERS = ("openai", "azure")
"""Whose batches LiteLLM can make, find again and read."""
MAX_REQUESTS, MAX_BYTES = 50_000, 100_000_000
"""Of one file; OpenAI takes twice the bytes."""
_LOOKED_UP = 1000
"""Replies looked for at one time."""
_METADATA = "lakeinterp"
_ENDED = {"completed", "expired", "cancelled", "failed"}


@dataclass(slots=True)
class Collected:
    """What `collect` found."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Replies that were kept, by status."""
    n_again: int = 0
    """Requests that got no reply and wait again."""
    n_open: int = 0
    """Requests in batches that are not ready."""
    problems: list[str] = field(default_factory=list)
    """A line on each batch that failed as a whole."""


class Batches:
    """The provider's side of the book.

    Args:
        config: Routes; keys are read from the environment now.
        book: Requests and batches.
        store: Takes the replies.
        ledger: What a batch can cost counts as spent from when it is sent until it is collected.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """

    def __init__(
        self, config: ChatConfig, book: BatchBook, store: ReplyStore, ledger: Ledger
    ) -> None:
        self._config, self._book, self._store, self._ledger = config, book, store, ledger
        self._litellm = import_litellm()
        self._clients: list[Any] = []
        self._routes = ways.routes_of(config)
        found = {t.path: t for route in self._routes.values() for t in route.targets}
        self._targets = {target.deployment.digest(): target for target in found.values()}
        names = {target.deployment.model for target in found.values()}
        table = {name: price for name in names if (price := table_price(name)) is not None}
        ways.learn_prices(tuple(found.values()), table)
        self._claims = Claims(store.folder / CLAIMS)

    async def aclose(self) -> None:
        """Close the connections and give back what was claimed; the rest stays open."""
        self._claims.close()
        for client in self._clients:
            await client.close()

    async def submit(self) -> list[Batch]:
        """Send all that waits; return the batches made.

        Raises:
            BudgetStopped: what would be sent could exceed the budget.
            ConfigError: a route has no deployment with batch files, or the provider refuses.
        """
        await self._find_lost()
        made = []
        for target, model, noted in self._files():
            with self._claimed(noted) as free:
                requests = {key: noted[key] for key in await self._unanswered(free)}
                batch = self._begin(target, model, requests) if requests else None
            if batch is not None:
                with _provider_errors(target):
                    made.append(await self._send(batch, target, requests))
        return made

    def n_waiting(self) -> int:
        """Return how many requests are in no batch."""
        return self._book.n_waiting()

    def n_awaited(self) -> int:
        """Return how many requests are in batches that are not collected."""
        return sum(batch.n for batch in self._book.batches(is_open=True))

    async def collect(self) -> Collected:
        """Put the replies of all batches that are ready into the store.

        May be killed and run again at any point: a reply that is kept is not replaced.

        Raises:
            ConfigError: a batch's deployment is in the settings no more, or the provider refuses.
        """
        await self._find_lost()
        found = Collected()
        for batch in self._book.batches(is_open=True):
            remote = None
            target = self._target(batch)
            with _provider_errors(target):
                if batch.remote is not None:
                    remote = await self._retrieved(batch, target)
                if remote is not None and remote.status in _ENDED:
                    await self._take(batch, target, remote, found)
                else:
                    found.n_open += batch.n
        return found

    async def states(self) -> list[tuple[Batch, str]]:
        """Return every batch with what the provider, or the book, says of it."""
        await self._find_lost()
        found = []
        for batch in self._book.batches():
            said = batch.ended
            if said is None and batch.remote is None:
                said = "another process is sending it"
            elif said is None:
                target = self._target(batch)
                with _provider_errors(target):
                    said = outcome_of(await self._retrieved(batch, target))
            found.append((batch, said))
        return found

    # -- sending ------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[Target, str, dict[str, Request]]]:
        """Yield what goes into one file each: target, model and requests by key."""
        requests: dict[str, Request] = {}
        n_bytes, last = 0, ("", "")
        for key, model, request in self._book.waiting():
            place = (request.route, model)
            size = sum(len(m.content.encode()) for m in request.messages) + 2000
            is_full = len(requests) >= MAX_REQUESTS or n_bytes + size > MAX_BYTES
            if requests and (is_full or place != last):
                yield self._asked(last[0]), last[1], requests
                requests, n_bytes = {}, 0
            requests[key], last = request, place
            n_bytes += size
        if requests:
            yield self._asked(last[0]), last[1], requests

    @contextmanager
    def _claimed(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Claim requests for a block; gives those that no other living process asks or sends."""
        free: list[str] = []
        try:
            free.extend(key for key in keys if self._claims.take(key))
            yield free
        finally:
            for key in free:
                self._claims.give(key)

    async def _unanswered(self, keys: Sequence[str]) -> list[str]:
        """Return those that still wait for a batch; whose reply is stored by now waits no more."""
        for i in range(0, len(keys), _LOOKED_UP):
            some = keys[i : i + _LOOKED_UP]
            replies = await asyncio.gather(*map(self._store.get, some))
            self._book.drop(k for k, reply in zip(some, replies, strict=True) if reply is not None)
        waiting = self._book.still_waiting(keys)
        return [key for key in keys if key in waiting]

    def _begin(self, target: Target, model: str, requests: Mapping[str, Request]) -> Batch:
        """Set the money aside and write the batch down, or do neither."""
        hold = self._hold(target, requests.values())
        try:
            batch = self._book.begin(
                list(requests),
                model=model,
                deployment=target.deployment.digest(),
                most_usd=hold.usd,
                most_tokens=hold.tokens,
            )
        except BaseException:
            self._ledger.book(hold, 0.0, 0)
            raise
        self._ledger.book(hold, None, None)
        return batch

    def _asked(self, route: str) -> Target:
        for target in self._routes[route].deployments:  # type: ignore[index]
            if _provider(target) in PROVIDERS:
                return target
        raise ConfigError(
            f"chat.{route}.deployments: none has batch files; those of "
            f"{' and '.join(PROVIDERS)} have"
        )

    def _hold(self, target: Target, requests: Collection[Request]) -> Hold:
        sizes = [prompt_bytes(request) for request in requests]
        most = [target.price.most(r, size) for r, size in zip(requests, sizes, strict=True)]
        usd = None if None in most else sum(one for one in most if one is not None)
        return self._ledger.hold(usd, sum(sizes) + sum(r.max_tokens for r in requests))

    def _end(self, batch: Batch, said: str) -> int:
        """Close a batch, free what it did not cost, and return how many requests wait again."""
        batch, n_again = self._book.end(batch, said)
        unspent_usd = batch.usd - (batch.most_usd or 0.0)
        self._ledger.book(Hold(None, 0.0, 0), unspent_usd, batch.tokens - batch.most_tokens)
        return n_again

    async def _send(self, batch: Batch, target: Target, requests: Mapping[str, Request]) -> Batch:
        file = io.BytesIO()
        for key, request in requests.items():
            body = body_of(request, target, self._config.structured)
            line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line).encode() + b"\n")
        content = (f"{batch.token}.jsonl", file.getvalue(), "application/jsonl")
        uploaded = await self._call("acreate_file", target, file=content, purpose="batch")
        remote = await self._call(
            "acreate_batch",
            target,
            completion_window="24h",
            endpoint="/v1/chat/completions",
            input_file_id=uploaded.id,
            metadata={_METADATA: batch.token},
        )
        return self._book.sent(batch, remote.id)

    async def _find_lost(self) -> None:
        """Find batches at the provider that a killed process sent and could not write down."""
        for batch in self._book.batches(is_open=True):
            if batch.remote is not None or self._book.is_being_sent(batch):
                continue
            target = self._target(batch)
            with _provider_errors(target):
                remote = await self._listed(target, batch)
            if remote is None:
                n = self._end(batch, "never sent")
                _log.info("batch %d was never sent: its %d requests wait again", batch.batch, n)
            else:
                self._book.sent(batch, remote)

    async def _listed(self, target: Target, batch: Batch) -> str | None:
        after: str | None = None
        while True:
            page = await self._call("alist_batches", target, after=after, limit=100)
            for remote in page.data:
                if (remote.metadata or {}).get(_METADATA) == batch.token:
                    return str(remote.id)
            # Newest first: no batch made after ours is older than it.
            is_past = bool(page.data) and page.data[-1].created_at < batch.made - 3600
            if not page.data or is_past or not getattr(page, "has_more", False):
                return None
            after = page.data[-1].id

    # -- collecting ---------------------------------------------------------------------------

    async def _retrieved(self, batch: Batch, target: Target) -> Any:
        return await self._call("aretrieve_batch", target, batch_id=batch.remote)

    async def _take(self, batch: Batch, target: Target, remote: Any, found: Collected) -> None:
        requests = self._book.requests_of(batch)
        latency_s = max(0.0, (remote.completed_at or time.time()) - remote.created_at)
        for file_id in (remote.output_file_id, remote.error_file_id):
            if not file_id:
                continue
            async for lines in chunks(await self._content(target, file_id)):
                replies = {}
                for line in lines:
                    reply = answered(line, requests, batch.model, target.price, latency_s)
                    if reply is not None:
                        replies[reply.key] = reply
                await asyncio.gather(*(self._store.put(requests[k], r) for k, r in replies.items()))
                self._book.done(batch, replies, *came_to(batch, replies.values()))
                found.statuses.update(reply.status for reply in replies.values())
        n_again = self._end(batch, outcome_of(remote))
        found.n_again += n_again
        if remote.status != "completed":
            found.problems.append(
                f"batch {batch.remote}: {outcome_of(remote)}; {n_again} requests wait again"
            )

    async def _content(self, target: Target, file_id: str) -> AsyncIterator[bytes]:
        result = await self._call("afile_content", target, file_id=file_id, stream=True)
        pieces: AsyncIterator[bytes] = result.stream_iterator
        return pieces

    def _target(self, batch: Batch) -> Target:
        target = self._targets.get(batch.deployment)
        if target is None:
            raise ConfigError(
                f"batch {batch.remote or batch.token} was sent to a deployment of {batch.model} "
                "that the settings do not have any more: use those it was submitted with"
            )
        return target

    async def _call(self, name: str, target: Target, **values: Any) -> Any:
        """Call a function of LiteLLM's for a target."""
        with clients_into(self._clients):
            return await getattr(self._litellm, name)(**values, **self._access(target))

    def _access(self, target: Target) -> dict[str, Any]:
        known = target.parameters()
        wanted = ("api_base", "api_key", "api_version", "extra_headers")
        found = {name: known[name] for name in wanted if name in known}
        return {"custom_llm_provider": _provider(target), "max_retries": 2, **found}


def _provider(target: Target) -> str:
    return target.deployment.model.partition("/")[0]


@contextmanager
def _provider_errors(target: Target) -> Iterator[None]:
    """Turn what the provider refuses into one line; what was sent stays in the book."""
    try:
        yield
    except provider_errors() as exc:
        failure = failure_of(
            exc, key_hint=target.key_hint, path=target.path, secrets=target.secrets
        )
        raise LakeError(
            f"{target.path}: batch files: {failure.reason}; nothing is lost, run it again"
        ) from exc


@asynccontextmanager
async def open_batches(lake: Lake, config: ChatConfig) -> AsyncIterator[Batches]:
    """Open the lake's book and its provider's side; leaving moves new replies to `replies`.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """
    store = ReplyStore(lake, folder_of(lake, config))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        limits = config.budget_usd, config.budget_tokens
        spent = None if limits == (None, None) else await asyncio.to_thread(store.spent)
        ledger = Ledger(store.folder / ledgers.FILE, *limits, spent)
        stack.callback(ledger.close)
        book = BatchBook(store.folder / FILE)
        stack.callback(book.close)
        batches = Batches(config, book, store, ledger)
        count_open(1)
        stack.push_async_callback(close_connections)
        stack.push_async_callback(batches.aclose)
        yield batches
