"""Scorers that run the captured model: surprisal, sensitivity and intervention on a tiny one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp import subject
from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.config import CaptureConfig, ScoreConfig, load
from lakeinterp.errors import ConfigError, NotFound, UnparsableReply
from lakeinterp.explain import explain
from lakeinterp.lake import Lake
from lakeinterp.sampling import sample
from lakeinterp.score import score
from lakeinterp.score.intervention import Effect, InterventionScorer, Pair
from lakeinterp.score.scorer import load_scorer
from lakeinterp.score.sensitivity import SensitivityScorer, parse_texts
from lakeinterp.subject import opening
from lakeinterp.subject.opening import open_subject
from tests import tiny
from tests.subject import built

RUN = {"run": "test"}
LATENTS = [tiny.CAT_LATENT, 4, 5, 6]


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A capture of the tiny model with examples and rules as explanations."""
    folder = tmp_path_factory.mktemp("local")
    more = {"capture.n_tokens": 8192, "capture.n_buckets": 1, "sampling.latents": LATENTS}
    lake, config = built.captured(folder, **more)
    sample(lake, config)
    asyncio.run(explain(lake, config, None, **RUN))
    return config


@pytest.fixture
def make(explained, tmp_path):
    """Return a copy of that lake and settings with other scorers."""

    def made(*scorers, **more):
        shutil.copytree(explained.lake, tmp_path / "lake")
        base = explained.model_dump()
        base["lake"] = str(tmp_path / "lake")
        base["score"] |= {"scorers": scorers, **more}
        return Lake(base["lake"]), type(explained).model_validate(base)

    yield made
    subject.close()


def rows(lake, table, **wanted):
    return lake.rows(table, " AND ".join(f"{key} = '{value}'" for key, value in wanted.items()))


def by_latent(lake, **wanted):
    return {row["latent"]: row for row in rows(lake, "scores", **wanted)}


# -- surprisal ------------------------------------------------------------------------------------


def test_a_surprisal_is_the_difference_of_two_losses_a_token(make):
    lake, config = make("surprisal", n_borrowed=1)
    asyncio.run(score(lake, config, None, **RUN))
    opened = open_subject(built.bench(lake, config))
    texts = {r["explanation"]: r["text"] for r in lake.rows("explanations")}
    judged = rows(lake, "judgements", scorer="surprisal", latent=tiny.CAT_LATENT)
    windows = {r["example"]: r for r in lake.rows("examples", f"latent = {tiny.CAT_LATENT}")}
    model, start = opened.model.causal, opened.language.start

    def loss(description, tokens):
        context = start(f"This is an example of: {description}\n\nText:\n")
        whole = torch.tensor([[*context, *tokens]])
        with torch.no_grad():
            logp = model(whole).logits[0].double().log_softmax(-1)
        ends = range(len(context) - 1, whole.shape[1] - 1)
        return -float(sum(logp[i, t] for i, t in zip(ends, tokens, strict=True)))

    for row in judged[::9]:
        tokens = windows[row["example"]]["tokens"]
        plain = loss("any text, about nothing in particular", tokens)
        told = loss(texts[row["explanation"]], tokens)
        assert row["value"] == pytest.approx((plain - told) / len(tokens), abs=1e-4)
        assert json.loads(row["detail"])["loss"] == pytest.approx(told, abs=1e-2)
    # The tiny model gains nothing from any words: what does not vary has no interval.
    row = by_latent(lake, scorer="surprisal", metric="nats_saved")[4]
    assert (row["value"], row["ci_low"], row["ci_high"]) == (0, None, None)
    assert set(by_latent(lake, scorer="surprisal", metric="auroc")) == set(LATENTS)


def test_texts_that_do_not_fit_the_model_are_failures_and_no_scores(make, tmp_path):
    prompts = tmp_path / "prompts" / "score"
    prompts.mkdir(parents=True)
    (prompts / "surprisal.md").write_text("the cat " * 30 + "$explanation")
    lake, config = make("surprisal", n_borrowed=0, prompts=str(tmp_path / "prompts"))
    counts = asyncio.run(score(lake, config, None, **RUN))
    assert set(counts) == {"truncated"}
    for row in by_latent(lake, scorer="surprisal", metric="auroc").values():
        assert (row["value"], row["status"]) == (None, "truncated")
        assert row["n_failed"] > 0


def test_another_language_model_reads_the_text_with_its_own_tokenizer(make, tmp_path):
    other = tiny.build_model(tmp_path / "other")
    lake, config = make("surprisal", n_borrowed=0, surprisal_model=str(other))
    counts = asyncio.run(score(lake, config, None, **RUN))
    assert set(counts) == {"ok"}
    # Its final norm lets nothing through: every token is as likely as any other.
    assert {row["value"] for row in rows(lake, "judgements", scorer="surprisal")} == {0.0}
    areas = by_latent(lake, scorer="surprisal", metric="auroc")
    assert {row["value"] for row in areas.values()} == {0.5}


