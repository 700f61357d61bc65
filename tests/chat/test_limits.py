"""How fast and how long a deployment is asked: pace, rests, circuits."""

import asyncio
import json
import time
from collections import Counter

import pytest

from lakeinterp.chat import LiteLLMChat, targets
from lakeinterp.chat.limits import Pace
from lakeinterp.chat.waits import asked_wait, seconds, wait_in_text
from lakeinterp.config import RouteConfig
from tests.chat.helpers import ask_directly, question, settings
from tests.wire import Answer, Wire, error


def ask_together(config, *requests):
    """Ask all at once without a store; return the replies and the seconds it took."""

    async def run():
        chat = LiteLLMChat(config)
        try:
            await chat(question("first, so that the time does not hold the import"))
            start = time.monotonic()
            replies = await asyncio.gather(*(chat(request) for request in requests))
            return replies, time.monotonic() - start
        finally:
            await chat.aclose()

    return asyncio.run(run())


def questions(n):
    return [question(str(i)) for i in range(n)]


def in_s(offset, scale=1.0):
    return str(int((time.time() + offset) * scale))


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "7", "x-ratelimit-reset-requests": "90s"}, 7),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "149984",
            },
            1,
        ),
        ({"X-RateLimit-Reset": in_s(9000, 1000)}, 9000),
        ({"X-RateLimit-Reset": in_s(9000)}, 9000),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"llm_provider-x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"anthropic-ratelimit-requests-reset": "2020-01-01T00:00:00Z"}, 0),
        ({"x-ratelimit-limit-requests": "60", "date": "x"}, None),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
    ],
)
def test_wait_is_read_from_every_kind_of_header(headers, wait_s):
    found = asked_wait(headers)
    assert found == (None if wait_s is None else pytest.approx(wait_s, rel=0.1))


def test_limit_of_which_something_is_left_asks_for_no_wait():
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "5s"}
    assert asked_wait(headers, only_spent=True) is None
    assert asked_wait(headers | {"x-ratelimit-remaining-requests": "0"}, only_spent=True) == 5


@pytest.mark.parametrize(
    ("text", "wait_s"), [("12ms", 0.012), ("1h2m3s", 3723), ("nan", None), ("-1", 0), ("", None)]
)
def test_durations_are_read(text, wait_s):
    assert seconds(text) == (None if wait_s is None else pytest.approx(wait_s))


def test_wait_in_the_message_is_read():
    said = json.dumps({"metadata": {"headers": {"X-RateLimit-Reset": in_s(30, 1000)}}})
    assert wait_in_text(said) == pytest.approx(30, abs=1.5)
    assert wait_in_text("Rate limit reached. Please try again in 1m30s. Visit") == 90
    assert wait_in_text("slow down") is None


def test_pace_lets_a_second_pass_at_once_and_then_one_after_the_other():
    def waits(pace, *sizes):
        for n in sizes:
            yield pace.wait_s(n)
            pace.take(n)

    assert list(waits(Pace(120), 1, 1, 1, 1)) == pytest.approx([0, 0, 0.5, 1], abs=0.1)
    slow = Pace(60)
    assert list(waits(slow, 10, 1)) == pytest.approx([0, 10], abs=0.1)
    slow.give_back(8)
    assert slow.wait_s(1) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("where", ["deployment", "route"])
def test_requests_a_minute_are_kept(where):
    with Wire(lambda body: "x") as wire:
        route = wire.route(requests_per_minute=600) if where == "deployment" else wire.route()
        if where == "route":
            route = route.model_copy(update={"requests_per_minute": 600})
        replies, took_s = ask_together(settings(wire, explainer=route), *questions(15))
    assert {r.status for r in replies} == {"ok"}
    assert took_s > 0.5


def test_tokens_a_minute_are_kept_and_what_was_not_used_is_given_back():
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    with Wire(lambda body: Answer(text="x", usage=usage)) as wire:
        route = wire.route(tokens_per_minute=6000)
        config = settings(wire, explainer=route, concurrency=1)
        _, took_s = ask_together(config, *(question(str(i), max_tokens=200) for i in range(12)))
    # 12 x 15 tokens at 100 a second, of which the first second's are there; not 12 x 204.
    assert 0.5 < took_s < 5


def test_deployment_that_is_at_its_limit_leaves_calls_to_the_others():
    with Wire(lambda body: "a") as slow, Wire(lambda body: "b") as fast:
        deployments = (slow.deployment(requests_per_minute=2), fast.deployment())
        config = settings(slow, explainer=RouteConfig(deployments=deployments))
        replies, took_s = ask_together(config, *questions(20))
        assert slow.n_requests <= 2
    assert ({r.status for r in replies}, took_s < 5) == ({"ok"}, True)


def test_reset_header_of_a_429_is_waited_for_by_every_call():
    answers = [error(429, x_ratelimit_reset_requests="700ms"), *["yes"] * 5]
    with Wire(lambda body: answers.pop(0)) as wire:
        start = time.monotonic()
        replies = ask_directly(settings(wire, concurrency=1), *questions(3))
        assert wire.n_requests == 4
    assert ({r.status for r in replies}, time.monotonic() - start > 0.6) == ({"ok"}, True)


