"""A chat that answers from a function: for tests, for dry runs, and to see every prompt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lakeinterp.chat.types import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakeinterp.chat.types import Request, RouteName


@dataclass(slots=True)
class ScriptedChat:
    """Answers each request with what a function of it returns; costs nothing."""

    answer: Callable[[Request], str | Reply]
    """A text becomes a reply with status ok; a `Reply` is returned with its key set."""
    name: str = "scripted"
    """Stands for the model in keys and rows."""
    n_calls: int = field(default=0, init=False)
    """Requests answered so far."""

    def model(self, route: RouteName) -> str:  # noqa: ARG002 - one script for all routes
        """Return the name that stands for the model."""
        return self.name

    async def __call__(self, request: Request) -> Reply:
        """Answer at once; whatever the function raises passes through."""
        self.n_calls += 1
        said = self.answer(request)
        key = request.key(self.name)
        if isinstance(said, Reply):
            return replace(said, key=key)
        return Reply(
            key=key,
            status="ok",
            text=said,
            finish_reason="stop",
            model_requested=self.name,
            model_served=self.name,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
            cost_state="free",
        )
