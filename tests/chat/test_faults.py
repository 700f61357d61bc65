"""What each fault of a provider becomes: status, number of HTTP requests, money, row."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from email.utils import formatdate
from functools import partial
from pathlib import Path

import httpx
import pytest
from litellm.llms.custom_llm import CustomLLM, CustomLLMError
from litellm.utils import custom_llm_setup

from lakeinterp.chat import LiteLLMChat, ask, open_chat, parse_labels
from lakeinterp.chat.failures import backoff
from lakeinterp.chat.waits import asked_wait
from lakeinterp.config import ChatConfig, RouteConfig
from lakeinterp.errors import ConfigError
from tests.chat.helpers import ask_directly, ask_stored, question, settings
from tests.wire import KEY, KEY_ENV, Answer, Wire, error

BROKEN_USAGE = Answer(text="x", usage={"prompt_tokens": 1, "completion_tokens": "many"})
FAULTS = {
    "ok": ("yes", "ok", 1, ""),
    "400": (error(400, "context too long"), "http_error", 1, "400: .*refuses.*context too long"),
    "401": (error(401), "http_error", 1, f"401: .*key.*{KEY_ENV}"),
    "402": (error(402), "http_error", 1, "402: .*credit"),
    "403": (error(403), "http_error", 1, "403: .*forbids"),
    "404": (error(404), "http_error", 1, r"404: .*chat.explainer.deployments\[0\]"),
    "413": (error(413), "http_error", 1, "413: .*too large"),
    "422": (error(422), "http_error", 1, "422: .*refuses"),
    "408": (error(408), "timeout", 3, ""),
    "409": (error(409), "http_error", 3, "409"),
    "429": (error(429), "http_error", 3, "429: .*rate"),
    "500": (error(500), "http_error", 3, "500"),
    "503": (error(503), "http_error", 3, "503"),
    "529": (error(529), "http_error", 3, "529"),
    "policy": (error(400, "blocked by our content_policy"), "refused", 1, "content policy"),
    "cut": (Answer(text="y" * 5000, cut=True), "http_error", 3, ""),
    "no JSON": (Answer(body=b'{"choices": [{"mess'), "http_error", 3, ""),
    "HTML": (Answer(body=b"<html>oops</html>"), "http_error", 3, ""),
    "a list": (Answer(body=b"[]"), "http_error", 3, ""),
    "no choices": (Answer(body=b'{"id": "x", "choices": []}'), "http_error", 3, "choices"),
    "error in 200": (Answer(body=b'{"error": {"message": "x", "code": 502}}'), "http_error", 3, ""),
    "absurd usage": (BROKEN_USAGE, "http_error", 3, ""),
    "failed half-way": (Answer(text="ye", finish_reason="error"), "http_error", 3, "middle"),
    "empty": (Answer(text=""), "refused", 1, "empty"),
    "blank": (Answer(text=" \n "), "refused", 1, "empty"),
    "null": (Answer(text=None), "refused", 1, "empty"),
    "refusal": (Answer(text=None, refusal="I cannot"), "refused", 1, "declined: I cannot"),
    "filter": (Answer(text="y", finish_reason="content_filter"), "refused", 1, "filter"),
    "length": (Answer(text="half a", finish_reason="length"), "truncated", 1, "max_tokens"),
    "no quota": (error(429, "You exceeded your current quota"), "http_error", 1, "429: .*credit"),
    "other model": (Answer(text="yes", model="v/other-2"), "ok", 1, ""),
    "no usage": (Answer(text="yes", usage=None), "ok", 1, ""),
    "all thinking": (Answer(text=None, finish_reason="length"), "truncated", 1, "max_tokens"),
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("model", ["hosted_vllm/tiny", "openai/tiny", "openrouter/some/tiny"])
def test_every_fault_has_its_status_and_is_tried_as_often_as_it_makes_sense(model):
    with Wire(lambda body: FAULTS[body["messages"][0]["content"]][0]) as wire:
        config = settings(wire, explainer=wire.route(model))
        replies = dict(
            zip(FAULTS, ask_directly(config, *(question(name) for name in FAULTS)), strict=True)
        )
        sent = Counter(body["messages"][0]["content"] for body in wire.requests)
    texts = dict.fromkeys(["ok", "other model", "no usage"], "yes")
    texts |= {"length": "half a", "filter": "y"}
    found = {name: (r.status, sent[name], r.attempts, r.text) for name, r in replies.items()}
    assert found == {
        name: (status, n_requests, n_requests, texts.get(name))
        for name, (_, status, n_requests, _) in FAULTS.items()
    }
    assert [name for name, r in replies.items() if not r.reason] == [
        "ok",
        "other model",
        "no usage",
    ]
    assert replies["other model"].model_served == "v/other-2"


def test_reasons_are_one_line_that_says_what_to_do():
    told = [name for name, case in FAULTS.items() if case[3]]
    with Wire(lambda body: FAULTS[body["messages"][0]["content"]][0]) as wire:
        replies = ask_directly(settings(wire, attempts=1), *(question(name) for name in told))
        assert wire.n_requests == len(told)
    for name, reply in zip(told, replies, strict=True):
        assert re.search(FAULTS[name][3], reply.reason), reply.reason
        assert "\n" not in reply.reason
        assert "litellm" not in reply.reason.lower()


SLOW = {"hang": Answer(text="late", delay_s=30), "drip": Answer(text="late", drip_s=0.05)}


@pytest.mark.parametrize("case", SLOW)
def test_slow_provider_is_a_timeout_after_bounded_tries(case):
    with Wire(lambda body: SLOW[case]) as wire:
        started = time.monotonic()
        (reply,) = ask_directly(settings(wire, timeout_s=0.3, attempts=2), question())
        assert (reply.status, wire.n_requests) == ("timeout", 2)
    assert time.monotonic() - started < 5
    assert "0.3" in reply.reason


def test_dead_address_is_an_error_after_bounded_tries():
    with Wire(lambda body: "gone") as wire:
        config = settings(wire)
    (reply,) = ask_directly(_with_key(config), question())
    assert (reply.status, reply.attempts) == ("http_error", 3)


def _with_key(config):
    route = config.explainer.deployments[0].model_copy(update={"api_key_env": None})
    return config.model_copy(update={"explainer": RouteConfig(deployments=(route,))})


def test_reply_after_passing_faults_counts_every_request():
    answers = [error(429), error(503), "yes"]
    with Wire(lambda body: answers.pop(0)) as wire:
        (reply,) = ask_directly(settings(wire), question())
    assert (reply.status, reply.text, reply.attempts) == ("ok", "yes", 3)


@pytest.mark.parametrize("header", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_waited_for(header):
    answers = [error(429, Retry_After=header()), "yes"]
    with Wire(lambda body: answers.pop(0)) as wire:
        started = time.monotonic()
        (reply,) = ask_directly(settings(wire), question())
    assert reply.status == "ok"
    assert 0.9 <= time.monotonic() - started < 4


def test_wait_beyond_reason_ends_the_call_and_says_so():
    with Wire(lambda body: error(429, "daily quota", Retry_After="86400")) as wire:
        (reply,) = ask_directly(settings(wire), question())
        assert wire.n_requests == 1
    assert "86400" in reply.reason


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), (None, None)]
)
def test_retry_after_reads_seconds(value, seconds):
    assert asked_wait({} if value is None else {"Retry-After": value}) == seconds


def test_backoff_doubles_with_jitter_and_is_bounded():
    dice = random.Random(1)
    for attempt in range(1, 40):
        longest = min(300.0, 0.5 * 2 ** (attempt - 1))
        assert longest / 2 <= backoff(attempt, 0.5, dice) <= longest


def test_key_echoed_by_the_provider_appears_nowhere(lake, caplog):
    caplog.set_level("DEBUG")
    with Wire(lambda body: error(401, f"Incorrect API key provided: {KEY}")) as wire:
        config = settings(wire)
        (reply,), _ = ask_stored(lake, config, question())
        shown = [repr(LiteLLMChat(config)), str(config), reply.reason, str(reply)]
    assert "***" in reply.reason
    shown += [str(row) for row in lake.rows("replies")]
    files = [p for p in _files(lake) if KEY.encode() in p.read_bytes()]
    assert not files
    assert KEY not in "\n".join([*shown, *(r.getMessage() for r in caplog.records)])


def _files(lake):
    return [p for p in Path(lake.root).rglob("*") if p.is_file()]


def test_missing_key_variable_is_named_before_any_call(monkeypatch):
    with Wire(lambda body: "x") as wire:
        monkeypatch.delenv(KEY_ENV)
        with pytest.raises(ConfigError, match=rf"deployments\[0\].api_key_env: .*{KEY_ENV}"):
            LiteLLMChat(settings(wire))
        assert wire.n_requests == 0
        monkeypatch.setenv(KEY_ENV, "")


def test_usual_key_of_the_account_is_not_sent_to_a_given_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    with Wire(lambda body: "x", key=None) as wire:
        route = wire.route("openai/tiny", api_key_env=None)
        ask_directly(settings(wire, explainer=route), question())
        assert "sk-real" not in str(wire.headers)


def test_own_server_without_an_address_is_refused_before_a_prompt_goes_to_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    config = ChatConfig(explainer=RouteConfig(deployments=[{"model": "hosted_vllm/tiny"}]))
    with pytest.raises(ConfigError, match=r"chat\.explainer\.deployments\[0\]\.api_base"):
        LiteLLMChat(config)
    with Wire(lambda body: "x", key=None) as wire:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", wire.url)
        assert ask_directly(config, question())[0].text == "x"
        assert "sk-real" not in str(wire.headers)


def test_no_deployment_is_an_error_that_shows_how_to_give_one():
    with pytest.raises(ConfigError, match=r"chat.explainer.deployments: .*\n.*\n.*hosted_vllm"):
        LiteLLMChat(ChatConfig())


def test_unknown_provider_is_an_error_that_shows_how_to_write_one():
    with Wire(lambda body: "x") as wire, pytest.raises(ConfigError, match="hosted_vllm/NAME"):
        ask_directly(settings(wire, explainer=wire.route("tiny")), question())


ABSURD = {
    "endless": {"completion_tokens": 10**12},
    "negative": {"completion_tokens": -5},
    "zeros": {"prompt_tokens": 0, "completion_tokens": 0},
    "prompt": {"prompt_tokens": 10**9},
    "cost": {"cost": 1e12},
    "yes": {"cost": True},
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_usage_is_no_usage(case):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | ABSURD[case]
    prices = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.1}
    with Wire(lambda body: Answer(text="x", usage=usage)) as wire:
        (reply,) = ask_directly(settings(wire, explainer=wire.route(**prices)), question())
    if case in ("cost", "yes"):
        assert (reply.cost_state, reply.cost_usd) == ("priced", pytest.approx(0.6))
    else:
        assert (reply.status, reply.cost_state, reply.n_tokens) == ("ok", "unknown", None)


def test_huge_reply_is_kept_whole_and_not_sent_back(lake):
    text = "blah " * 400_000

    async def whole(config):
        async with open_chat(lake, config) as chat:
            return await ask(chat, question(), partial(parse_labels, n=2))

    with Wire(lambda body: text) as wire:
        asked = asyncio.run(whole(settings(wire)))
        assert len(wire.requests[1]["messages"][1]["content"]) < 10_000
    assert (asked.status, asked.reply.text) == ("parse_failed", text)
    assert "2,000,000 characters" in asked.reason
    assert {row["text"] for row in lake.rows("replies")} == {text}


@pytest.mark.parametrize(
    "odd", ["text", [None, {"1": -3.0}], [None, {"1": {"decoded_token": "low", "logprob": "x"}}]]
)
def test_reply_of_a_shape_that_nobody_expects_is_a_failure_that_may_be_billed(odd):
    content = {"index": 0, "message": {"role": "assistant", "content": "x"}}
    body = {"id": "x", "choices": [content], "model": "m", "prompt_logprobs": odd}
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    with Wire(lambda _: Answer(body=json.dumps(body).encode())) as wire:
        config = settings(wire, explainer=wire.route(**prices), timeout_s=60)
        (reply,) = ask_directly(config, question("a low", top_logprobs=1, gap="low"))
        (plain,) = ask_directly(config, question())
        assert wire.n_requests == reply.attempts + 1
    assert (reply.status, reply.text, reply.attempts) == ("http_error", None, 3)
    assert (reply.cost_usd, reply.cost_state) == (None, "unknown")
    assert plain.status == "ok"


class Raising(CustomLLM):
    """A provider of LiteLLM's that raises instead of answering."""

    problem: BaseException

    async def acompletion(self, *_, **__):
        raise self.problem


