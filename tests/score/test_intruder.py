"""Intruder questions: what they show, what comes of them, and their metrics."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace
from math import comb
from pathlib import Path

import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.config import ScoreConfig
from lakeinterp.explain import explain
from lakeinterp.score import ScoringTask, score
from lakeinterp.score.intruder import IntruderScorer
from tests.rule_driven import answer
from tests.score.planted_examples import planted_config, sampled_lake
from tests.score.test_moves import LATENT, OWN, examples

RUN = {"run": "test"}
ONE = {"n_sequences": 120, "n_latents": 4, "n_buckets": 1, "n_shards": 1}
LLM = {
    "sampling": {"latents": [0, 1, 2]},
    "explain": {"explainer": "default"},
    "score": {"scorers": ["intruder"], "n_borrowed": 1},
}
RENDERINGS = Path(__file__).parent / "renderings"


def said(request):
    return answer({"messages": [{"role": m.role, "content": m.content} for m in request.messages]})


def windows(n_quantiles=3, n=14, n_silent=30):
    """Activating examples of some quantiles and silent ones, in one numbering."""
    active = [
        replace(e, quantile=1 + e.example % n_quantiles) for e in examples(n_quantiles * n, seed=3)
    ]
    silent = [
        replace(
            e,
            example=len(active) + e.example,
            stratum="random",
            quantile=None,
            peak=0.0,
            peak_offset=None,
            values=(0.0,) * len(e.values),
        )
        for e in examples(n_silent, seed=4)
    ]
    return (*active, *silent)


def questions(shown, **settings):
    task = ScoringTask(latent=LATENT, examples=shown, explanation=OWN, seed=22)
    return IntruderScorer(ScoreConfig(**settings)).questions(task)


@pytest.mark.parametrize("n_texts", [3, 5, 7])
@pytest.mark.parametrize("kind", ["silent", "quantile"])
def test_a_question_shows_one_quantile_and_one_intruder(kind, n_texts):
    shown = windows()
    found = questions(shown, intruder=kind, intruder_texts=n_texts)
    assert len(found) == 3 * (14 // n_texts)
    by_number = {e.example: e for e in shown}
    used = Counter(number for q in found for number in q.shown)
    assert set(used.values()) == {1}
    for question in found:
        own = [by_number[n] for n in question.shown]
        other = own.pop(question.intruder)
        assert len(own) == n_texts - 1
        assert {e.quantile for e in own} == {question.of.quantile}
        assert other.quantile != question.of.quantile
        assert other.is_active == (kind == "quantile")


def test_no_question_is_made_of_too_few_examples():
    assert questions(windows(n=4)) == []
    assert len(questions(windows(n=5, n_silent=2))) == 2
    assert questions(windows(n_quantiles=1), intruder="quantile") == []


def test_the_questions_are_the_same_every_time():
    assert questions(windows()) == questions(tuple(reversed(windows())))


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    config = planted_config(**LLM)
    made = sampled_lake(tmp_path_factory.mktemp("intruder") / "lake", config, **ONE)
    seen = []

    def note(request):
        seen.append(request)
        return said(request)

    asyncio.run(explain(made.lake, config, ScriptedChat(said), **RUN))
    asyncio.run(score(made.lake, config, ScriptedChat(note), **RUN))
    return made, config, seen


def of_metric(lake, metric):
    return {r["latent"]: r for r in lake.rows("scores", f"metric = '{metric}'")}


def test_a_judge_that_sees_what_the_texts_share_finds_the_intruder(judged):
    made, _, _ = judged
    row = of_metric(made.lake, "accuracy")[0]
    assert (row["value"], row["n"], row["n_failed"], row["null_value"]) == (1.0, 4, 0, 0.2)
    assert row["p_value"] == pytest.approx(0.2**4)
    assert row["corrected"] == 1.0
    rows = made.lake.rows("judgements", "latent = 0")
    assert all(r["truth"] and r["prediction"] and r["role"] == "own" for r in rows)
    detail = [json.loads(r["detail"]) for r in rows]
    assert all(d["named"] == d["intruder"] and d["n_texts"] == 5 for d in detail)


def test_a_latent_without_an_explanation_has_a_row_of_the_scorers_own_metric(judged):
    made, _, _ = judged
    row = of_metric(made.lake, "accuracy")[2]
    assert (row["status"], row["n"], row["value"]) == ("too_few_examples", 0, None)


def test_the_prompt_is_the_stored_one(judged):
    _, _, seen = judged
    texts = ["\n".join(f"--- {m.role}\n{m.content}" for m in r.messages) + "\n" for r in seen]
    stored = (RENDERINGS / "intruder.txt").read_text(encoding="utf-8")
    assert sorted(texts)[0] == stored
    assert len({text.split("--- user")[0] for text in texts}) == 1


def test_failed_questions_are_counted_and_never_scored(tmp_path):
    config = planted_config(**LLM)
    made = sampled_lake(tmp_path / "lake", config, **ONE)
    asyncio.run(explain(made.lake, config, ScriptedChat(said), **RUN))
    replies = iter(["no idea", "no idea", Reply(key="", status="timeout", text=None, reason="s")])
    asyncio.run(
        score(made.lake, config, ScriptedChat(lambda r: next(replies, None) or said(r)), **RUN)
    )
    rows = made.lake.rows("judgements")
    failed = Counter(r["status"] for r in rows if r["prediction"] is None)
    assert failed == {"parse_failed": 1, "timeout": 1}
    found = of_metric(made.lake, "accuracy").values()
    assert sum(r["n_failed"] for r in found) == 2
    assert sum(r["n"] for r in found) == len(rows) - 2
    assert "many_failed" in {r["status"] for r in found}


def test_p_is_the_chance_of_as_many_right_answers_by_guessing(tmp_path):
    config = planted_config(**LLM)
    made = sampled_lake(tmp_path / "lake", config, **ONE)
    asyncio.run(explain(made.lake, config, ScriptedChat(said), **RUN))
    always = ScriptedChat(lambda r: '{"intruder": 2}')
    asyncio.run(score(made.lake, config, always, **RUN))
    for row in of_metric(made.lake, "accuracy").values():
        if row["n"]:
            n, right = row["n"], round(row["n"] * row["value"])
            tail = sum(comb(n, k) * 0.2**k * 0.8 ** (n - k) for k in range(right, n + 1))
            assert row["p_value"] == pytest.approx(tail)
    for row in of_metric(made.lake, "above_chance").values():
        accuracy = of_metric(made.lake, "accuracy")[row["latent"]]["value"]
        assert row["value"] == pytest.approx((accuracy - 0.2) / 0.8)


def test_the_place_of_the_intruder_is_uniform():
    places = Counter()
    for seed in range(40):
        task = ScoringTask(latent=LATENT, examples=windows(), explanation=OWN, seed=seed)
        scorer = IntruderScorer(ScoreConfig())
        places.update(q.intruder for q in scorer.questions(task))
        for question in scorer.questions(task)[:1]:
            request = scorer.request(question)
            lines = re.findall(r"^(\d+): ", request.messages[-1].content, re.M)
            assert lines == ["1", "2", "3", "4", "5"]
            assert request.schema["properties"]["intruder"]["enum"] == [1, 2, 3, 4, 5]
    n = places.total()
    assert all(abs(places[i] - n / 5) < 4 * (n * 0.16) ** 0.5 for i in range(5))
