"""Items put to a judge some at a time: what detection and fuzzing share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.prompts import quote
from lakeinterp.score.scorer import Judgement
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.terms import Example

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"labels": {"type": "array", "items": {"type": "integer", "enum": [0, 1]}}},
    "required": ["labels"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line that the judge sees."""

    item: int
    example: Example
    text: str
    """On one line, quoted."""
    truth: bool


class LabelJudge:
    """Asks for one 0 or 1 for each text of a batch.

    The system message is the same for all, the explanation stands before the texts: replies to
    one explanation share the longest prefix. Where the route gives log-probabilities, each label
    has the probability of being 1.
    """

    def __init__(self, scorer: str, config: ScoreConfig, *, system: str | None = None) -> None:
        """Load `score/SCORER_system`, or `score/SYSTEM_system`, and `score/SCORER_user`."""
        self._config = config
        self._system = prompts.load(f"score/{system or scorer}_system", config.prompts).fill()
        self._user = prompts.load(f"score/{scorer}_user", config.prompts)
        self.prompt = digest([self._system, self._user.text])
        self.asked = [
            config.items_per_prompt,
            config.max_tokens,
            config.temperature,
            config.label_alternatives,
        ]
        """Settings that decide a call."""

    def batches(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """Cut items into calls; the last one may be shorter."""
        size = self._config.items_per_prompt
        return [items[i : i + size] for i in range(0, len(items), size)]

    def request(self, explanation: str, batch: Sequence[Item]) -> Request:
        """Return the call for one batch."""
        texts = [f"{n}: {item.text}" for n, item in enumerate(batch, start=1)]
        user = self._user.fill(
            explanation=quote(" ".join(explanation.split())),
            texts="\n".join(texts),
            n=str(len(batch)),
        )
        return Request(
            route="judge",
            messages=(
                Message(role="system", content=self._system),
                Message(role="user", content=user),
            ),
            max_tokens=self._config.max_tokens,
            temperature=self._config.temperature,
            schema=_SCHEMA,
            top_logprobs=self._config.label_alternatives,
        )

    async def judge(
        self, chat: Chat, explanation: str, batches: Sequence[Sequence[Item]]
    ) -> list[Judgement]:
        """Ask for all batches at one time and return one judgement an item, in their order."""
        work = partial(self._ask, chat, explanation)
        found = [
            answered
            async for answered in in_parallel(enumerate(batches), work, limit=len(batches) or 1)
        ]
        found.sort(key=lambda answered: answered[0])
        return [judgement for _, judgements in found for judgement in judgements]

    async def _ask(
        self, chat: Chat, explanation: str, numbered: tuple[int, Sequence[Item]]
    ) -> tuple[int, list[Judgement]]:
        from lakeinterp.chat.ask import ask
        from lakeinterp.chat.parse import parse_labels
        from lakeinterp.chat.probabilities import label_probabilities

        call, batch = numbered
        n = len(batch)
        asked = await ask(chat, self.request(explanation, batch), lambda t: parse_labels(t, n))
        labels: Sequence[bool | None] = [None] * n
        probabilities: Sequence[float | None] = [None] * n
        if asked.value is not None:
            labels, probabilities = asked.value, label_probabilities(asked.reply, n)
        return call, [
            Judgement(
                item=item.item,
                example=item.example,
                truth=item.truth,
                prediction=label,
                probability=probability,
                call=call,
                status=asked.status,
                reason=asked.reason,
                reply_keys=asked.reply_keys,
            )
            for item, label, probability in zip(batch, labels, probabilities, strict=True)
        ]
