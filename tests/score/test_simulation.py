"""Simulation, three ways: what is asked, what is read, and what comes of it."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.stored import open_chat
from lakeinterp.chat.types import Reply, TokenLogprobs
from lakeinterp.config import ChatConfig, ScoreConfig
from lakeinterp.explain import explain
from lakeinterp.lake import Lake
from lakeinterp.score import score
from lakeinterp.score.simulation import SimulationScorer
from lakeinterp.score.simulators import expected_digit
from tests.rule_driven import answer as answer_of
from tests.score.planted_examples import planted_config, sampled_lake
from tests.score.test_intruder import ONE, RUN, said
from tests.wire import Answer, Wire, error

RENDERINGS = Path(__file__).parent / "renderings"
METRICS = {
    "correlation",
    "correlation_centred",
    "correlation_window",
    "correlation_natural",
    "r_squared",
    "deviation_explained",
}


def settings(**values):
    return planted_config(
        sampling={"latents": [0, 1, 2]},
        explain={"explainer": "default"},
        score={"scorers": ["simulation"], "n_borrowed": 1, "n_simulated": 8, **values},
    )


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulation") / "lake"
    made = sampled_lake(root, settings(), **ONE)
    asyncio.run(explain(made.lake, settings(), ScriptedChat(said), **RUN))
    return root, made


@pytest.fixture
def made(explained, tmp_path):
    root, made = explained
    return replace(made, lake=Lake(str(shutil.copytree(root, tmp_path / "lake"))))


def fits(description, before, piece):
    if description == "the word cat":
        return piece == " cat"
    return before == " the"


def table_of(request):
    """Return what a request of the logprobs way says: description, pieces and the gap."""
    lines = request["messages"][-1]["content"].split("\n")
    pieces, gaps = zip(*(line.split("\t") for line in lines), strict=True)
    description = re.search(r"Description: (.*)", request["messages"][-2]["content"])[1]
    return description, pieces, gaps[0]


def of_metric(lake, metric="correlation"):
    return {r["latent"]: r for r in lake.rows("scores", f"metric = '{metric}'")}


def test_a_judge_that_follows_the_explanation_predicts_the_planted_latent(made):
    asyncio.run(score(made.lake, settings(), ScriptedChat(said), **RUN))
    assert {r["metric"] for r in made.lake.rows("scores", "latent = 0")} == METRICS
    found = of_metric(made.lake)
    for latent in (0, 1):
        assert found[latent]["value"] > 0.8
        assert found[latent]["null_value"] < 0.2
        assert (found[latent]["n"], found[latent]["n_failed"]) == (8, 0)
        assert found[latent]["ci_low"] < found[latent]["value"] < found[latent]["ci_high"]
    assert (found[2]["status"], found[2]["value"]) == ("too_few_examples", None)
    rows = made.lake.rows("judgements", "latent = 0 AND role = 'own'")
    assert Counter(r["stratum"] for r in rows) == {"activating": 4, "random": 4}
    assert Counter(r["quantile"] for r in rows) == {1: 2, 2: 2, None: 4}
    assert {(r["truth"], r["prediction"], len(r["values"])) for r in rows} == {(None, None, 16)}
    assert asyncio.run(score(made.lake, settings(), ScriptedChat(said), run="again")) == Counter()


def prompt_logprobs(messages, tokens_of, top_of):
    """Return what vLLM sends: at each token of the prompt that token and the likeliest."""
    found = [None]
    for i, message in enumerate(messages):
        is_last = i + 1 == len(messages)
        for token, place in tokens_of(f"<|{message['role']}|>\n" + message["content"] + "\n"):
            entry = {"1": {"logprob": -3.0, "rank": 9, "decoded_token": token}}
            if is_last:
                for n, (text, logprob) in enumerate(top_of(token, place)):
                    entry[str(100 + n)] = {"logprob": logprob, "rank": n, "decoded_token": text}
            found.append(entry)
    return found


def as_words(text):
    """Tokens with the space or tab before them, and where the token begins."""
    return [(m[0], m.start()) for m in re.finditer(r"\s?[^\s]+|\s", text)]


def as_bare_words(text):
    """The same as some servers decode them: without the space."""
    return [(token.strip() or token, at) for token, at in as_words(text)]


def as_letters(text):
    return [(letter, i) for i, letter in enumerate(text)]


def as_halves(text):
    """Words cut in two, the tab with the first half."""
    return [
        (part, at + shift)
        for token, at in as_words(text)
        for part, shift in ((token[:4], 0), (token[4:], 4))
        if part
    ]


def vllm(tokens_of):
    """Return a server that fills gaps with 9 where the description fits and 0 elsewhere."""

    def answer(body):
        if "prompt_logprobs" not in body:
            return answer_of(body)
        description, pieces, gap = table_of(body)
        text = f"<|assistant|>\n{body['messages'][-1]['content']}\n"
        places = [m.start() for m in re.finditer(rf"(?<=\t){gap}", text)]
        pairs = list(zip(["", *pieces], pieces, strict=False))

        def top_of(token, at):
            inside = [i for i, place in enumerate(places) if at <= place < at + len(token) + 1]
            lead = token[: len(token) - len(token.lstrip())]
            if not inside:
                return [("x", -0.1)]
            digit = "9" if fits(description, *pairs[inside[0]]) else "0"
            other = [(lead + "3", math.log(0.1)), (lead + gap[:3], math.log(0.4))]
            return [(lead + digit, math.log(0.5)), *other]

        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "x"},
                    "finish_reason": "length",
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
            "prompt_logprobs": prompt_logprobs(body["messages"], tokens_of, top_of),
        }
        return Answer(body=json.dumps(reply).encode())

    return answer


def simulated(made, answer, **values):
    with Wire(answer) as wire:
        chat = ChatConfig(explainer=wire.route(), attempts=2, retry_wait_s=0)
        config = settings(**values).model_copy(update={"chat": chat})

        async def run():
            async with open_chat(made.lake, config.chat) as chat:
                return await score(made.lake, config, chat, **RUN)

        counts = asyncio.run(run())
    return wire, counts


@pytest.mark.parametrize("tokens_of", [as_words, as_bare_words, as_letters, as_halves])
def test_expected_values_are_read_at_the_gaps_whatever_the_tokenizer(made, tokens_of):
    wire, counts = simulated(made, vllm(tokens_of), simulation="logprobs", n_borrowed=0)
    assert set(counts) == {"ok"}
    assert {r["max_tokens"] for r in wire.requests} == {1}
    sure, unsure = (0.5 * 9 + 0.1 * 3) / 0.6 * 10 / 9, 0.1 * 3 / 0.6 * 10 / 9
    for row in made.lake.rows("judgements"):
        (example,) = made.lake.rows(
            "examples", f"latent = {row['latent']} AND example = {row['example']}"
        )
        assert json.loads(row["detail"]) == {"mode": "logprobs"}
        for value, activation in zip(row["values"], example["values"], strict=True):
            expected = [sure, unsure] if row["latent"] == 1 else [sure if activation else unsure]
            assert any(value == pytest.approx(e) for e in expected)
    assert all(r["value"] > 0.8 for r in of_metric(made.lake).values() if r["n"])
    kept = [json.loads(r["logprobs"]) for r in made.lake.rows("replies")]
    assert all(len(gaps["gaps"]) == 16 for gaps in kept)


@pytest.mark.parametrize("how", ["left out", "refused"])
def test_a_route_without_log_probabilities_of_prompts_is_asked_for_json(made, how, caplog):
    def answer(body):
        if "prompt_logprobs" in body and how == "refused":
            return error(400, "prompt_logprobs: extra fields not permitted")
        return answer_of(body) if "Give the act" in body["messages"][-1]["content"] else "0"

    wire, counts = simulated(made, answer, simulation="logprobs", n_borrowed=0)
    assert set(counts) == {"ok"}
    asked = ["Give the act" not in body["messages"][-1]["content"] for body in wire.requests]
    assert sum(asked) == (1 if how == "left out" else 2)
    assert len(asked) > 8
    said_once = [r.message for r in caplog.records if "predicting as JSON" in r.message]
    assert len(said_once) == 1
    modes = {json.loads(r["detail"])["mode"] for r in made.lake.rows("judgements")}
    assert modes == {"json"}
    assert all(r["value"] > 0.8 for r in of_metric(made.lake).values() if r["n"])


def digits(request):
    """Answer the token way: with a 9 where the description fits, else 0."""
    asked = request.messages[-1].content
    if "Last token" not in asked:
        return said(request)
    description = re.search(r"Description: (.*)", asked)[1]
    text = re.search(r"^Text: (.*)$", asked, re.M)[1]
    before, piece = ["", *re.findall(r" ?\S+", text)][-2:]
    digit = "9" if fits(description, before, piece) else "0"
    top = ((digit, math.log(0.8)), ("9" if digit == "0" else "0", math.log(0.2)))
    tokens = (TokenLogprobs(token=digit, logprob=math.log(0.8), top=top),)
    return Reply(key="", status="ok", text=digit, logprobs=tokens)


def test_token_by_token_asks_for_every_token_of_every_window(made):
    asked = []

    def note(request):
        asked.append(request)
        return digits(request)

    config = settings(simulation="token", n_borrowed=0, n_simulated=4)
    asyncio.run(score(made.lake, config, ScriptedChat(note), **RUN))
    assert len(asked) == 2 * 4 * 16
    assert all(r["value"] > 0.8 for r in of_metric(made.lake).values() if r["n"])
    values = {round(v, 6) for r in made.lake.rows("judgements") for v in r["values"]}
    assert values == {8.0, 2.0}
    assert {len(r["reply_keys"]) for r in made.lake.rows("judgements")} == {16}


def test_a_window_that_fails_is_counted_and_never_predicted(made):
    replies = iter(["no", "no", Reply(key="", status="timeout", text=None, reason="slow")])
    chat = ScriptedChat(lambda request: next(replies, None) or said(request))
    asyncio.run(score(made.lake, settings(n_borrowed=0), chat, **RUN))
    rows = made.lake.rows("judgements")
    failed = {r["status"]: r["values"] for r in rows if r["status"] != "ok"}
    assert failed == {"parse_failed": None, "timeout": None}
    found = [r for r in of_metric(made.lake).values() if r["n"]]
    assert sum(r["n_failed"] for r in found) == 2
    assert sum(r["n"] for r in found) == len(rows) - 2
    assert all(r["value"] > 0.8 for r in found)


def test_places_without_digits_fail_the_window(made):
    def no_digits(request):
        if not request.gap:
            return said(request)
        n = request.messages[-1].content.count(request.gap)
        return Reply(key="", status="ok", text="", gaps=((("unknown", -0.1),),) * n)

    config = settings(simulation="logprobs", n_borrowed=0)
    asyncio.run(score(made.lake, config, ScriptedChat(no_digits), **RUN))
    rows = made.lake.rows("judgements")
    assert {(r["status"], r["reason"]) for r in rows} == {
        ("parse_failed", "digits are among the likeliest tokens at 0 of 16 places")
    }
    assert {r["value"] for r in of_metric(made.lake).values()} == {None}


def test_expected_digit_is_a_mean_over_the_digits():
    half = math.log(0.5)
    assert expected_digit((("9", half), ("0", half))) == pytest.approx(5.0)
    both = ((" 9", -2.0), ("▁9", -2.0), ("10", -0.1), ("x", -0.1))
    assert expected_digit(both) == pytest.approx(10.0)
    assert expected_digit((("10", -0.1), ("nine", -0.1), ("", -0.1))) is None
    assert expected_digit((("3", -20.0),)) is None
    assert expected_digit((("4", math.nan), ("5", -1.0))) == pytest.approx(50 / 9)


def rendered(request):
    return "\n".join(f"--- {m.role}\n{m.content}" for m in request.messages) + "\n"


@pytest.mark.parametrize("mode", ["json", "logprobs", "token"])
def test_the_prompt_is_the_stored_one_and_shares_all_before_the_window(made, mode):
    scorer = SimulationScorer(ScoreConfig(simulation=mode))
    seen = []

    def note(request):
        seen.append(rendered(request))
        return said(request) if mode == "json" else "0"

    config = settings(simulation=mode, n_borrowed=0)
    asyncio.run(score(made.lake, config, ScriptedChat(note), **RUN))
    asked = [text for text in seen if "Description: the word cat" in text]
    asked = [t for t in asked if mode != "logprobs" or t.endswith("unknown\n")]
    stored = RENDERINGS / f"simulation_{mode}.txt"
    assert sorted(asked)[0] == stored.read_text(encoding="utf-8")
    if mode == "logprobs":  # asked once: the route has none, which is remembered
        assert len(asked) == 1
    else:
        pairs = enumerate(zip(*asked, strict=False))
        n_shared = next(i for i, letters in pairs if len({*letters}) > 1)
        assert "Description: the word cat\n\nText: " in asked[0][:n_shared]
    assert scorer.settings == SimulationScorer(ScoreConfig(simulation=mode)).settings
