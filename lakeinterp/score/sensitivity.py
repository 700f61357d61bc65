"""Sensitivity: does the latent fire on new texts that fit the explanation."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.errors import UnparsableReply
from lakeinterp.lake import where
from lakeinterp.prompts import quote
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.subject.check import check_subject, require_torch
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat, RouteName
    from lakeinterp.config import ScoreConfig
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask

VERSION = 1
"""Of what is asked for and how it is run."""
_TEMPERATURE = 1.0
"""Calls that ask the same must not be answered the same."""


class SensitivityScorer(Scorer):
    """Has texts written that fit the explanation and runs them through the captured model.

    After Tian, Tian and Hu 2025 (arXiv 2509.23717), who call a latent sensitive if it fires on
    texts like those that activate it; here the texts are written from the explanation alone, which
    is therefore tested too. The explainer's route writes them. Borrowed explanations' texts say how
    often the latent fires on any such text.
    """

    name = "sensitivity"
    needs_chat = True
    route: RouteName = "explainer"
    metrics = "score/sensitivity"
    headline = "sensitivity"
    is_natural = False

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._config = config
        self._system = prompts.load("score/sensitivity_system", config.prompts).fill()
        self._user = prompts.load("score/sensitivity_user", config.prompts)
        made = [VERSION, config.n_written, config.written_per_call, config.fires_above]
        asked = [config.max_tokens, _TEMPERATURE, self._system, self._user.text]
        self.settings = digest([made, asked])
        self._subject: Any = None
        self._max: dict[int, float] = {}

    def check(self, bench: Bench) -> None:
        """Refuse a captured model that is not there.

        Raises:
            MissingExtra: torch or transformers is not installed.
            NotFound: model or coder are gone.
            ConfigError: the capture does not say which they were.
        """
        require_torch("the sensitivity scorer")
        check_subject(bench)

    def prepare(self, bench: Bench) -> None:
        """Open the captured model, or take the one that is open; look up each latent's maximum."""
        from lakeinterp.subject.opening import open_subject

        self._subject = open_subject(bench)
        place = where(capture=bench.capture, hookpoint=bench.hookpoint)
        self._max = {r["latent"]: r["max"] or 0.0 for r in bench.lake.rows("latents", place)}

    def requests(self, explanation: str) -> list[tuple[int, Request]]:
        """Return the calls for one explanation, each with the number of texts it asks for."""
        total, size = self._config.n_written, self._config.written_per_call
        counts = [min(size, total - first) for first in range(0, total, size)]
        return [(n, self._request(explanation, n, repeat)) for repeat, n in enumerate(counts)]

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Have texts written and judge each by the latent's largest activation in it."""
        assert chat is not None, "score_unit refuses to start without a chat"
        calls = self.requests(task.explanation.text)
        work = partial(self._ask, chat, task)
        found = [judged async for judged in in_parallel(enumerate(calls), work, limit=len(calls))]
        return sorted((j for judged in found for j in judged), key=lambda j: j.item)

    async def _ask(
        self, chat: Chat, task: ScoringTask, numbered: tuple[int, tuple[int, Request]]
    ) -> list[Judgement]:
        from lakeinterp.chat.ask import ask

        call, (n, request) = numbered
        asked = await ask(chat, request, lambda text: parse_texts(text, n))
        texts: Sequence[str | None] = asked.value if asked.value is not None else [None] * n
        peaks: Sequence[float] = [0.0] * n
        if asked.value is not None:
            fires = self._subject.fires
            fired = await asyncio.to_thread(fires, asked.value, [task.latent.latent])
            peaks = [one.peak() for one in fired]
        floor = self._config.fires_above * self._max.get(task.latent.latent, 0.0)
        return [
            Judgement(
                item=call * self._config.written_per_call + i,
                example=None,
                truth=True,
                prediction=None if text is None else peak > floor,
                value=None if text is None else peak,
                detail=None if text is None else {"text": text},
                call=call,
                status=asked.status,
                reason=asked.reason,
                reply_keys=asked.reply_keys,
            )
            for i, (text, peak) in enumerate(zip(texts, peaks, strict=True))
        ]

    def _request(self, explanation: str, n: int, repeat: int) -> Request:
        words = quote(" ".join(explanation.split()))
        user = self._user.fill(explanation=words, n=str(n))
        return Request(
            route=self.route,
            messages=(
                Message(role="system", content=self._system),
                Message(role="user", content=user),
            ),
            max_tokens=self._config.max_tokens,
            temperature=_TEMPERATURE,
            schema=_schema(n),
            repeat=repeat,
        )


def parse_texts(text: str, n: int) -> list[str]:
    """Return exactly `n` texts from a JSON list, alone or as the value of an object.

    Raises:
        UnparsableReply: there is no such list, or one of fewer texts; of more the first count.
    """
    from lakeinterp.chat.parse import parse_json

    found: Any = parse_json(text)
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else None
    if not isinstance(found, list):
        raise UnparsableReply("the reply holds no list of texts", text)
    texts = [entry for entry in found if isinstance(entry, str) and entry.strip()]
    if len(texts) < n:
        raise UnparsableReply(f"expected {n} texts, the reply holds {len(texts)}", text)
    return texts[:n]


def _schema(n: int) -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}, "minItems": n, "maxItems": n}
    return {
        "type": "object",
        "properties": {"texts": texts},
        "required": ["texts"],
        "additionalProperties": False,
    }
