"""Explainers that choose: what they show, what they judge on, which explanation they keep."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from lakeinterp import pipeline
from lakeinterp.config import ExplainConfig
from lakeinterp.explain.best_of_k import BestOfKExplainer
from lakeinterp.explain.evidence import Evidence
from lakeinterp.explain.outputs import Moved
from lakeinterp.lake import Lake, units
from lakeinterp.terms import LatentId, Unit
from tests import rule_driven
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.planted_examples import planted_config, sampled_lake
from tests.wire import Wire, error

CAT = 0
SHARE = 0.4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("chosen") / "lake"
    sampled_lake(root, planted_config(), n_sequences=120, n_latents=4, n_buckets=1)
    return root


@pytest.fixture
def sampled(made, tmp_path):
    """Return a lake with the examples of the latent that fires on `cat`, and no replies."""
    return shutil.copytree(made, tmp_path / "lake")


def explained(root, wire, **settings):
    """Explain the latent anew and return its row."""
    chat = {"explainer": wire.route(), "attempts": 1, "concurrency": 4}
    explain = {"select_share": SHARE, "n_shown": 6, **settings}
    config = planted_config(
        sampling={"latents": str(CAT)}, chat=chat, explain=explain, score={"items_per_prompt": 4}
    )
    run = pipeline.new_run()
    pipeline.explain(config.model_copy(update={"lake": str(root)}), run=run)
    (row,) = (r for r in Lake(str(root)).rows("explanations") if r["run"] == run)
    return row


def parts(root):
    """Return the texts that may be shown, those to select on, and the scorers'."""
    lake = Lake(str(root))
    vocabulary = lake.vocabulary(lake.capture()["tokenizer"])
    unit = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=0)
    sample = units.sample_id(lake, CAPTURE, planted_config().sampling)
    found = []
    for role in ("explain", "score"):
        ((_, examples),) = units.examples(lake, unit, sample, vocabulary, role, [CAT])
        place = LatentId(capture=CAPTURE, hookpoint=HOOKPOINT, latent=CAT)
        evidence = Evidence(latent=place, examples=examples)
        found += evidence.split(SHARE) if role == "explain" else [evidence]
    return [{e.text for e in evidence.examples} for evidence in found]


def shown(request):
    return {
        re.sub("<<|>>", "", line)
        for line in re.findall(r"^\d+: (.*)$", request["messages"][-1]["content"], re.M)
    }


def is_judges(request):
    return "Texts:" in request["messages"][-1]["content"]


def saying(*texts):
    """Answer explainers' questions with these in turn, the last again and again, and judge."""
    left = list(texts)

    def answer(body):
        if is_judges(body):
            return rule_driven.answer(body)
        said = left.pop(0) if len(left) > 1 else left[0]
        return said if not isinstance(said, str) else json.dumps({"explanation": said})

    return answer


@pytest.mark.parametrize("vary", ["temperature", "windows"])
def test_the_best_of_some_candidates_is_kept(sampled, vary):
    with Wire(saying("the word dog", "the word cat", "any word after the")) as wire:
        row = explained(sampled, wire, explainer="best_of_k", vary=vary, n_judged=16)
    assert (row["text"], row["status"]) == ("the word cat", "ok")
    detail = json.loads(row["detail"])
    judged = [r for r in wire.requests if is_judges(r)]
    accuracies = {c["text"]: c["accuracy"] for c in detail["candidates"]}
    assert accuracies["the word cat"] == 1
    assert accuracies["the word dog"] < 1
    assert {c["n"] for c in detail["candidates"]} == {len({t for r in judged for t in shown(r)})}
    asked = [r for r in wire.requests if not is_judges(r)]
    assert {r["temperature"] for r in asked} == {1.0 if vary == "temperature" else 0.0}
    assert len({r["messages"][1]["content"] for r in asked}) == (1 if vary == "temperature" else 3)
    assert len(row["reply_keys"]) == len(wire.requests)


@pytest.mark.parametrize("name", ["best_of_k", "iterative"])
def test_what_is_selected_on_is_never_shown_and_the_scorers_windows_never_seen(sampled, name):
    mine, kept, scorers = parts(sampled)
    with Wire(saying("the word dog", "any word after the", "the word cat")) as wire:
        explained(sampled, wire, explainer=name, temperature=0.25, n_rounds=3)
    for request in wire.requests:
        texts = shown(request)
        assert texts
        assert not texts & scorers - mine - kept
        if not is_judges(request):
            assert texts <= mine
        elif name == "best_of_k":
            assert texts <= kept
    judged = [shown(r) for r in wire.requests if is_judges(r)]
    assert any(texts <= kept for texts in judged)


