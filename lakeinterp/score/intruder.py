"""Intruder: which of some texts is not of the latent. Needs no explanation.

How well a judge finds the odd text says whether the latent's activating texts have anything in
common that can be seen, whatever its explanation says: a ceiling for explanations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.prompts import highlight, marks
from lakeinterp.score.scorer import Judgement, Scorer, shuffled
from lakeinterp.score.stand_ins import stand_ins
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 1
"""Of the questions; grows when the same examples lead to other ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Some texts, one of which is the intruder."""

    of: Example
    """First of the activating texts; its number is the question's, its quantile the others' too."""
    shown: tuple[int, ...]
    """Numbers of the examples, in the order of the texts."""
    texts: tuple[str, ...]
    """On one line each, marks delimited."""
    intruder: int
    """Place of the intruder; 0-based."""


class IntruderScorer(Scorer):
    """Shows marked texts of one quantile and one intruder; a question is right if it is named.

    The intruder test of Paulo and Belrose 2025 (arXiv 2507.08473). No text stands in two
    questions, and a silent intruder wears the marks of an activating text that is not shown, so
    that neither the number nor the places of the marks give it away.
    """

    name = "intruder"
    needs_chat = True
    uses_explanation = False
    metrics = "score/intruder"
    headline = "accuracy"
    is_natural = False

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._config = config
        self._system = prompts.load("score/intruder_system", config.prompts).fill()
        self._user = prompts.load("score/intruder_user", config.prompts)
        made: list[int | float | str] = [VERSION, config.intruder, config.intruder_texts]
        if config.intruder == "silent":
            made.append(config.highlight_above)
        asked = [config.max_tokens, config.temperature, self._system, self._user.text]
        self.settings = digest([made, asked])

    def questions(self, task: ScoringTask) -> list[Question]:
        """Return as many questions as the examples give, strongest quantile first."""
        groups = _groups(task, self._config.intruder_texts)
        if self._config.intruder == "silent":
            return self._silent(task, groups)
        return self._of_other_quantiles(task, groups)

    def request(self, question: Question) -> Request:
        """Return the call for one question."""
        n = len(question.texts)
        texts = [f"{i}: {text}" for i, text in enumerate(question.texts, start=1)]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"intruder": {"type": "integer", "enum": list(range(1, n + 1))}},
            "required": ["intruder"],
            "additionalProperties": False,
        }
        return Request(
            route="judge",
            messages=(
                Message(role="system", content=self._system),
                Message(role="user", content=self._user.fill(texts="\n".join(texts), n=str(n))),
            ),
            max_tokens=self._config.max_tokens,
            temperature=self._config.temperature,
            schema=schema,
        )

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Ask every question; without enough examples of any quantile there is none."""
        assert chat is not None, "score_unit refuses to start without a chat"
        questions = self.questions(task)
        work = partial(self._ask, chat)
        asked = in_parallel(enumerate(questions), work, limit=len(questions) or 1)
        return sorted([judgement async for judgement in asked], key=lambda j: j.item)

    async def _ask(self, chat: Chat, numbered: tuple[int, Question]) -> Judgement:
        from lakeinterp.chat.ask import ask
        from lakeinterp.chat.numbers import parse_choice

        call, question = numbered
        n = len(question.texts)
        asked = await ask(chat, self.request(question), lambda t: parse_choice(t, n, "intruder"))
        return Judgement(
            item=question.of.example,
            example=question.of,
            truth=True,
            prediction=None if asked.value is None else asked.value - 1 == question.intruder,
            detail={
                "shown": question.shown,
                "intruder": question.intruder + 1,
                "named": asked.value,
                "n_texts": n,
            },
            call=call,
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )

    def _silent(self, task: ScoringTask, groups: Sequence[Sequence[Example]]) -> list[Question]:
        """Return questions with a silent text; each group's last example lends it its marks."""
        above = self._config.highlight_above
        silent = [e for e in shuffled(task) if not e.is_active]
        hosts = [e for e in silent if e.stratum == "random"] or silent
        own = {group[-1].example: group[:-1] for group in groups}
        found = stand_ins([group[-1] for group in groups], hosts, above, _seed(task))
        return [
            _question(
                task,
                [(e, highlight(e.pieces, marks(e, above))) for e in own[made.donor.example]],
                (made.host, made.text(is_right=False)),
            )
            for made in found
        ]

    def _of_other_quantiles(
        self, task: ScoringTask, groups: Sequence[Sequence[Example]]
    ) -> list[Question]:
        """Return questions with a text of another quantile, which is a group's spare example.

        Only the strongest token of each text is marked: how many there are depends on the
        quantile.
        """
        by_quantile: dict[int | None, list[Sequence[Example]]] = defaultdict(list)
        for group in groups:
            by_quantile[group[0].quantile].append(group)
        order = sorted(by_quantile, key=lambda quantile: digest([*_seed(task), "order", quantile]))
        row = [group for quantile in order for group in by_quantile[quantile]]
        step = max(map(len, by_quantile.values()), default=0)
        found = []
        for i, group in enumerate(row):
            # One step along is another quantile, unless one has more than half of the groups.
            other = row[(i + step) % len(row)][-1]
            if other.quantile != group[0].quantile:
                shown = [(e, _peak_marked(e)) for e in group[:-1]]
                found.append(_question(task, shown, (other, _peak_marked(other))))
        return found


def _groups(task: ScoringTask, size: int) -> list[list[Example]]:
    """Return disjoint groups of activating examples of one quantile, strongest quantile first."""
    by_quantile: dict[int, list[Example]] = defaultdict(list)
    for example in shuffled(task):
        if example.quantile is not None and example.peak_offset is not None:
            by_quantile[example.quantile].append(example)
    return [
        found[i : i + size]
        for _, found in sorted(by_quantile.items())
        for i in range(0, len(found) - size + 1, size)
    ]


def _question(
    task: ScoringTask, own: Sequence[tuple[Example, str]], other: tuple[Example, str]
) -> Question:
    place = int(digest([*_seed(task), own[0][0].example, "intruder"]), 16) % (len(own) + 1)
    shown = [*own[:place], other, *own[place:]]
    return Question(
        of=own[0][0],
        shown=tuple(example.example for example, _ in shown),
        texts=tuple(text for _, text in shown),
        intruder=place,
    )


def _peak_marked(example: Example) -> str:
    marked = [i == example.peak_offset for i in range(len(example.pieces))]
    return highlight(example.pieces, marked)


def _seed(task: ScoringTask) -> list[int | str]:
    return [task.seed, task.latent.hookpoint, task.latent.latent]
