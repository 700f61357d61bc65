"""What work of a kind that was never done would take: the prompts of a few latents, counted.

Prompts are written, counted and thrown away. Nobody is asked and nothing is kept.
"""

from __future__ import annotations

import asyncio
import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.errors import LakeError, SkipUnit
from lakeinterp.explain.evidence import Evidence
from lakeinterp.explain.explainer import load_explainer
from lakeinterp.lake import Bench, units
from lakeinterp.score.judging import judge
from lakeinterp.score.scorer import ScoringTask, ToJudge, load_scorer
from lakeinterp.terms import LatentId, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakeinterp.chat.types import Request, RouteName
    from lakeinterp.config import Config
    from lakeinterp.explain.explainer import Explainer
    from lakeinterp.lake import Lake
    from lakeinterp.rescore.cost import Past
    from lakeinterp.rescore.stale import Staleness
    from lakeinterp.score.scorer import Scorer
    from lakeinterp.terms import Example, Role

    Probed = list[tuple[Bench, LatentId, tuple[Example, ...]]]

N_PROBED = 4
"""Latents whose prompts are written."""
_UNITS_TRIED = 8
"""Units in which latents with examples are looked for."""
_CHARACTERS = 4.0
"""Of one token of a prompt, usually."""
_REPLY_TOKENS = 60
"""Of a reply, usually; fewer if no more are allowed."""
_OPENS_A_MODEL = {"both_views", "intervention", "output_centric", "sensitivity", "token_list"}
"""Explainers and scorers that run the captured model before they ask anything."""
_TEXT = "words about one subject, in texts of one kind"


class _Asked(NamedTuple):
    route: RouteName
    n_characters: int
    max_tokens: int


def reckoned(lake: Lake, config: Config, found: Staleness, known: Past) -> Past:
    """Return what is known of the cost of some work, and what its prompts tell of the rest.

    Nothing is told of explainers and scorers that run the captured model first, nor of latents of
    which no examples are drawn yet.

    Args:
        lake: The lake.
        config: The settings.
        found: Of `stale`.
        known: As `cost.past` returns it.

    Returns:
        The same rows and others like them, which say with `n_reckoned` of how many latents.
    """
    rows = dict(known)
    explainer = load_explainer(config.explain)
    if _is_new(rows, explainer, None):
        probed = _probed(lake, config, found, "explain")
        rows |= _row(config, None, [_explaining(explainer, *probe) for probe in probed], 1.0)
    for name in config.score.scorers:
        scorer = load_scorer(name, config.score)
        if _is_new(rows, scorer, scorer.name):
            probed = _probed(lake, config, found, "score")
            asked = [_judging(scorer, *probe) for probe in probed]
            rows |= _row(config, scorer.name, asked, _times(config, scorer))
    return rows


def _is_new(known: Past, one: Explainer | Scorer, name: str | None) -> bool:
    is_known = (known.get(name) or {}).get("n_latents")
    return one.needs_chat and one.name not in _OPENS_A_MODEL and not is_known


def _times(config: Config, scorer: Scorer) -> float:
    """Return how often a latent's items are judged: for its own text, borrowed ones, once more."""
    borrowed = config.score.n_borrowed * config.score.null_share
    again = config.score.repeat_share if scorer.is_itemwise else 0.0
    return 1.0 + again + (borrowed if scorer.uses_explanation else 0.0)


def _probed(lake: Lake, config: Config, found: Staleness, role: Role) -> Probed:
    """Return the examples of some of the latents that are out of date and have any."""
    probed: Probed = []
    vocabulary = lake.vocabulary(lake.capture(found.capture)["tokenizer"])
    for bench, unit in islice(_benches(lake, config, found), _UNITS_TRIED):
        try:
            units.require_examples(lake, unit, bench.sample, config.sampling, bench.latents)
        except LakeError:
            continue
        drawn = units.examples(lake, unit, bench.sample, vocabulary, role, bench.latents)
        probed += [(bench, _id(unit, latent), examples) for latent, examples in drawn]
        if len(probed) >= N_PROBED:
            break
    return probed[:N_PROBED]