def test_errors_are_shown_and_the_better_explanation_is_kept(sampled):
    with Wire(saying("any word after the", "the word cat")) as wire:
        row = explained(sampled, wire, explainer="iterative", n_errors=3)
    assert row["text"] == "the word cat"
    assert json.loads(row["detail"])["chosen"] == 1
    first, second = (r["messages"] for r in wire.requests if not is_judges(r))
    assert first[0] != second[0]
    asked = second[1]["content"]
    assert "The explanation so far: any word after the" in asked
    missed, _, mistaken = asked.partition("did not expect it:")[2].partition("silent and")
    assert len(re.findall(r"^\d: .*<< cat", missed, re.M)) == 3
    assert len(re.findall(r"^\d: .* the ", mistaken, re.M)) == 3
    assert "<<" not in mistaken


def test_a_worse_second_explanation_is_not_kept(sampled):
    with Wire(saying("any word after cat", "the word house", "the word mat")) as wire:
        row = explained(sampled, wire, explainer="iterative", n_rounds=2, max_tokens=400)
    detail = json.loads(row["detail"])
    accuracies = [r["accuracy"] for r in detail["rounds"]]
    assert len(accuracies) == 3
    assert detail["chosen"] == accuracies.index(max(accuracies)) == 0
    assert row["text"] == "any word after cat"


def test_without_errors_nobody_is_asked_again(sampled):
    with Wire(saying("the word cat")) as wire:
        row = explained(sampled, wire, explainer="iterative", n_judged=8)
    assert row["text"] == "the word cat"
    assert sum(not is_judges(r) for r in wire.requests) == 1


@pytest.mark.parametrize("name", ["best_of_k", "iterative"])
def test_a_failure_that_passes_leaves_the_latent_to_the_rerun(sampled, name):
    with Wire(saying("the word dog", error(500), "the word cat")) as wire:
        row = explained(sampled, wire, explainer=name)
        assert (row["text"], row["status"]) == (None, "http_error")
        n_before = wire.n_requests
        row = explained(sampled, wire, explainer=name)
    assert (row["text"], row["status"]) == ("the word cat", "ok")
    assert sum(not is_judges(r) for r in wire.requests[n_before:]) == 1


@pytest.mark.parametrize("name", ["best_of_k", "iterative"])
def test_refusals_and_unreadable_replies_are_statuses(sampled, name):
    with Wire(lambda body: "I would rather not say") as wire:
        row = explained(sampled, wire, explainer=name, n_shown=5)
    assert (row["text"], row["status"]) == (None, "parse_failed")


def test_a_judge_that_cannot_be_read_is_no_score_of_zero(sampled):
    def answer(body):
        return "perhaps" if is_judges(body) else json.dumps({"explanation": "the word cat"})

    with Wire(answer) as wire:
        row = explained(sampled, wire, explainer="best_of_k", n_shown=4)
    assert (row["text"], row["status"]) == (None, "parse_failed")
    assert json.loads(row["detail"])["candidates"][0]["accuracy"] is None


def test_too_few_documents_to_select_on_is_a_status(sampled):
    with Wire(saying("the word cat")) as wire:
        row = explained(sampled, wire, explainer="best_of_k", select_share=1e-9)
    assert (row["text"], row["status"]) == (None, "too_few_examples")
    assert "in the documents to select on" in row["reason"]
    assert not wire.requests


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_split_is_by_document_and_the_same_for_all_latents(share):
    def evidence(latent, documents):
        from tests.explain.test_prompts import example

        found = tuple(example(i, ["a"], [float(latent)]) for i in documents for _ in range(2))
        place = LatentId(capture="c", hookpoint="h", latent=latent)
        return Evidence(latent=place, examples=found)

    sides = [evidence(i, range(400)).split(share) for i in (0, 1)]
    documents = [[{e.document for e in part.examples} for part in side] for side in sides]
    assert documents[0] == documents[1]
    shown_documents, kept_documents = documents[0]
    assert not shown_documents & kept_documents
    assert len(shown_documents) + len(kept_documents) == 400
    assert len(kept_documents) == pytest.approx(400 * share, abs=40)


def test_candidates_that_are_asked_the_same_are_asked_once():
    """A latent's output does not depend on which windows are shown."""
    explainer = BestOfKExplainer(
        ExplainConfig(candidate_explainer="output_centric", vary="windows", n_candidates=4)
    )
    asker = explainer._asker
    asker._views = {CAT: {"logits": Moved(raised=(" cat", " dog"), lowered=(" the",))}}
    (request,) = explainer.requests(
        Evidence(latent=LatentId(capture=CAPTURE, hookpoint=HOOKPOINT, latent=CAT), examples=())
    )
    assert request.repeat == 0