@pytest.mark.parametrize(
    "problem",
    [
        ValueError(f"no number: {KEY}"),
        TypeError("x"),
        KeyError("choices"),
        AttributeError("x"),
        httpx.ReadError("x", request=httpx.Request("POST", "http://x")),
        CustomLLMError(500, "x"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_whatever_litellm_raises_is_a_failure_and_no_end_of_the_run(problem, litellm, monkeypatch):
    handler = Raising()
    handler.problem = problem
    monkeypatch.setattr(litellm, "custom_provider_map", [])
    litellm.custom_provider_map.append({"provider": "odd", "custom_handler": handler})
    custom_llm_setup()
    with Wire(lambda _: "x") as wire:
        config = settings(wire, explainer=wire.route("odd/m"), attempts=2, timeout_s=60)
        for raised in (problem, None):
            chat = LiteLLMChat(config)
            if raised is None:  # past LiteLLM's own translation, as where it has none
                chat._prepare()
                chat._router = Untranslated(problem)
            reply = asyncio.run(chat(question()))
            assert (reply.status, reply.attempts) == ("http_error", 2)
            assert (reply.cost_state, reply.text) == ("unknown", None)
            assert KEY not in reply.reason
            assert reply.reason


class Untranslated:
    """Stands for a router that lets an exception through."""

    def __init__(self, problem):
        self.problem = problem

    async def acompletion(self, **_):
        raise self.problem


def test_fault_of_ours_stays_an_error(monkeypatch):
    def broken(*_):
        raise ValueError("ours")

    with Wire(lambda _: "x") as wire:
        monkeypatch.setattr("lakeinterp.chat.targets.arguments", broken)
        with pytest.raises(ValueError, match=r"^ours$"):
            ask_directly(settings(wire), question())
