"""The chat that asks nobody now: it notes requests for batch files (`lakeinterp.chat.batch`)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakeinterp.chat import targets as ways
from lakeinterp.chat.batchbook import FILE, BatchBook
from lakeinterp.chat.store import folder_of
from lakeinterp.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.chat.types import Reply, Request, RouteName
    from lakeinterp.config import ChatConfig
    from lakeinterp.lake import Lake

_NOTED = 500


class GatheringChat:
    """A chat that asks nobody: it notes each request and leaves what needs its reply undone.

    Args:
        config: Gives the names that replies are kept under.
        book: Where requests wait.
    """

    def __init__(self, config: ChatConfig, book: BatchBook) -> None:
        self._config, self._book = config, book
        self._noted: list[tuple[str, str, Request]] = []

    def model(self, route: RouteName) -> str:
        """Return the model that the route's replies are kept under."""
        return ways.model_of(self._config, route)

    async def __call__(self, request: Request) -> Reply:
        """Note the request.

        Raises:
            Deferred: always.
        """
        model = self.model(request.route)
        self._noted.append((request.key(model), model, request))
        if len(self._noted) >= _NOTED:
            self.flush()
        raise Deferred("the request waits for `lakeinterp llm batch submit`")

    def flush(self) -> None:
        """Write what was noted to the book; to be called at the end."""
        self._book.add(self._noted)
        self._noted = []


@contextmanager
def gathering(lake: Lake, config: ChatConfig) -> Iterator[GatheringChat]:
    """Open a chat that notes requests in the lake's book; what it noted is written at the end."""
    book = BatchBook(folder_of(lake, config) / FILE)
    chat = GatheringChat(config, book)
    try:
        yield chat
        chat.flush()
    finally:
        book.close()