def test_other_weights_in_the_same_folder_are_another_language_model(tmp_path):
    other = tiny.build_model(tmp_path / "other")
    config = load(values={"score.surprisal_model": str(other)}).score
    before = load_scorer("surprisal", config).settings
    loaded = opening.open_language(str(other), None, CaptureConfig())
    assert opening.open_language(str(other), None, CaptureConfig()) is loaded
    assert load_scorer("surprisal", config).settings == before
    (weights,) = other.glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert load_scorer("surprisal", config).settings != before
    assert opening.open_language(str(other), None, CaptureConfig()) is not loaded
    opening.close()


# -- sensitivity ----------------------------------------------------------------------------------


def word_of(request):
    """Return the word that a rule of the pattern explainer names."""
    return re.search(r"Description: fires on `␣(\w+)`", request.messages[1].content)[1]


def writer(request):
    """Write texts that hold the word, but for every fourth."""
    word = word_of(request)
    n = int(re.search(r"Write (\d+) texts", request.messages[1].content)[1])
    texts = [f" it said that {word if i % 4 else 'red'} ran" for i in range(n)]
    return json.dumps({"texts": texts})


def test_texts_that_a_model_writes_fire_the_latent_they_are_written_for(make):
    lake, config = make("sensitivity", n_borrowed=2, n_written=8, written_per_call=8)
    chat = ScriptedChat(writer)
    asyncio.run(score(lake, config, chat, **RUN))
    found = by_latent(lake, scorer="sensitivity", metric="sensitivity")
    for latent in LATENTS:
        row = found[latent]
        assert (row["value"], row["n"], row["null_value"]) == (0.75, 8, 0)
        assert row["ci_low"] < 0.75 < row["ci_high"]
    judged = rows(lake, "judgements", scorer="sensitivity", latent=tiny.CAT_LATENT, role="own")
    assert [row["value"] for row in judged if row["prediction"]] == [0.5] * 6
    assert [json.loads(r["detail"])["text"] for r in judged][1] == " it said that cat ran"
    assert {row["example"] for row in judged} == {None}
    # Each explanation's texts are written once, whosever latent they are run on.
    means = by_latent(lake, scorer="sensitivity", metric="mean_peak")
    assert means[tiny.CAT_LATENT]["value"] == pytest.approx(0.375)


def test_every_call_asks_for_texts_of_its_own_and_what_counts_as_firing_is_set(make):
    of_calls = {"n_written": 5, "written_per_call": 2}
    lake, config = make("sensitivity", n_borrowed=0, fires_above=1.0, **of_calls)
    seen = []

    def count(request):
        seen.append(request)
        return writer(request)

    asyncio.run(score(lake, config, ScriptedChat(count), **RUN))
    assert len(seen) == 3 * len(LATENTS)
    assert len({request.key("m") for request in seen}) == len(seen)
    assert {request.route for request in seen} == {"explainer"}
    judged = rows(lake, "judgements", scorer="sensitivity", latent=4)
    assert sorted((row["item"], row["call"]) for row in judged) == [
        (0, 0), (1, 0), (2, 1), (3, 1), (4, 2),
    ]  # fmt: skip
    # No text reaches more than the latent's largest activation.
    assert {(row["prediction"], row["truth"]) for row in judged} == {(False, True)}


def test_a_writer_that_refuses_or_writes_too_few_leaves_failures(make):
    lake, config = make("sensitivity", n_borrowed=0, n_written=3)

    def fail(request):
        if word_of(request) == "cat":
            return Reply(key="", status="refused", text=None, reason="no")
        return '{"texts": ["only one"]}' if word_of(request) == "on" else writer(request)

    asyncio.run(score(lake, config, ScriptedChat(fail), **RUN))
    found = by_latent(lake, scorer="sensitivity", metric="sensitivity")
    assert (found[tiny.CAT_LATENT]["status"], found[tiny.CAT_LATENT]["value"]) == ("refused", None)
    failed = [row for row in found.values() if row["status"] == "parse_failed"]
    assert [row["n_failed"] for row in failed] == [3]
    judged = rows(lake, "judgements", scorer="sensitivity", status="parse_failed")
    assert {(row["prediction"], row["value"]) for row in judged} == {(None, None)}


