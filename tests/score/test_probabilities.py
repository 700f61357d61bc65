"""Probabilities of labels: from a judge's log-probabilities to AUROC, and without any."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from dataclasses import replace

import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.stored import open_chat
from lakeinterp.chat.types import Reply, TokenLogprobs
from lakeinterp.config import ChatConfig, ScoreConfig
from lakeinterp.explain import explain
from lakeinterp.lake import Lake
from lakeinterp.score import score
from lakeinterp.score.scorer import load_scorer
from tests.score.planted_examples import planted_config, sampled_lake
from tests.score.test_score_unit import LLM, ONE, RUN, judge
from tests.wire import Answer, Wire, error


def certainty(text):
    """Return how sure a judge says it is of a text: surest of texts with the word."""
    return 0.9 if " cat" in text else 0.2 + 0.01 * (len(text) % 7)


def graded(body):
    """Answer detection with labels of known probability; JSON in the tokens of some tokenizer."""
    texts = re.findall(r"^\d+: (.*)$", body["messages"][-1]["content"], re.M)
    tokens = ['{"', "labels", '":', " ["]
    found = [(token, -0.001, [(token, -0.001)]) for token in tokens]
    for i, text in enumerate(texts):
        p = certainty(text)
        label, other = ("1", "0") if p > 0.5 else ("0", "1")
        top = [(label, math.log(max(p, 1 - p))), (other, math.log(min(p, 1 - p)))]
        mark = "]}" if i + 1 == len(texts) else ", "
        found += [(label, top[0][1], top), (mark, -0.001, [(mark, -0.001)])]
    return Answer(text="".join(token for token, _, _ in found), logprobs=found)


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    config = planted_config(**LLM)
    root = tmp_path_factory.mktemp("probabilities") / "lake"
    made = sampled_lake(root, config, **ONE)
    asyncio.run(explain(made.lake, config, ScriptedChat(judge), **RUN))
    return root, made


@pytest.fixture
def made(explained, tmp_path):
    root, made = explained
    return replace(made, lake=Lake(str(shutil.copytree(root, tmp_path / "lake"))))


def scored(made, answer, **settings):
    settings = {"scorers": ["detection"], "n_borrowed": 0, **settings}
    with Wire(answer) as wire:
        chat = ChatConfig(explainer=wire.route(), attempts=2, retry_wait_s=0)
        config = planted_config(**{**LLM, "score": settings}, chat=chat.model_dump())

        async def run():
            async with open_chat(made.lake, config.chat) as chat:
                return await score(made.lake, config, chat, **RUN)

        counts = asyncio.run(run())
    return wire, counts


def test_labels_carry_the_probability_that_the_judge_gave_them(made):
    wire, counts = scored(made, graded)
    assert set(counts) == {"ok"}
    assert all(r["logprobs"] and r["top_logprobs"] == 5 for r in wire.requests)
    rows = made.lake.rows("judgements", "latent = 0")
    assert all(r["prediction"] == (r["probability"] > 0.5) for r in rows)
    assert {round(r["probability"], 6) for r in rows if r["truth"]} == {0.9}
    true = [r["probability"] for r in rows if r["truth"]]
    false = [r["probability"] for r in rows if not r["truth"]]
    area = sum((t > f) + (t == f) / 2 for t in true for f in false) / len(true) / len(false)
    (auroc,) = made.lake.rows("scores", "latent = 0 AND metric = 'auroc'")
    assert auroc["value"] == pytest.approx(area)
    assert auroc["n"] == len(rows)


@pytest.mark.parametrize("how", ["left out", "refused"])
def test_a_route_without_log_probabilities_says_so_once_and_the_run_goes_on(made, how, caplog):
    def answer(body):
        if how == "refused" and body.get("logprobs"):
            return error(400, "logprobs is not supported by this model")
        return json.dumps({"labels": [1] * len(re.findall(r"^\d+: ", _asked(body), re.M))})

    wire, counts = scored(made, answer)
    assert set(counts) == {"ok"}
    said = [r.message for r in caplog.records if "log" in r.message and "prob" in r.message]
    assert len(said) == 1
    assert {r["probability"] for r in made.lake.rows("judgements")} == {None}
    metrics = {r["metric"] for r in made.lake.rows("scores", "scorer = 'detection'")}
    assert "balanced_accuracy" in metrics
    assert "auroc" not in metrics
    if how == "refused":
        assert sum("logprobs" in r for r in wire.requests) == 1


def _asked(body):
    return body["messages"][-1]["content"]


def test_no_alternatives_are_asked_for_where_none_are_wanted(made):
    wire, _ = scored(made, graded, label_alternatives=0)
    assert not any("logprobs" in r for r in wire.requests)


def test_a_reply_that_cannot_be_read_has_no_probability(made):
    torn = tuple(TokenLogprobs(token=t, logprob=-0.1, top=((t, -0.1),)) for t in ("no ", "idea"))
    reply = Reply(key="", status="ok", text="no idea", logprobs=torn)
    config = planted_config(**{**LLM, "score": {"scorers": ["detection"], "n_borrowed": 0}})
    asyncio.run(score(made.lake, config, ScriptedChat(lambda _: reply), **RUN))
    rows = made.lake.rows("judgements")
    assert {(r["status"], r["prediction"], r["probability"]) for r in rows} == {
        ("parse_failed", None, None)
    }


def test_recall_is_detection_under_another_name():
    assert ScoreConfig(scorers=("recall", "detection", "fuzzing")).scorers == (
        "detection",
        "fuzzing",
    )
    recall = load_scorer("recall", ScoreConfig())
    detection = load_scorer("detection", ScoreConfig())
    assert (recall.name, recall.settings) == ("detection", detection.settings)


def test_fuzzing_is_named_after_what_is_marked_wrongly():
    names = [ScoreConfig(scorers=("fuzzing",), fuzzing=kind).scorers for kind in KINDS]
    assert names == [("fuzzing",), ("fuzzing_texts",), ("fuzzing_neighbours",)]
    settings = {load_scorer(name, ScoreConfig()).settings for (name,) in names}
    assert len(settings) == 3
    by_setting = load_scorer("fuzzing", ScoreConfig(fuzzing="texts"))
    by_name = load_scorer("fuzzing_texts", ScoreConfig())
    assert (by_setting.name, by_setting.settings) == (by_name.name, by_name.settings)


KINDS = ("moved", "texts", "neighbours")
