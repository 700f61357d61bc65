"""Asking anew: requests that were answered before get another reply, kept beside the first one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat, Reply, Request

_REPEATS = 1000
"""Replies to one request that a turn may ask for, for self-agreement or candidates."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A chat in its n-th turn: equal requests of one turn have one reply."""

    chat: Chat
    turn: int

    async def __call__(self, request: Request) -> Reply:
        """Answer as nobody was answered in an earlier turn."""
        return await self.chat(replace(request, repeat=request.repeat + _REPEATS * self.turn))


def at_turn(chat: Chat | None, turn: int) -> Chat | None:
    """Return the chat for a turn; in turn 0 it is the chat itself."""
    return Turned(chat, turn) if chat is not None and turn else chat


def turned(turn: int) -> list[dict[str, int]]:
    """Return what a turn adds to a digest of settings; nothing in turn 0."""
    return [{"turn": turn}] if turn else []