@given(
    st.lists(st.text(min_size=1).filter(str.strip), max_size=5), st.integers(1, 5), st.booleans()
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_texts_are_read_back_whole_or_not_at_all(texts, n, is_bare):
    said = json.dumps(texts if is_bare else {"texts": texts})
    if len(texts) >= n:
        assert parse_texts(said, n) == texts[:n]
        assert parse_texts(f"Here:\n```json\n{said}\n```", n) == texts[:n]
    else:
        with pytest.raises(UnparsableReply, match="texts"):
            parse_texts(said, n)


@pytest.mark.parametrize("reply", ["", "no list", "{}", '{"a": ["x"], "b": ["y"]}', "[1, 2]", "3"])
def test_what_is_no_list_of_texts_is_refused(reply):
    with pytest.raises(UnparsableReply):
        parse_texts(reply, 1)


# -- intervention ---------------------------------------------------------------------------------


def lists_of(request):
    user = request.messages[1].content
    return [json.loads(f"[{re.search(rf'List {i}: (.*)', user)[1]}]") for i in (1, 2)]


def reader(request):
    """Choose the list that holds the word, or the first."""
    word = f" {word_of(request)}"
    return json.dumps({"list": 2 if word in lists_of(request)[1] else 1})


def test_a_judge_that_knows_the_word_finds_what_the_latent_raises(make):
    lake, config = make("intervention", n_borrowed=2, n_interventions=4, n_raised=1)
    asyncio.run(score(lake, config, ScriptedChat(reader), **RUN))
    found = by_latent(lake, scorer="intervention", metric="accuracy")
    assert {row["value"] for row in found.values()} == {1.0}
    for row in found.values():
        assert row["n"] >= 3
        assert row["null_value"] < 0.8
    judged = rows(lake, "judgements", scorer="intervention", latent=tiny.CAT_LATENT, role="own")
    details = [json.loads(row["detail"]) for row in judged]
    assert {tuple(detail["raised"]) for detail in details} == {(" cat",)}
    assert all(detail["other"] != tiny.CAT_LATENT for detail in details)
    assert all(row["value"] == pytest.approx(0.5, rel=0.05) for row in judged)


def test_the_place_of_the_right_list_says_nothing(make):
    lake, config = make("intervention", n_borrowed=0, n_interventions=4, n_raised=1)
    seen = []

    def first(request):
        seen.append(lists_of(request)[0] == [f" {word_of(request)}"])
        return '{"list": 1}'

    asyncio.run(score(lake, config, ScriptedChat(first), **RUN))
    right = [row["prediction"] for row in rows(lake, "judgements", scorer="intervention")]
    assert sum(right) == sum(seen)
    assert 0.2 < sum(seen) / len(seen) < 0.8


def test_a_divergence_that_is_out_of_reach_does_not_apply(make):
    lake, config = make("intervention", n_borrowed=0, intervention_kl=1e6)
    chat = ScriptedChat(reader)
    counts = asyncio.run(score(lake, config, chat, **RUN))
    assert counts == {"not_applicable": len(LATENTS)}
    assert chat.n_calls == 0
    found = by_latent(lake, scorer="intervention", metric="accuracy")
    assert {(row["value"], row["status"]) for row in found.values()} == {(None, "not_applicable")}
    (row, *_) = rows(lake, "judgements", scorer="intervention")
    assert "no strength moves the next token far enough" in row["reason"]


# -- prompts --------------------------------------------------------------------------------------


def rendered(request):
    return "\n".join(f"--- {m.role}\n{m.content}" for m in request.messages) + "\n"


def stored(name):
    file = Path(__file__).parent / "renderings" / f"{name}.txt"
    return file.read_text(encoding="utf-8")


def test_the_prompts_that_are_sent_are_the_stored_ones():
    config = ScoreConfig()
    said = "tools\nand what is done with them"
    ((n, request), *_) = SensitivityScorer(config).requests(said)
    assert n == config.written_per_call
    assert rendered(request) == stored("sensitivity")
    own = Effect(latent=1, tokens=(" saw", "\n"), strength=1.0, kl=0.5, is_reached=True)
    other = replace(own, latent=2, tokens=(" cat", " | dog"))
    pair = Pair(item=0, own=own, other=other, is_first=False)
    assert rendered(InterventionScorer(config).request(said, pair)) == stored("intervention")


# -- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", ["surprisal", "sensitivity", "intervention"])
def test_a_model_that_is_gone_is_told_before_anyone_is_asked(make, scorer, monkeypatch):
    lake, config = make("detection", scorer)
    subject.close()
    chat = ScriptedChat(lambda _: "[1]")
    folder = config.capture.model
    shutil.move(folder, f"{folder}.gone")
    try:
        nowhere = config.capture.model_copy(update={"model": ""})
        gone = config.model_copy(update={"capture": nowhere})
        with pytest.raises(NotFound, match=r"set capture\.model to where the captured model is"):
            asyncio.run(score(lake, gone, chat, **RUN))
    finally:
        shutil.move(f"{folder}.gone", folder)
    monkeypatch.setattr("lakeinterp.subject.check.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lakeinterp\[capture\]'"):
        asyncio.run(score(lake, config, chat, **RUN))
    assert chat.n_calls == 0
    assert lake.table("judgements") is None


def test_what_is_scored_is_not_scored_again_and_needs_no_model_then(make):
    lake, config = make("surprisal", n_borrowed=1)
    asyncio.run(score(lake, config, None, **RUN))
    before = lake.version("judgements")
    folder = config.capture.model
    shutil.move(folder, f"{folder}.gone")
    try:
        assert not asyncio.run(score(lake, config, None, **RUN))
    finally:
        shutil.move(f"{folder}.gone", folder)
    assert lake.version("judgements") == before


def test_settings_of_the_local_scorers_are_reached_by_name(tmp_path):
    config = load(values={"lake": str(tmp_path), "score.n_written": "7"})
    assert config.score.n_written == 7
