"""Batch files over a real wire: nothing is bought twice, what failed is told, nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from lakeinterp.chat import ScriptedChat, open_chat
from lakeinterp.chat.batch import Batches, open_batches
from lakeinterp.chat.gather import gathering
from lakeinterp.config import ChatConfig, Deployment, RouteConfig
from lakeinterp.errors import BudgetStopped, ConfigError, Deferred, LakeError
from tests.chat.batchwire import BatchWire, Ending, answer, expired, refused
from tests.chat.helpers import ask_stored, question

SCHEMA = {"type": "object", "properties": {"labels": {"type": "array"}}}


def gather(lake, config, *requests):
    """Ask a gathering chat for all; return how many were deferred."""

    async def run():
        with gathering(lake, config) as chat:
            async with open_chat(lake, config, chat=chat) as stored:
                found = await asyncio.gather(*map(stored, requests), return_exceptions=True)
        return sum(isinstance(one, Deferred) for one in found)

    return asyncio.run(run())


def batches(lake, config, work):
    async def run():
        async with open_batches(lake, config) as opened:
            return await work(opened)

    return asyncio.run(run())


def everything(lines):
    return Ending(output=[answer(line, line["body"]["messages"][0]["content"]) for line in lines])


def test_collected_replies_are_found_by_any_chat_and_cost_what_they_cost(lake):
    requests = [question(str(i), schema=SCHEMA, top_logprobs=2, seed=3) for i in range(5)]
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        assert gather(lake, config, *requests) == 5
        (batch,) = batches(lake, config, Batches.submit)
        assert batch.n == 5
        line = wire.lines(batch.remote)[0]
        assert line["body"]["response_format"]["json_schema"]["schema"] == SCHEMA
        assert (line["url"], line["body"]["model"]) == ("/v1/chat/completions", "m")
        assert (line["body"]["top_logprobs"], line["body"]["seed"]) == (2, 3)
        found = batches(lake, config, Batches.collect)
    assert (found.statuses, found.n_open, found.n_again) == ({"ok": 5}, 0, 0)
    replies, stats = ask_stored(lake, config, *requests)
    assert [reply.text for reply in replies] == [str(i) for i in range(5)]
    assert (stats.n_stored, stats.n_calls) == (5, 0)
    assert {reply.cost_usd for reply in replies} == {10 * 1e-3 + 5 * 1e-2}
    assert {reply.model_served for reply in replies} == {"m-served"}


def test_requests_in_a_batch_are_neither_sent_nor_asked_again(lake):
    with BatchWire(lambda lines: Ending(status="in_progress")) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question("a"), question("b"))
        assert len(batches(lake, config, Batches.submit)) == 1
        assert gather(lake, config, question("a"), question("c")) == 2
        (second,) = batches(lake, config, Batches.submit)
        assert [line["body"]["messages"][0]["content"] for line in wire.lines(second.remote)] == [
            "c"
        ]
        with pytest.raises(Deferred, match="llm batch collect"):
            ask_stored(lake, config, question("a"))
        found = batches(lake, config, Batches.collect)
        assert (found.n_open, found.statuses) == (3, {})
        states = batches(lake, config, Batches.states)
    assert [said for _, said in states] == [
        "in_progress, 0 of 2 answered, 0 failed",
        "in_progress, 0 of 1 answered, 0 failed",
    ]


def test_refused_lines_become_replies_and_unanswered_ones_wait_again(lake):
    def ending(lines):
        by = {line["body"]["messages"][0]["content"]: line for line in lines}
        if "good" not in by:
            return everything(lines)
        return Ending(
            status="expired",
            output=[answer(by["good"]), answer(by["cut"], "half", finish_reason="length")],
            errors=[refused(by["bad"], 400, "no such schema"), expired(by["late"])],
        )

    requests = {text: question(text) for text in ("good", "cut", "bad", "late", "missing")}
    with BatchWire(ending) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, *requests.values())
        batches(lake, config, Batches.submit)
        found = batches(lake, config, Batches.collect)
        assert found.statuses == {"ok": 1, "truncated": 1, "http_error": 1}
        assert found.n_again == 2
        assert found.problems == [
            "batch batch-0: expired, 2 of 5 answered, 2 failed; 2 requests wait again"
        ]
        rows = {row["key"]: row for row in lake.rows("replies")}
        bad = rows[requests["bad"].key("openai/m")]
        assert (bad["status"], bad["reason"]) == ("http_error", "400: no such schema")
        (again,) = batches(lake, config, Batches.submit)
        assert again.n == 2
        assert batches(lake, config, Batches.collect).statuses == {"ok": 2}
    replies, _ = ask_stored(lake, config, *(requests[text] for text in ("good", "late", "missing")))
    assert [reply.text for reply in replies] == ["[1, 0]", "late", "missing"]


def test_batch_that_is_refused_as_a_whole_is_told_and_its_requests_wait(lake):
    with BatchWire(lambda lines: Ending(status="failed", said="line 1: too long")) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())
        batches(lake, config, Batches.submit)
        found = batches(lake, config, Batches.collect)
        assert found.n_again == 1
        assert "failed, 0 of 1 answered, 0 failed: line 1: too long" in found.problems[0]
        assert len(batches(lake, config, Batches.submit)) == 1


def test_batch_made_just_before_a_kill_is_found_again_and_not_made_twice(lake):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())
        wire.fail_after_create = True

        async def killed(opened):
            opened._access = lambda target, own=opened._access: own(target) | {"max_retries": 0}
            await opened.submit()

        with pytest.raises(LakeError, match="nothing is lost, run it again"):
            batches(lake, config, killed)
        assert len(wire.batches) == 1
        assert batches(lake, config, Batches.submit) == []
        assert batches(lake, config, Batches.collect).statuses == {"ok": 1}
        assert len(wire.batches) == 1


def test_batch_that_never_reached_the_provider_is_sent_again(lake):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())

        async def killed(opened):
            async def nothing(*_):
                raise KeyboardInterrupt

            opened._send = nothing
            await opened.submit()

        with pytest.raises(KeyboardInterrupt):
            batches(lake, config, killed)
        assert wire.batches == {}
        assert len(batches(lake, config, Batches.submit)) == 1
        assert batches(lake, config, Batches.collect).statuses == {"ok": 1}


def test_collection_cut_short_is_finished_by_the_next_and_costs_once(lake):
    requests = [question(str(i)) for i in range(4)]
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route(), budget_usd=100.0)
        gather(lake, config, *requests)
        batches(lake, config, Batches.submit)

        async def killed(opened):
            def stop(*_):
                raise KeyboardInterrupt

            opened._book.done = stop
            await opened.collect()

        with pytest.raises(KeyboardInterrupt):
            batches(lake, config, killed)
        batches(lake, config, Batches.collect)

        async def spent(opened):
            return opened._ledger.spent

        booked = batches(lake, config, spent)
    rows = lake.rows("replies")
    assert len(rows) == 4
    assert booked.usd == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert booked.tokens == 4 * 15


def test_open_batch_counts_against_the_budget_of_every_process(lake):
    with BatchWire(lambda lines: Ending(status="in_progress")) as wire:
        config = ChatConfig(explainer=wire.route(), budget_usd=1.0)
        gather(lake, config, question("a"))
        batches(lake, config, Batches.submit)
        gather(lake, config, question("b"))
        with pytest.raises(BudgetStopped, match=r"chat\.budget_usd = 1: 0\.5\d+ spent"):
            batches(lake, config, Batches.submit)
        (reply,), _ = ask_stored(lake, config, question("c"))
    assert reply.status == "budget_stopped"
    assert len(wire.batches) == 1


def test_route_without_batch_files_is_said_so(lake):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route(model="hosted_vllm/m"))
        gather(lake, config, question())
        with pytest.raises(ConfigError, match=r"chat\.judge\.deployments: none has batch files"):
            batches(lake, config, Batches.submit)


def test_stored_replies_are_not_gathered(lake):
    route = RouteConfig(deployments=(Deployment(model="openai/m"),))
    config = ChatConfig(explainer=route)
    ask_stored(lake, config, question("a"), chat=ScriptedChat(lambda r: "known", "openai/m"))
    assert gather(lake, config, question("a"), question("b")) == 1
