"""Detection: does the explanation tell texts in which the latent fires from texts in which not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.prompts import quote
from lakeinterp.score.batches import Item, LabelJudge
from lakeinterp.score.scorer import Scorer, shuffled
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.scorer import Judgement, ScoringTask

VERSION = 1
"""Of the items; grows when the same examples lead to other items."""


class DetectionScorer(Scorer):
    """Shows plain texts, activating and silent ones mixed; true is activating.

    The detection scorer of Paulo et al. 2024 (arXiv 2410.13928, section 4).
    """

    name = "detection"
    needs_chat = True
    is_itemwise = True

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._judge = LabelJudge(self.name, config)
        asked = self._judge.asked
        self.settings = digest([VERSION, asked, self._judge.prompt])

    def items(self, task: ScoringTask) -> list[Item]:
        """Return all examples as items, in the order in which they are shown."""
        return [
            Item(item=e.example, example=e, text=quote(e.text), truth=e.is_active)
            for e in shuffled(task)
        ]

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge every example."""
        assert chat is not None, "score_unit refuses to start without a chat"
        batches = self._judge.batches(self.items(task))
        return await self._judge.judge(chat, task.explanation.text, batches)
