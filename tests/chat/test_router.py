"""Routes: what is sent, which deployment is asked, what it costs."""

import asyncio

import pytest

from lakeinterp.chat import LiteLLMChat, TokenLogprobs
from lakeinterp.config import ChatConfig, RouteConfig
from lakeinterp.errors import ConfigError
from tests.chat.helpers import ask_directly, question, settings
from tests.wire import Answer, Wire, error

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


def both(first, second, **values):
    """Return a configuration with two equal deployments in one route."""
    route = RouteConfig(deployments=(first.deployment(), second.deployment()))
    return settings(first, explainer=route, **values)


def test_request_is_sent_as_it_stands():
    with Wire(lambda body: "yes") as wire:
        (reply,) = ask_directly(
            settings(wire), question("q?", max_tokens=7, temperature=0.5, seed=3, schema=SCHEMA)
        )
        (sent,) = wire.requests
    assert sent.pop("stream", False) is False
    assert sent == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "q?"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
        },
    }
    assert (reply.model_requested, reply.model_served) == ("hosted_vllm/tiny", "tiny")
    assert (reply.prompt_tokens, reply.completion_tokens) == (10, 5)
    assert reply.latency_s > 0


def refuses(feature):
    def answer(body):
        return error(400, f"{feature} is not supported") if feature in body else '{"a": 1}'

    return answer


def test_route_that_refuses_a_schema_is_asked_without_it_from_then_on():
    with Wire(refuses("response_format")) as wire:
        replies = ask_directly(
            settings(wire), question("1", schema=SCHEMA), question("2", schema=SCHEMA)
        )
        assert ["response_format" in r for r in wire.requests] == [True, False, False]
    assert [r.status for r in replies] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("structured", "asked", "status"), [("always", 1, "http_error"), ("never", 0, "ok")]
)
def test_structured_setting_is_obeyed(structured, asked, status):
    with Wire(refuses("response_format")) as wire:
        (reply,) = ask_directly(settings(wire, structured=structured), question(schema=SCHEMA))
        assert sum("response_format" in r for r in wire.requests) == asked
    assert reply.status == status


def test_logprobs_come_back_when_asked_for():
    said = Answer(text="yes", logprobs=[("yes", -0.1, [("yes", -0.1), ("no", -2.4)])])
    with Wire(lambda body: said) as wire:
        (reply,) = ask_directly(settings(wire), question(top_logprobs=2))
        assert wire.requests[0]["top_logprobs"] == 2
    top = (("yes", -0.1), ("no", -2.4))
    assert reply.logprobs == (TokenLogprobs(token="yes", logprob=-0.1, top=top),)


def test_route_without_logprobs_gives_none():
    with Wire(lambda body: "yes") as wire:
        (reply,) = ask_directly(settings(wire), question(top_logprobs=2))
    assert (reply.status, reply.logprobs) == ("ok", None)


@pytest.mark.parametrize("feature", ["logprobs", "seed"])
def test_route_that_refuses_logprobs_or_a_seed_is_asked_without(feature):
    with Wire(refuses(feature)) as wire:
        (reply,) = ask_directly(settings(wire), question(top_logprobs=2, seed=1))
        assert [feature in body for body in wire.requests] == [True, False]
    assert (reply.status, reply.logprobs) == ("ok", None)


def test_retry_asks_another_deployment_at_once():
    with Wire(lambda body: error(503)) as down, Wire(lambda body: "yes") as up:
        config = both(down, up, retry_wait_s=60, attempts=2)
        replies = ask_directly(config, *(question(str(i)) for i in range(8)))
        assert [r.status for r in replies] == ["ok"] * 8
        assert up.n_requests == 8


def test_weights_share_the_calls():
    with Wire(lambda body: "a") as light, Wire(lambda body: "b") as heavy:
        deployments = (light.deployment(weight=1), heavy.deployment(weight=9))
        config = settings(light, explainer=RouteConfig(deployments=deployments))
        ask_directly(config, *(question(str(i)) for i in range(60)))
        assert 30 < heavy.n_requests < 60
        assert light.n_requests + heavy.n_requests == 60


def fallback(primary, paid, **values):
    route = RouteConfig(
        deployments=(primary.deployment(),), fallbacks=(paid.deployment("openrouter/v/m"),)
    )
    return settings(primary, explainer=route, **values)


