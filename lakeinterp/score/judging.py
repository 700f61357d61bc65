"""How the items of one explanation are put to the judge: all, until enough, and some twice.

Intervals under stopping: `mixture` is what `sql/macros/mixture_low.sql` computes, for the decision
to go on; the intervals of `scores` come from SQL.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from math import hypot, lgamma, log
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import Deferred
from lakeinterp.score.scorer import Judgement, shuffled
from lakeinterp.terms import digest, json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.chat.types import Chat, Reply, Request
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.scorer import Scorer, ScoringTask
    from lakeinterp.terms import Example

ROUND_CALLS = 4
"""Calls of each round, after which it is decided whether to go on."""
_HALVINGS = 45


@dataclass(frozen=True, slots=True)
class Again:
    """A chat that is asked for a second reply to what it may have answered before."""

    chat: Chat

    async def __call__(self, request: Request) -> Reply:
        """Return another reply than that of the first time."""
        return await self.chat(replace(request, repeat=1))


async def judged_rows(
    who: Mapping[str, str],
    scorer: Scorer,
    task: ScoringTask,
    chat: Chat | None,
    config: ScoreConfig,
) -> list[dict[str, Any]]:
    """Judge a task and return its rows of `judgements`; `who` are their place and settings.

    Every item has its row, also if nobody was asked about it: whatever failed before, the rows of
    a run take the place of all rows of the last one.
    """
    try:
        first = await judge(scorer, task, chat, config)
    except Deferred:
        if is_repeated(scorer, task, config) and not config.adaptive_width:
            # What would be asked the second time goes into the same batch file.
            await judge_again(scorer, task, chat, task.examples)
        raise
    rows = [_row(task, judgement) for judgement in first]
    if is_repeated(scorer, task, config):
        again = await judge_again(scorer, task, chat, _judged_examples(task, first))
        again += [replace(j, item=-1 - j.item) for j in first if j.status == "stopped_early"]
        rows += [_row(task, judgement) | {"role": "repeat"} for judgement in again]
    return [{**who, **row} for row in rows]


async def judge(
    scorer: Scorer, task: ScoringTask, chat: Chat | None, config: ScoreConfig
) -> list[Judgement]:
    """Judge the items of a task, all of them or until the interval is narrow enough."""
    if config.adaptive_width and scorer.is_itemwise:
        return await _until_narrow(scorer, task, chat, config)
    return list(await scorer.judge(task, chat))


async def judge_again(
    scorer: Scorer, task: ScoringTask, chat: Chat | None, examples: tuple[Example, ...]
) -> list[Judgement]:
    """Judge the items of these examples a second time, in other calls; item i is -1 - i."""
    second = replace(task, examples=examples, turn=1)
    found = await scorer.judge(second, None if chat is None else Again(chat))
    return [replace(judgement, item=-1 - judgement.item) for judgement in found]


def is_repeated(scorer: Scorer, task: ScoringTask, config: ScoreConfig) -> bool:
    """Return whether a task's items are judged twice: `score.repeat_share` of the latents'."""
    if not (scorer.needs_chat and scorer.is_itemwise and task.explanation.role == "own"):
        return False
    drawn = digest(["repeat", task.seed, task.latent.hookpoint, task.latent.latent], size=4)
    return int(drawn, 16) < config.repeat_share * 2**32


def rounds(task: ScoringTask, size: int) -> list[tuple[Example, ...]]:
    """Deal a task's examples into rounds, every quantile and stratum into all of them alike.

    Within each the order is that of `shuffled`, so that the rounds of a stratum are random draws.
    """
    cells: dict[tuple[str, int | None], list[Example]] = defaultdict(list)
    for example in shuffled(task):
        cells[example.stratum, example.quantile].append(example)
    placed = [
        ((place + 0.5) / len(cell), digest([task.seed, task.latent.latent, *name]), example)
        for name, cell in cells.items()
        for place, example in enumerate(cell)
    ]
    placed.sort(key=lambda one: (one[0], one[1]))
    dealt = [example for _, _, example in placed]
    return [tuple(dealt[i : i + size]) for i in range(0, len(dealt), size)]


def _judged_examples(task: ScoringTask, judged: Sequence[Judgement]) -> tuple[Example, ...]:
    shown = {j.example.example for j in judged if j.example and j.status != "stopped_early"}
    return tuple(e for e in task.examples if e.example in shown)


def _row(task: ScoringTask, judgement: Judgement) -> dict[str, Any]:
    example = judgement.example
    return {
        "latent": task.latent.latent,
        "explanation": task.explanation.explanation,
        "role": task.explanation.role,
        "explained_latent": task.explanation.explained_latent,
        "item": judgement.item,
        "example": example and example.example,
        "stratum": example and example.stratum,
        "quantile": example and example.quantile,
        "population": example and example.population,
        "weight": example and example.weight,
        "document": example and example.document,
        "call": judgement.call,
        "truth": judgement.truth,
        "prediction": judgement.prediction,
        "probability": judgement.probability,
        "value": judgement.value,
        "values": list(judgement.values) or None,
        "detail": json_text(judgement.detail),
        "status": judgement.status,
        "reason": judgement.reason,
        "reply_keys": list(judgement.reply_keys),
    }


async def _until_narrow(
    scorer: Scorer, task: ScoringTask, chat: Chat | None, config: ScoreConfig
) -> list[Judgement]:
    parts = rounds(task, ROUND_CALLS * config.items_per_prompt)
    found: list[Judgement] = []
    for n_done, part in enumerate(parts, start=1):
        first = 1 + max((j.call for j in found if j.call is not None), default=-1)
        found += [
            one if one.call is None else replace(one, call=first + one.call)
            for one in await scorer.judge(replace(task, examples=part), chat)
        ]
        if width(*_counts(found)) <= config.adaptive_width:
            rest = [example for later in parts[n_done:] for example in later]
            return found + [one for example in rest for one in _skipped(scorer, example, config)]
    return found


def _skipped(scorer: Scorer, example: Example, config: ScoreConfig) -> list[Judgement]:
    return [
        Judgement(
            item=item,
            example=example,
            truth=truth,
            status="stopped_early",
            reason=f"the interval was narrower than {config.adaptive_width:g} without it",
        )
        for item, truth in scorer.truths(example).items()
    ]


def _counts(judged: Sequence[Judgement]) -> tuple[int, int, int, int]:
    """Return the true items called true and all, then the false ones called true and all."""
    said = [(bool(j.truth), j.prediction) for j in judged if j.prediction is not None]
    true, false = ([p for truth, p in said if truth is side] for side in (True, False))
    return sum(true), len(true), sum(false), len(false)


@lru_cache(maxsize=65536)
def width(hits: int, n_true: int, alarms: int, n_false: int) -> float:
    """Return the width of the 95 % confidence sequence of balanced accuracy; at most 1.

    Items count as independent of each other here; the interval in `scores` allows for those of one
    call or document.

    Args:
        hits: True items that were called true.
        n_true: True items judged.
        alarms: False items that were called true.
        n_false: False items judged.
    """
    if not n_true or not n_false:
        return 1.0
    (low, high), (least, most) = mixture(hits, n_true), mixture(alarms, n_false)
    tpr, fpr = hits / n_true, alarms / n_false
    return (hypot(tpr - low, most - fpr) + hypot(high - tpr, fpr - least)) / 2


@lru_cache(maxsize=65536)
def mixture(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence sequence of a share after k hits of n; see `mixture_low.sql`."""
    return _lower(k, n), 1 - _lower(n - k, n)


def _lower(k: int, n: int) -> float:
    low = 0.0
    if k == 0:
        return low
    won = lgamma(k + 1) + lgamma(n - k + 1) - lgamma(n + 2) - log(20)
    for i in range(1, _HALVINGS + 1):
        p = low + k / n / 2**i
        if won >= k * log(p) + (n - k) * log(max(1e-300, 1 - p)):
            low = p
    return low
