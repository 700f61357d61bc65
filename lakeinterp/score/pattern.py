"""The pattern judge: applies a rule to the score examples. No language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.rules import Rule
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 1
"""Of how a rule is applied."""


class PatternScorer(Scorer):
    """Calls a text active if the explanation's rule fires anywhere in it."""

    name = "pattern"
    needs_chat = False

    def __init__(self, config: ScoreConfig) -> None:
        """None of the settings matters to this scorer."""
        del config
        self.settings = digest([VERSION])

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge every example; without a rule the items do not apply."""
        del chat
        rule = (task.explanation.detail or {}).get("rule")
        if rule is None:
            return [_not_applicable(example) for example in task.examples]
        read = Rule.from_json(rule)
        return [
            Judgement(
                item=example.example,
                example=example,
                truth=example.is_active,
                prediction=any(read.fires(example.pieces)),
            )
            for example in task.examples
        ]


def _not_applicable(example: Example) -> Judgement:
    return Judgement(
        item=example.example,
        example=example,
        truth=example.is_active,
        prediction=None,
        status="not_applicable",
        reason="the explanation holds no rule",
    )
