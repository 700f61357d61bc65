"""Fuzzing: does the explanation tell the tokens on which the latent fires from their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.score.batches import Item, LabelJudge
from lakeinterp.score.moves import SHOWN_SHARES, move
from lakeinterp.score.scorer import Judgement, Scorer, shuffled
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.moves import Move
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 1
"""Of the items; grows when the same examples lead to other items."""


class FuzzingScorer(Scorer):
    """Shows each activating example twice, with right and with moved highlights; true is right.

    After the fuzzing scorer of Paulo et al. 2024 (arXiv 2410.13928, section 4), with both
    versions made from the same text. The two never stand in one call.
    """

    name = "fuzzing"
    needs_chat = True

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._judge = LabelJudge(self.name, config)
        self._above = config.highlight_above
        asked = [config.items_per_prompt, config.max_tokens, config.temperature]
        made = [VERSION, SHOWN_SHARES, config.highlight_above]
        self.settings = digest([made, asked, self._judge.prompt])

    def passes(self, task: ScoringTask) -> tuple[list[Item], list[Item]]:
        """Return two lists of items: each example once in either, right in one of them."""
        seed = [task.seed, task.latent.hookpoint, task.latent.latent]
        first, second = [], []
        for example in shuffled(task):
            if moved := self._move(task, example):
                right, wrong = (_item(example, moved, is_right=r) for r in (True, False))
                is_right_first = int(digest([*seed, example.example, "first"]), 16) % 2 == 0
                first.append(right if is_right_first else wrong)
                second.append(wrong if is_right_first else right)
        return first, second

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge both versions of every activating example."""
        assert chat is not None, "score_unit refuses to start without a chat"
        batches = [b for items in self.passes(task) for b in self._judge.batches(items)]
        return [
            *await self._judge.judge(chat, task.explanation.text, batches),
            *self._without_a_move(task),
        ]

    def _move(self, task: ScoringTask, example: Example) -> Move | None:
        seed = (task.seed, task.latent.hookpoint, task.latent.latent)
        return move(example, self._above, seed) if example.is_active else None

    def _without_a_move(self, task: ScoringTask) -> list[Judgement]:
        return [
            Judgement(
                item=_number(example, is_right=is_right),
                example=example,
                truth=is_right,
                prediction=None,
                status="not_applicable",
                reason="the highlights cannot be moved to tokens where the latent is silent",
            )
            for example in task.examples
            if example.is_active and self._move(task, example) is None
            for is_right in (True, False)
        ]


def _item(example: Example, moved: Move, *, is_right: bool) -> Item:
    return Item(
        item=_number(example, is_right=is_right),
        example=example,
        text=moved.text(example, is_right=is_right),
        truth=is_right,
    )


def _number(example: Example, *, is_right: bool) -> int:
    return 2 * example.example + (0 if is_right else 1)