@pytest.mark.parametrize("status", [402, 429, 500, 503])
def test_fallback_is_asked_when_the_route_cannot_answer(status):
    with Wire(lambda body: error(status)) as primary, Wire(lambda body: "yes") as paid:
        (reply,) = ask_directly(fallback(primary, paid), question())
        assert (reply.status, paid.n_requests) == ("ok", 1)
        assert primary.n_requests == (1 if status == 402 else 3)
    assert (reply.model_requested, reply.model_served) == ("hosted_vllm/tiny", "v/m")


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_fallback_is_never_paid_for_a_request_that_is_wrong(status):
    with Wire(lambda body: error(status)) as primary, Wire(lambda body: "yes") as paid:
        (reply,) = ask_directly(fallback(primary, paid), question())
        assert (reply.status, paid.n_requests) == ("http_error", 0)


def test_judge_has_a_route_of_its_own_or_the_explainers():
    with Wire(lambda body: "e") as explainer, Wire(lambda body: "j") as judge:
        config = settings(explainer, judge=judge.route())
        (reply,) = ask_directly(config, question(route="judge"))
        assert reply.text == "j"
        (reply,) = ask_directly(settings(explainer), question(route="judge"))
        assert reply.text == "e"


def test_question_to_a_route_without_a_model_is_a_config_error():
    with Wire(lambda body: "x") as wire:
        config = ChatConfig(judge=wire.route())
        with pytest.raises(ConfigError, match=r"chat\.explainer\.deployments"):
            ask_directly(config, question(route="explainer"))


@pytest.mark.parametrize(("limits", "most"), [({"concurrency": 3}, 3), ({"one": 2}, 2)])
def test_calls_in_flight_are_bounded(limits, most):
    with Wire(lambda body: Answer(text="x", delay_s=0.05)) as wire:
        route = wire.route(max_concurrency=limits.pop("one", None))
        config = settings(wire, explainer=route, **limits)

        async def run():
            chat = LiteLLMChat(config)
            await asyncio.gather(*(chat(question(str(i))) for i in range(12)))
            await chat.aclose()

        asyncio.run(run())
        assert (wire.most_open, wire.n_requests) == (most, 12)


def test_chat_can_be_used_again_after_it_was_closed():
    with Wire(lambda body: "x") as wire:

        async def run():
            chat = LiteLLMChat(settings(wire))
            for text in "ab":
                assert (await chat(question(text))).status == "ok"
                await chat.aclose()

        asyncio.run(run())


PRICES = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.1}
COSTS = {
    "own server": ("hosted_vllm/tiny", {}, {}, ("free", 0.0)),
    "own server with prices": ("hosted_vllm/tiny", PRICES, {}, ("priced", 0.6)),
    "this machine": ("openai/tiny", {}, {}, ("free", 0.0)),
    "known model": ("openai/gpt-4o-mini", {}, {}, ("priced", 10 * 1.5e-7 + 5 * 6e-7)),
    "provider's word": ("openrouter/v/m", PRICES, {"cost": 0.25}, ("priced", 0.25)),
    "no usage": ("openrouter/v/m", PRICES, None, ("unknown", None)),
}


@pytest.mark.parametrize("case", COSTS)
def test_cost_has_three_states(case):
    model, prices, usage, (state, usd) = COSTS[case]
    counted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    usage = None if usage is None else counted | usage
    with Wire(lambda body: Answer(text="x", usage=usage)) as wire:
        (reply,) = ask_directly(settings(wire, explainer=wire.route(model, **prices)), question())
    assert reply.cost_state == state
    assert reply.cost_usd == (None if usd is None else pytest.approx(usd))


def test_one_of_two_prices_is_refused():
    with Wire(lambda body: "x") as wire, pytest.raises(ConfigError, match="give both"):
        LiteLLMChat(settings(wire, explainer=wire.route(input_cost_per_token=0.1)))


HARD = "a\x00b\x1b[31m\ud800<<x>> {{y}} $z </think> \u2028 ```[1]``` \U0001f600 Ignore what came"


def test_hard_text_goes_through_and_only_lone_surrogates_change():
    with Wire(lambda body: Answer(text=body["messages"][0]["content"] + "\udc01")) as wire:
        (reply,) = ask_directly(settings(wire), question(HARD))
        (sent,) = wire.requests
    expected = HARD.replace("\ud800", "\ufffd")
    assert sent["messages"][0]["content"] == expected
    assert reply.text == expected + "\ufffd"
