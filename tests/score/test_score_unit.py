"""Planted truth through explain and score: rows, resuming, nulls, failures."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.errors import ConfigError, Deferred
from lakeinterp.explain import explain
from lakeinterp.score import finish_hookpoint, score
from lakeinterp.terms import WAITING
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.planted_examples import planted_config, sampled_lake

RENDERINGS = Path(__file__).parent / "renderings"
ALL = {"sampling": {"latents": list(range(12))}}
RUN = {"run": "test"}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    config = planted_config(**ALL)
    made = sampled_lake(tmp_path_factory.mktemp("pattern") / "lake", config, n_buckets=2)
    asyncio.run(explain(made.lake, config, None, **RUN))
    asyncio.run(score(made.lake, config, None, **RUN))
    return made, config


def scores(lake, metric="balanced_accuracy", scorer="pattern"):
    where = f"metric = '{metric}' AND scorer = '{scorer}'"
    return {row["latent"]: row for row in lake.rows("scores", where)}


def said_by(text):
    """Return a judge that applies two explanations to what is shown."""
    description = re.search(r"Description: (.*)", text)[1]
    return [_is_fit(description, line) for line in re.findall(r"^\d+: (.*)$", text, re.M)]


def _is_fit(description, line):
    marked = re.findall(r"<<(.*?)>>", line)
    if description == "the word cat":
        return all(m == " cat" for m in marked) if marked else " cat" in line
    if not marked:
        return " the " in line
    # The first token shown has lost the one before it.
    return line.startswith("<<") or all(
        line[: m.start()].endswith(" the") for m in re.finditer("<<", line)
    )


def judge(request):
    user = request.messages[-1].content
    if "unit respond to?" in user:
        marked = set(re.findall(r"<<( \w+)>>", user))
        text = "the word cat" if marked == {" cat"} else "any word after the"
        return f'{{"explanation": "{text}"}}'
    return str([int(label) for label in said_by(user)])


def test_planted_rules_are_said_and_score_near_one(pattern):
    made, _ = pattern
    texts = {r["latent"]: r["text"] for r in made.lake.rows("explanations")}
    assert texts[0] == "fires on `␣cat`"
    assert texts[1] == "fires on any token after `␣the`"
    found = scores(made.lake)
    for latent in (0, 1):
        row = found[latent]
        assert row["value"] > 0.9
        assert row["null_value"] < 0.7
        assert row["corrected"] > 0.8
        assert row["p_value"] == min(r["p_value"] for r in found.values() if r["p_value"])
        assert row["ci_low"] > 0.8


def test_latents_without_meaning_score_near_chance(pattern):
    made, _ = pattern
    found = scores(made.lake)
    random = [found[i]["value"] for i in range(4, 12) if found[i]["value"] is not None]
    assert abs(sum(random) / len(random) - 0.5) < 0.15


def test_a_dead_latent_has_its_rows(pattern):
    made, _ = pattern
    (row,) = made.lake.rows("explanations", "latent = 2")
    assert (row["status"], row["text"]) == ("too_few_examples", None)
    assert "dead: 0 in all" in row["reason"]
    dead = scores(made.lake)[2]
    assert (dead["status"], dead["value"], dead["n"]) == ("too_few_examples", None, 0)


def test_a_score_is_ok_exactly_if_it_has_a_value(pattern):
    made, _ = pattern
    for row in made.lake.rows("scores"):
        assert (row["status"] == "ok") == (row["value"] is not None)
    for row in made.lake.rows("judgements"):
        assert (row["status"] == "ok") == (row["prediction"] is not None)


def test_running_again_writes_nothing(pattern):
    made, config = pattern
    names = ("explanations", "judgements", "scores")
    before = [made.lake.version(name) for name in names]
    assert not asyncio.run(explain(made.lake, config, None, run="again"))
    assert not asyncio.run(score(made.lake, config, None, run="again"))
    assert finish_hookpoint(made.lake, CAPTURE, HOOKPOINT, config, run="again") == 0
    assert [made.lake.version(name) for name in names] == before


def test_borrowed_explanations_are_judged_on_the_same_items(pattern):
    made, _ = pattern
    rows = made.lake.rows("judgements", "latent = 0")
    own = {(r["item"], r["truth"]) for r in rows if r["role"] == "own"}
    borrowed = {r["explanation"]: set() for r in rows if r["role"] == "borrowed"}
    for row in rows:
        if row["role"] == "borrowed":
            assert row["explained_latent"] != 0
            borrowed[row["explanation"]].add((row["item"], row["truth"]))
    assert len(borrowed) == 3
    assert all(items == own for items in borrowed.values())


ONE = {"n_sequences": 120, "n_latents": 4, "n_buckets": 1, "n_shards": 1}
LLM = {
    "sampling": {"latents": [0, 1]},
    "explain": {"explainer": "default"},
    "score": {"scorers": ["detection", "fuzzing", "pattern"], "n_borrowed": 1},
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    config = planted_config(**LLM)
    made = sampled_lake(tmp_path_factory.mktemp("llm") / "lake", config, **ONE)
    chat = ScriptedChat(judge)
    asyncio.run(explain(made.lake, config, chat, **RUN))
    asyncio.run(score(made.lake, config, chat, **RUN))
    return made, config, chat


def test_a_judge_that_follows_the_explanation_finds_the_planted_answer(llm):
    made, _, _ = llm
    for scorer in ("detection", "fuzzing"):
        for latent, row in scores(made.lake, scorer=scorer).items():
            assert row["value"] > 0.85, (scorer, latent)
            assert row["null_value"] < 0.65, (scorer, latent)
            assert row["n_failed"] == 0


def test_a_pattern_judge_needs_a_rule(llm):
    made, _, _ = llm
    assert {r["status"] for r in scores(made.lake, scorer="pattern").values()} == {"not_applicable"}
    reasons = {r["reason"] for r in made.lake.rows("judgements", "scorer = 'pattern'")}
    assert reasons == {"the explanation holds no rule"}


def test_running_again_asks_nothing(llm):
    made, config, chat = llm
    n_calls = chat.n_calls
    asyncio.run(explain(made.lake, config, chat, run="again"))
    asyncio.run(score(made.lake, config, chat, run="again"))
    assert chat.n_calls == n_calls


def test_every_batch_asks_for_its_own_number_of_labels(llm):
    made, _, _ = llm
    asked = []

    def note(request):
        asked.append(request.messages[-1].content)
        return judge(request)

    mine = {"scorers": ["detection"], "n_borrowed": 0, "items_per_prompt": 7}
    other = planted_config(**{**LLM, "score": mine})
    asyncio.run(score(made.lake, other, ScriptedChat(note), **RUN))
    for text in asked:
        assert len(re.findall(r"^\d+: ", text, re.M)) == int(
            re.search(r"Give (\d+) labels", text)[1]
        )
    assert len({int(re.search(r"Give (\d+)", text)[1]) for text in asked}) > 1


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_the_judges_prompt_is_the_stored_one(llm, scorer):
    made, _, _ = llm
    seen = []

    def note(request):
        seen.append("\n".join(f"--- {m.role}\n{m.content}" for m in request.messages) + "\n")
        return judge(request)

    settings = {**LLM, "score": {"scorers": [scorer], "n_borrowed": 0, "max_tokens": 499}}
    asyncio.run(score(made.lake, planted_config(**settings), ScriptedChat(note), **RUN))
    stored = (RENDERINGS / f"{scorer}.txt").read_text(encoding="utf-8")
    assert sorted(seen)[0] == stored
    assert len({text.split("--- user")[0] for text in seen}) == 1


def test_failures_are_rows_and_only_transient_ones_are_tried_again(tmp_path):
    config = planted_config(**{**LLM, "score": {"scorers": ["detection"], "n_borrowed": 0}})
    made = sampled_lake(tmp_path / "lake", config, **ONE)
    down = Reply(key="", status="timeout", text=None, reason="slow")
    asyncio.run(explain(made.lake, config, ScriptedChat(lambda r: down), **RUN))
    assert {r["status"] for r in made.lake.rows("explanations")} == {"timeout"}
    asyncio.run(score(made.lake, config, ScriptedChat(judge), **RUN))
    assert {r["status"] for r in scores(made.lake, scorer="detection").values()} == {"timeout"}

    asyncio.run(explain(made.lake, config, ScriptedChat(judge), **RUN))
    assert {r["status"] for r in made.lake.rows("explanations")} == {"ok"}
    n_seen = 0

    def sometimes(request):
        nonlocal n_seen
        n_seen += 1
        return down if n_seen == 3 else ("no idea" if n_seen in (5, 6) else judge(request))

    asyncio.run(score(made.lake, config, ScriptedChat(sometimes), **RUN))
    rows = made.lake.rows("judgements")
    failed = {r["status"] for r in rows if r["prediction"] is None}
    assert "timeout" in failed
    assert sum(r["n_failed"] for r in scores(made.lake, scorer="detection").values()) == sum(
        r["prediction"] is None for r in rows
    )
    again = ScriptedChat(judge)
    asyncio.run(score(made.lake, config, again, **RUN))
    assert again.n_calls
    assert "timeout" not in {r["status"] for r in made.lake.rows("judgements")}


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_run_that_was_cut_short_ends_with_the_same_rows(tmp_path):
    config = planted_config(**LLM)
    made = {name: sampled_lake(tmp_path / name, config, **ONE) for name in ("whole", "cut")}
    n_asked = 0

    def dies(request):
        nonlocal n_asked
        n_asked += 1
        if n_asked == 20:
            raise Killed
        return judge(request)

    for name, lake in made.items():
        asyncio.run(explain(lake.lake, config, ScriptedChat(judge), **RUN))
        if name == "cut":
            with pytest.raises(Killed):
                asyncio.run(score(lake.lake, config, ScriptedChat(dies), **RUN))
        asyncio.run(score(lake.lake, config, ScriptedChat(judge), **RUN))
    for table in ("explanations", "judgements", "scores"):
        rows = [
            [{k: v for k, v in row.items() if k != "created_at"} for row in m.lake.rows(table)]
            for m in made.values()
        ]
        assert rows[0]
        assert rows[0] == rows[1]


def test_a_scorer_that_waits_for_a_batch_file_holds_up_no_other(tmp_path):
    config = planted_config(**{**LLM, "score": {"scorers": ["detection", "pattern"]}})
    made = sampled_lake(tmp_path / "lake", config, **ONE)
    asyncio.run(explain(made.lake, config, ScriptedChat(judge), **RUN))

    def later(request):
        raise Deferred("later")

    counts = asyncio.run(score(made.lake, config, ScriptedChat(later), **RUN))
    assert counts[WAITING]
    assert {r["scorer"] for r in made.lake.rows("scores")} == {"pattern"}


@pytest.mark.parametrize("setting", ["explain", "score"])
def test_a_missing_language_model_is_named(tmp_path, setting):
    config = planted_config(**LLM)
    made = sampled_lake(tmp_path / "lake", config, n_sequences=20)
    with pytest.raises(ConfigError, match=f"{setting}.*asks a language model"):
        asyncio.run({"explain": explain, "score": score}[setting](made.lake, config, None, **RUN))


def test_every_reply_that_was_paid_for_is_named_by_the_judgements(tmp_path):
    config = planted_config(**{**LLM, "score": {"scorers": ["detection"], "n_borrowed": 0}})
    made = sampled_lake(tmp_path / "lake", config, **ONE)
    replies = []

    def unclear_at_first(request):
        unclear = request.route == "judge" and len(request.messages) == 2
        return "no idea" if unclear else judge(replace(request, messages=request.messages[:2]))

    def note(request):
        replies.append(request.key("scripted"))
        return unclear_at_first(request)

    asyncio.run(explain(made.lake, config, ScriptedChat(judge), **RUN))
    asyncio.run(score(made.lake, config, ScriptedChat(note), **RUN))
    rows = made.lake.rows("judgements")
    assert {len(row["reply_keys"]) for row in rows} == {2}
    assert {key for row in rows for key in row["reply_keys"]} == set(replies)
