"""What deployments know is tried once, remembered, and told once."""

import asyncio

import pytest

from lakeinterp.chat import LiteLLMChat
from lakeinterp.chat import learnt as memory
from tests.chat.helpers import ask_directly, ask_stored, question, settings
from tests.wire import Answer, Wire, error

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def refuses(feature):
    def answer(body):
        if feature in body:
            return error(400, f"{feature} is not supported")
        return Answer(text='{"a": 1}', delay_s=0.02)

    return answer


def with_schema(*texts):
    return [question(text, schema=SCHEMA) for text in texts]


def test_one_call_tries_and_the_others_wait_for_what_it_finds():
    with Wire(refuses("response_format")) as wire:

        async def run():
            chat = LiteLLMChat(settings(wire))
            replies = await asyncio.gather(*(chat(r) for r in with_schema(*"abcdefgh")))
            await chat.aclose()
            return replies

        replies = asyncio.run(run())
        assert sum("response_format" in body for body in wire.requests) == 1
        assert wire.n_requests == 9
    assert {r.status for r in replies} == {"ok"}


def test_trial_that_fails_for_another_reason_holds_nobody_up():
    answers = [Answer(text="late", delay_s=0.5), *["x"] * 4]
    with Wire(lambda body: answers.pop(0)) as wire:

        async def run():
            chat = LiteLLMChat(settings(wire, timeout_s=0.3, attempts=1))
            replies = await asyncio.gather(*(chat(r) for r in with_schema(*"abcde")))
            await chat.aclose()
            return replies

        assert sorted(r.status for r in asyncio.run(run())) == ["ok"] * 4 + ["timeout"]


def test_next_process_remembers_for_a_day(lake, monkeypatch):
    with Wire(refuses("response_format")) as wire:
        for text in "ab":
            ask_stored(lake, settings(wire), *with_schema(text))
        assert ["response_format" in body for body in wire.requests] == [True, False, False]
        monkeypatch.setattr(memory, "KEPT_S", 0.0)
        ask_stored(lake, settings(wire), *with_schema("c"))
        assert ["response_format" in body for body in wire.requests][3:] == [True, False]


@pytest.mark.parametrize("answer", ["yes", refuses("logprobs")])
def test_route_without_logprobs_says_so_once_and_goes_on(answer, caplog):
    answer = answer if callable(answer) else lambda body: "yes"
    with Wire(answer) as wire:
        replies = ask_directly(settings(wire), *(question(t, top_logprobs=2) for t in "abc"))
    assert [(r.status, r.logprobs) for r in replies] == [("ok", None)] * 3
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "chat.explainer.deployments[0]" in told[0]
    assert "log" in told[0]
