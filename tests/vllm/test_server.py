"""A real vLLM with a tiny random model, started, asked and stopped by lakeinterp.

Needs `make test-vllm`, which makes an environment with the CPU build and names it here.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from lakeinterp.chat import LiteLLMChat, Message, Request, ask, parse_labels
from lakeinterp.chat.vllm import VllmServer
from lakeinterp.config import ChatConfig, RouteConfig, ScoreConfig, VllmConfig
from lakeinterp.lake import Lake
from lakeinterp.score.batches import Item, LabelJudge
from tests.chat.helpers import ask_stored
from tests.vllm.model import build

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
PYTHON = os.environ.get("LAKEINTERP_VLLM_PYTHON", "")
PROGRAM = Path(__file__).with_name("program.py")
LABELS = {
    "type": "object",
    "properties": {
        "labels": {
            "type": "array",
            "items": {"type": "integer", "enum": [0, 1]},
            "minItems": 3,
            "maxItems": 3,
        }
    },
    "required": ["labels"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    assert PYTHON, "set LAKEINTERP_VLLM_PYTHON, as `make test-vllm` does"
    folder = tmp_path_factory.mktemp("vllm")
    model = build(folder / "tiny")
    config = VllmConfig(
        command=(PYTHON, str(PROGRAM)),
        name="tiny",
        dtype="float32",
        max_model_len=8192,
        start_timeout_s=600,
        arguments=("--enforce-eager", "--block-size", "32"),
    )
    patch = pytest.MonkeyPatch()
    for name, value in (
        ("HF_HUB_OFFLINE", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("HOME", str(folder)),
    ):
        patch.setenv(name, value)
    with VllmServer(str(model), config, log=folder / "vllm.log") as running:
        yield running
    patch.undo()
    assert not running.is_healthy()


@pytest.fixture
def config(server):
    return ChatConfig(explainer=RouteConfig(deployments=(server.deployment(),)), concurrency=8)


def question(text="Is it so?", **values):
    values = {"route": "judge", "max_tokens": 12, **values}
    return Request(messages=(Message(role="user", content=text),), **values)


def post(server, path, **body):
    data = json.dumps({"model": "tiny", "temperature": 0, **body}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(HttpRequest(f"{server.url}/{path}", data, headers), timeout=120) as answer:
        return json.load(answer)


def metric(server, name):
    with urlopen(f"{server.url.removesuffix('/v1')}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return sum(float(n) for n in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))


def test_chat_answers_are_free_counted_and_the_same_again(config, tmp_path):
    requests = [question(str(i)) for i in range(4)]
    lake = Lake(str(tmp_path / "lake"))
    replies, stats = ask_stored(lake, config, *requests)
    assert {reply.status for reply in replies} <= {"ok", "truncated"}
    assert {reply.cost_state for reply in replies} == {"free"}
    assert all(0 < reply.completion_tokens <= 12 for reply in replies)
    assert all(reply.prompt_tokens > 10 for reply in replies)
    assert stats.n_calls == 4
    fresh, _ = ask_stored(Lake(str(tmp_path / "other")), config, *requests)
    assert [reply.text for reply in fresh] == [reply.text for reply in replies]


def test_json_schema_holds_even_a_random_model_to_three_labels(config):
    async def run():
        chat = LiteLLMChat(config)
        try:
            return [
                await ask(
                    chat,
                    question(str(i), schema=LABELS, max_tokens=60),
                    lambda text: parse_labels(text, 3),
                )
                for i in range(5)
            ]
        finally:
            await chat.aclose()

    answers = asyncio.run(run())
    assert [answer.status for answer in answers] == ["ok"] * 5
    assert all(len(answer.value) == 3 and len(answer.reply_keys) == 1 for answer in answers)


def test_logprobs_are_those_of_the_tokens_that_were_written(config, tmp_path):
    request = question(top_logprobs=5)
    (reply,), _ = ask_stored(Lake(str(tmp_path / "lake")), config, request)
    assert len(reply.logprobs) == reply.completion_tokens
    for token in reply.logprobs:
        found = [p for _, p in token.top]
        assert found == sorted(found, reverse=True)
        assert token.logprob == pytest.approx(found[0])  # temperature 0 takes the likeliest
        assert sum(math.exp(p) for p in found) <= 1.0001


def test_prompt_logprobs_come_with_chats_and_completions(server, config, tmp_path):
    said = post(server, "completions", prompt="one two", max_tokens=1, prompt_logprobs=1)
    given = said["choices"][0]["prompt_logprobs"]
    assert given[0] is None
    assert len(given) == said["usage"]["prompt_tokens"] == len("one two")
    messages = [{"role": "user", "content": "one two"}]
    said = post(server, "chat/completions", messages=messages, max_tokens=1, prompt_logprobs=1)
    assert len(said["prompt_logprobs"]) == said["usage"]["prompt_tokens"]
    # Through the chat: a server that is asked for them besides still gives a usual reply.
    asked = server.deployment().model_copy(update={"body": {"prompt_logprobs": 1}})
    with_prompt = config.model_copy(update={"explainer": RouteConfig(deployments=(asked,))})
    (plain,), _ = ask_stored(Lake(str(tmp_path / "a")), config, question())
    (reply,), _ = ask_stored(Lake(str(tmp_path / "b")), with_prompt, question())
    assert replace(reply, key="", latency_s=0, model_requested="") == replace(
        plain, key="", latency_s=0, model_requested=""
    )


def test_calls_on_one_explanation_share_their_beginning_in_the_servers_cache(
    server, config, tmp_path
):
    judge = LabelJudge("detection", ScoreConfig(max_tokens=4))
    batches = [
        [Item(item=i, example=None, text=f"{word} {i}", truth=True)]
        for i, word in enumerate(("cat", "dog", "mat", "red", "blue", "said"))
    ]
    requests = [judge.request("the word cat", batch) for batch in batches]
    before = [metric(server, f"vllm:prefix_cache_{n}_total") for n in ("queries", "hits")]
    ask_stored(Lake(str(tmp_path / "lake")), config, *requests)
    after = [metric(server, f"vllm:prefix_cache_{n}_total") for n in ("queries", "hits")]
    queries, hits = (b - a for a, b in zip(before, after, strict=True))
    assert hits / queries > 0.6
