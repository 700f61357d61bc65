"""Three ways to have a judge predict the activations of a window from an explanation.

Whatever the way, requests about one explanation share the longest prefix: the instructions and
the explanation stand before the window.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.prompts import quote
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakeinterp.chat.types import Chat, Reply
    from lakeinterp.config import ScoreConfig
    from lakeinterp.config.judging import SimulationMode
    from lakeinterp.terms import Example, Status

MOST = 10.0
"""Largest activation on the scale of every prediction that is kept."""
TOP = 20
"""Likeliest tokens asked for where a digit is read from probabilities."""
LEAST_MASS = 1e-3
"""Of the probability at a token that must lie on digits for an expected value."""
GAPS = ("unknown", "lost", "missing", "unseen", "hidden")
"""Words for an activation that is to be predicted; one that the window does not hold is taken."""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "activations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "token": {"type": "integer"},
                    "activation": {"type": "integer", "enum": list(range(11))},
                },
                "required": ["token", "activation"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["activations"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of one window."""

    mode: SimulationMode
    values: tuple[float, ...] = ()
    """One a token, from 0 to 10; empty unless `status` is ok."""
    status: Status = "ok"
    reason: str = ""
    reply_keys: tuple[str, ...] = ()


class Simulator(Protocol):
    """Predicts a window's activations."""

    settings: str
    """Digest of what decides its requests."""

    async def simulate(self, explanation: str, example: Example, chat: Chat) -> Simulated | None:
        """Predict all tokens of a window; None if the route cannot be asked in this way."""
        ...


class _Asking:
    """Prompts and settings of one way."""

    def __init__(self, mode: SimulationMode, config: ScoreConfig) -> None:
        self._config = config
        self._system = prompts.load(f"score/simulation_{mode}_system", config.prompts)
        self._user = prompts.load(f"score/simulation_{mode}_user", config.prompts)
        asked = [mode, config.max_tokens, config.temperature]
        self.settings = digest([asked, self._system.text, self._user.text])

    def _request(self, system: str, user: str, **more: Any) -> Request:
        turns = (Message(role="system", content=system), Message(role="user", content=user))
        more = {"max_tokens": self._config.max_tokens, **more}
        more["messages"] = (*turns, *more.get("messages", ()))
        return Request(route="judge", temperature=self._config.temperature, **more)


class JsonSimulator(_Asking):
    """All tokens in one reply, which names those above 0: it cannot get out of step."""

    def __init__(self, config: ScoreConfig) -> None:
        super().__init__("json", config)

    def request(self, explanation: str, example: Example) -> Request:
        """Return the call for one window."""
        lines = [f"{i}: {quote(piece)}" for i, piece in enumerate(example.pieces, start=1)]
        user = self._user.fill(
            explanation=_one_line(explanation),
            text=quote(example.text),
            tokens="\n".join(lines),
            n=str(len(lines)),
        )
        return self._request(self._system.fill(), user, schema=_SCHEMA)

    async def simulate(self, explanation: str, example: Example, chat: Chat) -> Simulated:
        """Ask once, and once more if the reply cannot be read."""
        from lakeinterp.chat.ask import ask
        from lakeinterp.chat.numbers import parse_activations

        n = len(example.pieces)
        request = self.request(explanation, example)
        asked = await ask(chat, request, lambda text: parse_activations(text, n, MOST))
        return Simulated(
            mode="json",
            values=asked.value or (),
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )


class LogprobSimulator(_Asking):
    """All tokens at once, from what the model would rather have put in a table of unknowns.

    The value of a token is expected over the digits among the likeliest tokens. Digits, not the
    numbers to 10, because tokenizers that write a number digit by digit begin 10 as they do 1.
    """

    def __init__(self, config: ScoreConfig) -> None:
        super().__init__("logprobs", config)
        self._examples = prompts.load("score/simulation_logprobs_examples", config.prompts)
        self.settings = digest([self.settings, self._examples.text, TOP, LEAST_MASS])
        self._first = asyncio.Lock()
        self._is_asked: bool | None = None

    def request(self, explanation: str, example: Example) -> Request:
        """Return the call for one window; it ends with the table, every value unknown."""
        held = "".join(example.text.split()).casefold()
        gap = next((word for word in GAPS if word not in held), GAPS[0])
        user = self._user.fill(explanation=_one_line(explanation), text=quote(example.text))
        table = "\n".join(f"{quote(piece)}\t{gap}" for piece in example.pieces)
        return Request(
            route="judge",
            messages=(
                Message(role="system", content=self._system.fill(gap=gap)),
                *self._shown(gap),
                Message(role="user", content=user),
                Message(role="assistant", content=table),
            ),
            max_tokens=1,
            temperature=self._config.temperature,
            top_logprobs=TOP,
            gap=gap,
        )

    async def simulate(self, explanation: str, example: Example, chat: Chat) -> Simulated | None:
        """Ask once; nothing is read from the text of the reply.

        The first reply tells for all whether the route gives log-probabilities of prompts; once it
        is known to give none, it is not asked for them again.
        """
        if self._is_asked is None:
            async with self._first:
                if self._is_asked is None:
                    return await self._simulated(explanation, example, chat)
        return await self._simulated(explanation, example, chat) if self._is_asked else None

    async def _simulated(self, explanation: str, example: Example, chat: Chat) -> Simulated | None:
        reply = await chat(self.request(explanation, example))
        if self._is_asked is not False:
            # A reply that was refused or failed says nothing about the route.
            self._is_asked = reply.gaps is not None or reply.status not in ("ok", "truncated")
        if reply.gaps is None and reply.status in ("ok", "truncated", "refused"):
            return None
        if reply.gaps is None:
            return _failed("logprobs", reply)
        found = [expected_digit(top) for top in reply.gaps]
        values = [value for value in found if value is not None]
        n = len(example.pieces)
        if len(found) == len(values) == n:
            return Simulated(mode="logprobs", values=tuple(values), reply_keys=(reply.key,))
        return Simulated(
            mode="logprobs",
            status="parse_failed",
            reason=f"digits are among the likeliest tokens at {len(values)} of {n} places",
            reply_keys=(reply.key,),
        )

    def _shown(self, gap: str) -> Iterable[Message]:
        """Yield the worked examples as turns, made of a description and the lines of a table."""
        for part in self._examples.fill(gap=gap).split("\n\n"):
            first, *lines = part.strip("\n").split("\n")
            text = "".join(line.partition("\t")[0] for line in lines)
            user = self._user.fill(explanation=first.partition(": ")[2], text=text)
            yield Message(role="user", content=user)
            yield Message(role="assistant", content="\n".join(lines))


class TokenSimulator(_Asking):
    """One call a token, which shows the text up to it: slow and dear, and nothing is shared."""

    def __init__(self, config: ScoreConfig) -> None:
        super().__init__("token", config)
        self.settings = digest([self.settings, TOP, LEAST_MASS])

    def request(self, explanation: str, example: Example, token: int) -> Request:
        """Return the call for one token of a window; 0-based."""
        user = self._user.fill(
            explanation=_one_line(explanation),
            text=quote("".join(example.pieces[: token + 1])),
            token=quote(example.pieces[token]),
        )
        return self._request(self._system.fill(), user, top_logprobs=TOP)

    async def simulate(self, explanation: str, example: Example, chat: Chat) -> Simulated:
        """Ask for every token; the window fails with the first token that does."""
        work = partial(self._one, explanation, example, chat)
        n = len(example.pieces)
        done = sorted([one async for one in in_parallel(range(n), work, limit=n)], key=_place)
        parts = [part for _, part in done]
        keys = tuple(key for part in parts for key in part.reply_keys)
        if bad := next((part for part in parts if part.status != "ok"), None):
            return Simulated(mode="token", status=bad.status, reason=bad.reason, reply_keys=keys)
        values = tuple(value for part in parts for value in part.values)
        return Simulated(mode="token", values=values, reply_keys=keys)

    async def _one(
        self, explanation: str, example: Example, chat: Chat, token: int
    ) -> tuple[int, Simulated]:
        from lakeinterp.chat.ask import ask
        from lakeinterp.chat.numbers import parse_number

        request = self.request(explanation, example, token)
        asked = await ask(chat, request, lambda text: parse_number(text, 9))
        values: tuple[float, ...] = ()
        if asked.value is not None:
            likely = _first_digit(asked.reply)
            values = (asked.value * MOST / 9 if likely is None else likely,)
        return token, Simulated(
            mode="token",
            values=values,
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )


def expected_digit(top: Sequence[tuple[str, float]]) -> float | None:
    """Return the expected digit among likely tokens on the scale to 10, None if there is none.

    Args:
        top: Tokens and their natural log-probabilities.
    """
    mass = dict.fromkeys(range(10), 0.0)
    for token, logprob in top:
        written = token.strip(" \t\r\n\"'ĠĊ▁")
        if len(written) == 1 and written in "0123456789" and not math.isnan(logprob):
            mass[int(written)] += math.exp(min(0.0, logprob))
    whole = sum(mass.values())
    if whole < LEAST_MASS:
        return None
    return MOST / 9 * sum(digit * p for digit, p in mass.items()) / whole


def _first_digit(reply: Reply) -> float | None:
    """Return the expected value at the first token of a reply that is a digit."""
    for entry in reply.logprobs or ():
        if entry.token.strip(" \t\r\n\"'ĠĊ▁").isdecimal():
            return expected_digit(tuple((dict(entry.top) | {entry.token: entry.logprob}).items()))
    return None


def _failed(mode: SimulationMode, reply: Reply) -> Simulated:
    return Simulated(mode=mode, status=reply.status, reason=reply.reason, reply_keys=(reply.key,))


def _place(numbered: tuple[int, Simulated]) -> int:
    return numbered[0]


def _one_line(explanation: str) -> str:
    return quote(" ".join(explanation.split()))