def _benches(lake: Lake, config: Config, found: Staleness) -> Iterator[tuple[Bench, Unit]]:
    """Yield units with latents that are out of date, the most worth first."""
    rows = units.hookpoints(lake, found.capture)
    widths = {str(row["hookpoint"]): int(row["bucket_latents"]) for row in rows}
    wanted: dict[tuple[str, int, int], set[int]] = {}
    for row in found.rows:
        place = row.hookpoint, row.latent // widths[row.hookpoint], row.n_sequences
        wanted.setdefault(place, set()).add(row.latent)
    for (hookpoint, bucket, n), latents in wanted.items():
        bench = Bench(
            lake=lake,
            config=config,
            capture=found.capture,
            hookpoint=hookpoint,
            sample=units.sample_id(lake, found.capture, config.sampling, n_sequences=n),
            latents=tuple(sorted(latents)[:N_PROBED]),
        )
        yield bench, Unit(capture=found.capture, hookpoint=hookpoint, bucket=bucket)


def _id(unit: Unit, latent: int) -> LatentId:
    return LatentId(capture=unit.capture, hookpoint=unit.hookpoint, latent=latent)


def _explaining(
    explainer: Explainer, bench: Bench, latent: LatentId, examples: tuple[Example, ...]
) -> list[_Asked]:
    """Return what an explainer asks about a latent."""
    asked: list[_Asked] = []

    async def work() -> None:
        explainer.look(bench)
        explainer.prepare(bench)
        try:
            await explainer.explain(Evidence(latent=latent, examples=examples), _noting(asked))
        except SkipUnit:
            return

    asyncio.run(work())
    return asked


def _judging(
    scorer: Scorer, bench: Bench, latent: LatentId, examples: tuple[Example, ...]
) -> list[_Asked]:
    """Return what a scorer asks about a latent and one explanation."""
    asked: list[_Asked] = []
    own = ToJudge(
        explanation="", text=_TEXT, detail=None, role="own", explained_latent=latent.latent
    )
    seed, config = bench.config.sampling.seed, bench.config.score
    task = ScoringTask(latent=latent, examples=examples, explanation=own, seed=seed)
    scorer.prepare(bench)
    asyncio.run(judge(scorer, task, _noting(asked, answers=False), config))
    return asked


def _noting(asked: list[_Asked], *, answers: bool = True) -> ScriptedChat:
    """Return a chat that notes each question; it explains, and takes everything to fit."""

    def answer(request: Request) -> str | Reply:
        n_characters = sum(len(message.content) for message in request.messages)
        asked.append(_Asked(request.route, n_characters, request.max_tokens))
        wanted = (request.schema or {}).get("properties", {})
        if answers and "explanation" in wanted:
            return json.dumps({"explanation": _TEXT})
        if answers and "labels" in wanted:
            texts = re.findall(r"^\d+: ", request.messages[-1].content, re.MULTILINE)
            return json.dumps({"labels": [1] * len(texts)})
        return Reply(key="", status="http_error", text=None, reason="nobody is asked")

    return ScriptedChat(answer)


def _row(
    config: Config, name: str | None, asked: Sequence[Sequence[_Asked]], times: float
) -> dict[str | None, dict[str, Any]]:
    """Return what was asked as a row of `sql/rescore/costs.sql`; none if nothing was probed."""
    if not any(asked):
        return {}
    from lakeinterp.chat.backend import usual_price

    row: dict[str, Any] = dict.fromkeys(("n_priced", "n_free", "n_unknown", "n_calls"), 0.0)
    row |= {"n_latents": len(asked), "n_reckoned": len(asked), "n_tokens": 0.0, "cost_usd": 0.0}
    prices = {
        route: usual_price(config.chat, route) for route in {o.route for m in asked for o in m}
    }
    for one in (one for mine in asked for one in mine):
        price = prices[one.route]
        n_prompt, n_reply = one.n_characters / _CHARACTERS, min(_REPLY_TOKENS, one.max_tokens)
        row["n_calls"] += times
        row["n_tokens"] += times * (n_prompt + n_reply)
        row["cost_usd"] += times * (n_prompt * price.input + n_reply * price.output)
        row[f"n_{price.state}"] += times
    return {name: row | {"n_counted": row["n_calls"]}}