def test_spent_limit_is_rested_for_before_it_is_overrun():
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "600ms"}
    answers = [Answer(text="a", headers=headers), "b"]
    with Wire(lambda body: answers.pop(0)) as wire:
        start = time.monotonic()
        ask_directly(settings(wire), *questions(2))
    assert time.monotonic() - start > 0.55


def test_wait_beyond_reason_is_asked_for_once_by_one_call():
    with Wire(lambda body: error(429, "daily quota", Retry_After="86400")) as wire:
        replies = ask_directly(settings(wire), *questions(4))
        assert wire.n_requests == 1
    assert [r.attempts for r in replies] == [1, 0, 0, 0]
    assert "longer than chat.max_wait_s" in replies[1].reason


def test_no_credit_said_with_429_is_not_tried_again():
    with Wire(lambda body: error(429, "You exceeded your current quota")) as wire:
        (reply,) = ask_directly(settings(wire), question())
        assert (reply.status, wire.n_requests) == ("http_error", 1)
    assert "no credit" in reply.reason


def down(wire, **values):
    """Return a configuration that gives up a deployment soon."""
    plain = {"circuit_failures": 3, "circuit_s": 30, "outage_s": 0, "concurrency": 1, "attempts": 1}
    return settings(wire, **{**plain, **values})


@pytest.mark.parametrize("status", [401, 402, 404, 500])
def test_deployment_that_keeps_failing_is_asked_no_more(status):
    with Wire(lambda body: error(status)) as wire:
        replies = ask_directly(down(wire, outage_s=60 if status < 500 else 0), *questions(8))
        assert wire.n_requests == 3
    assert {r.status for r in replies} == {"http_error"}
    assert [r.attempts for r in replies] == [1] * 3 + [0] * 5
    assert "not sent: chat.explainer.deployments[0] failed 3 times in a row" in replies[-1].reason
    assert (replies[-1].cost_state, replies[-1].cost_usd) == ("free", 0.0)


@pytest.mark.parametrize("status", [400, 413, 422, 429])
def test_what_is_the_requests_own_fault_is_not_held_against_the_deployment(status):
    with Wire(lambda body: error(status)) as wire:
        ask_directly(down(wire), *questions(6))
        assert wire.n_requests == 6


def test_calls_wait_out_a_short_outage_behind_one_probe_at_a_time():
    until = time.monotonic() + 1.2
    with Wire(lambda body: error(503) if time.monotonic() < until else "yes") as wire:
        config = down(wire, circuit_s=0.2, outage_s=20, concurrency=8, attempts=8)
        replies, took_s = ask_together(config, *questions(30))
        sent = Counter(body["messages"][0]["content"] for body in wire.requests)
    assert {r.status for r in replies} == {"ok"}
    # 8 were in flight when it opened, then a probe after 0.2, 0.4, 0.8 s
    assert sum(sent.values()) < 31 + 8 + 8
    assert took_s < 10


def test_half_open_deployment_closes_with_the_first_answer(caplog):
    answers = [error(500)] * 3 + ["yes"] * 4
    with Wire(lambda body: answers.pop(0)) as wire:
        config = down(wire, circuit_s=0.05, outage_s=20, attempts=4)
        replies = ask_directly(config, *questions(3))
    assert [(r.status, r.attempts) for r in replies] == [("ok", 4), ("ok", 1), ("ok", 1)]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [("rests" in line, "answers again" in line) for line in told] == [
        (True, False),
        (False, True),
    ]


def test_rest_that_outlasts_the_hope_is_waited_for_without_spinning(monkeypatch):
    looks = []
    choose = targets.choose
    monkeypatch.setattr(targets, "choose", lambda *given: looks.append(1) or choose(*given))
    answers = [error(503, Retry_After="1"), "yes"]
    with Wire(lambda body: answers.pop(0)) as wire:
        config = down(wire, circuit_failures=1, circuit_s=0.1, outage_s=0.2, attempts=2)
        (reply,) = ask_directly(config, question())
    assert (reply.status, reply.attempts) == ("ok", 2)
    assert len(looks) < 10


def test_fallback_is_asked_at_once_while_the_route_rests():
    with Wire(lambda body: error(500)) as primary, Wire(lambda body: "yes") as paid:
        route = RouteConfig(
            deployments=(primary.deployment(),), fallbacks=(paid.deployment("openrouter/v/m"),)
        )
        replies = ask_directly(down(primary, explainer=route), *questions(10))
        assert (primary.n_requests, paid.n_requests) == (3, 10)
    assert {r.status for r in replies} == {"ok"}


def test_hanging_deployment_opens_its_circuit_too():
    with Wire(lambda body: Answer(text="late", delay_s=30)) as wire:
        replies = ask_directly(down(wire, timeout_s=0.1), *questions(5))
        assert wire.n_requests == 3
    assert {r.status for r in replies} == {"timeout"}
