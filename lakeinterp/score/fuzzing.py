"""Fuzzing: does the explanation tell the tokens on which the latent fires from other tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lakeinterp.score.batches import Item, LabelJudge
from lakeinterp.score.moves import SHOWN_SHARES, move
from lakeinterp.score.neighbours import MIN_SHOWN, line_up, values_of_neighbours
from lakeinterp.score.scorer import Judgement, Scorer, shuffled
from lakeinterp.score.stand_ins import stand_ins
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 2
"""Of the items; grows when the same examples lead to other items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """An activating example with right marks, and what has the same marks wrongly."""

    right: Example
    right_text: str
    """On one line, marks delimited."""
    wrong: Example
    """The same example if its own marks were moved."""
    wrong_text: str


class FuzzingScorer(Scorer):
    """Shows texts with marked tokens, right and wrong ones mixed; true is right.

    After the fuzzing scorer of Paulo et al. 2024 (arXiv 2410.13928, section 4). The wrong versions
    are of one of three kinds, `score.fuzzing`: `moved` shows each activating text a second time,
    with its marks moved to tokens where the latent is silent; `texts` puts its marks on a text in
    which the latent is silent; `neighbours` shows texts in which a neighbour fires and the latent
    does not, marked where the neighbour fires. Whatever the kind, a wrong version has the marks of
    a right one, place for place, and the two never stand in one call.
    """

    name = "fuzzing"
    needs_chat = True
    is_natural = False
    kind: Literal["moved", "texts", "neighbours"] | None = None
    """None takes that of the settings."""

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self.kind = self.kind or config.fuzzing
        self.name = "fuzzing" if self.kind == "moved" else f"fuzzing_{self.kind}"
        self.is_itemwise = self.kind == "moved"
        self._judge = LabelJudge("fuzzing", config, system=self.name)
        self._above = config.highlight_above
        self._fired: Mapping[tuple[int, int], Sequence[float]] = {}
        shown = {"moved": SHOWN_SHARES, "texts": None, "neighbours": MIN_SHOWN}[self.kind]
        made = [VERSION, self.kind, shown, config.highlight_above]
        self.settings = digest([made, self._judge.asked, self._judge.prompt])

    def prepare(self, bench: Bench) -> None:
        """Read where the neighbours fire, if that is what is marked wrongly."""
        if self.kind == "neighbours":
            self._fired = values_of_neighbours(bench)

    def passes(self, task: ScoringTask) -> tuple[list[Item], list[Item]]:
        """Return two lists of items: each pair once in either, right in one of them."""
        return self._passes(task, self.twins(task))

    def twins(self, task: ScoringTask) -> list[Twins]:
        """Return the pairs of a task in the order in which they are shown."""
        active = [e for e in shuffled(task) if e.is_active]
        if self.kind == "moved":
            return [twins for example in active if (twins := self._moved(task, example))]
        silent = [e for e in shuffled(task) if not e.is_active]
        if self.kind == "neighbours":
            near = {
                e.example: self._fired[task.latent.latent, e.example]
                for e in silent
                if (task.latent.latent, e.example) in self._fired
            }
            hosts = [e for e in silent if e.example in near]
            lined = line_up(active, hosts, near, self._above, _seed(task))
            return [
                Twins(right=m.right, right_text=m.texts[0], wrong=m.wrong, wrong_text=m.texts[1])
                for m in lined
            ]
        hosts = [e for e in silent if e.stratum == "random"] or silent
        found = stand_ins(active, hosts, self._above, _seed(task))
        return [
            Twins(
                right=made.donor,
                right_text=made.text(is_right=True),
                wrong=made.host,
                wrong_text=made.text(is_right=False),
            )
            for made in found
        ]

    def truths(self, example: Example) -> dict[int, bool]:
        """Return both versions of an activating example; a silent one makes no item."""
        sides = (True, False) if example.is_active else ()
        return {_number(example, is_right=is_right): is_right for is_right in sides}

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge both versions of every activating example."""
        assert chat is not None, "score_unit refuses to start without a chat"
        twins = self.twins(task)
        batches = [b for items in self._passes(task, twins) for b in self._judge.batches(items)]
        return [
            *await self._judge.judge(chat, task.explanation.text, batches),
            *self._left_over(task, {made.right.example for made in twins}),
        ]

    def _passes(self, task: ScoringTask, twins: Sequence[Twins]) -> tuple[list[Item], list[Item]]:
        first: list[Item] = []
        second: list[Item] = []
        for made in twins:
            right, wrong = self._item(made, is_right=True), self._item(made, is_right=False)
            draw = int(digest([*_seed(task), made.right.example, "first"]), 16)
            (first if draw % 2 == 0 else second).append(right)
            (second if draw % 2 == 0 else first).append(wrong)
        return first, second

    def _item(self, made: Twins, *, is_right: bool) -> Item:
        return Item(
            item=_number(made.right, is_right=is_right),
            example=made.right if is_right else made.wrong,
            text=made.right_text if is_right else made.wrong_text,
            truth=is_right,
        )

    def _moved(self, task: ScoringTask, example: Example) -> Twins | None:
        if not (moved := move(example, self._above, _seed(task))):
            return None
        right, wrong = (moved.text(example, is_right=r) for r in (True, False))
        return Twins(right=example, right_text=right, wrong=example, wrong_text=wrong)

    def _left_over(self, task: ScoringTask, used: set[int]) -> list[Judgement]:
        reasons = {
            "moved": "the highlights cannot be moved to tokens where the latent is silent",
            "texts": "no silent text is left that the highlights fit on: see sampling.n_random",
            "neighbours": "no text is left in which a neighbour fires: see sampling.n_neighbour",
        }
        assert self.kind is not None, "set when the scorer was made"
        return [
            Judgement(
                item=_number(example, is_right=is_right),
                example=example,
                truth=is_right,
                prediction=None,
                status="not_applicable",
                reason=reasons[self.kind],
            )
            for example in task.examples
            if example.is_active and example.example not in used
            for is_right in (True, False)
        ]


class FuzzingTextsScorer(FuzzingScorer):
    """Fuzzing with `score.fuzzing = "texts"`."""

    kind = "texts"


class FuzzingNeighboursScorer(FuzzingScorer):
    """Fuzzing with `score.fuzzing = "neighbours"`."""

    kind = "neighbours"


def _seed(task: ScoringTask) -> tuple[int, str, int]:
    return task.seed, task.latent.hookpoint, task.latent.latent


def _number(example: Example, *, is_right: bool) -> int:
    return 2 * example.example + (0 if is_right else 1)
