"""One question with a checked answer: ask, parse, ask once more with what was wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from lakeinterp.chat.offline import LeftAsItIs, NoStoredReply
from lakeinterp.chat.types import Message
from lakeinterp.errors import UnparsableReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakeinterp.chat.types import Chat, Reply, Request
    from lakeinterp.terms import Status

T = TypeVar("T")
_SHOWN = 8_000
"""Characters of an unreadable reply that the second question repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """What came of a question."""

    value: T | None
    """None unless `status` is ok."""
    status: Status
    reason: str
    """One line on a status that is not ok."""
    reply_keys: tuple[str, ...]
    """Keys of the replies in the order they came; their raw texts are kept under these."""
    reply: Reply
    """The last reply."""


async def ask(chat: Chat, request: Request, parse: Callable[[str], T]) -> Asked[T]:
    """Ask, and once more with the reading error appended if the reply cannot be read.

    Args:
        chat: Asked at most twice.
        request: The question.
        parse: From the reply's text to the value; raises `UnparsableReply`.

    Returns:
        The value, or the status of the last reply, or `parse_failed`. A reply that was cut by
        its length is not read: its last item may be half of one. Where nobody may be asked and
        the second reply is not stored, the first stands.
    """
    first = await chat(request)
    asked = _read(first, parse, ())
    if asked.status != "parse_failed":
        return asked
    again = replace(
        request,
        messages=(
            *request.messages,
            Message(role="assistant", content=_shortened(first.text or "")),
            Message(
                role="user",
                content=f"That could not be read: {asked.reason}. "
                "Answer again in exactly the form asked for, and write nothing else.",
            ),
        ),
    )
    try:
        second = await chat(again)
    except (NoStoredReply, LeftAsItIs):  # another reader words its errors otherwise
        return asked
    return _read(second, parse, asked.reply_keys)


def _shortened(text: str) -> str:
    """Return a reply as it is sent back: what ran on without end is not paid for once more."""
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]}\n[…]\n{text[-half:]}"


def _read(reply: Reply, parse: Callable[[str], T], before: tuple[str, ...]) -> Asked[T]:
    keys = (*before, reply.key)
    if reply.status != "ok" or reply.text is None:
        return Asked(
            value=None, status=reply.status, reason=reply.reason, reply_keys=keys, reply=reply
        )
    try:
        value = parse(reply.text)
    except UnparsableReply as exc:
        return Asked(
            value=None, status="parse_failed", reason=str(exc), reply_keys=keys, reply=reply
        )
    return Asked(value=value, status="ok", reason="", reply_keys=keys, reply=reply)
