"""Batch files over a real wire: nothing is bought twice, what failed is told, nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import sqlite3

import pytest

from lakeinterp import cli
from lakeinterp.chat import Reply, ScriptedChat, open_chat
from lakeinterp.chat.batch import Batches, open_batches
from lakeinterp.chat.batchbook import FILE, BatchBook
from lakeinterp.chat.gather import gathering
from lakeinterp.chat.store import folder_of
from lakeinterp.config import ChatConfig, Deployment, RouteConfig
from lakeinterp.errors import BudgetStopped, ConfigError, Deferred, LakeError
from tests.chat.batchwire import BatchWire, Ending, answer, expired, refused
from tests.chat.helpers import ask_stored, question

# LiteLLM may make a client in a thread of its own after the call is over; its socket is collected.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <socket\.socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <socket:ResourceWarning",
)


@pytest.fixture(autouse=True)
def _collected():
    """Leave no such socket to the tests that follow."""
    yield
    gc.collect()


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


def asked(wire, batch):
    """Return the questions that are in a batch's file."""
    return [line["body"]["messages"][0]["content"] for line in wire.lines(batch.remote)]


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
        assert asked(wire, second) == ["c"]
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


def test_reply_that_came_another_way_meanwhile_is_not_bought_again(lake):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question("a"), question("b"))
        ask_stored(lake, config, question("a"), chat=ScriptedChat(lambda r: "known", "openai/m"))
        (batch,) = batches(lake, config, Batches.submit)
        assert asked(wire, batch) == ["b"]
        assert batches(lake, config, Batches.collect).statuses == {"ok": 1}
        gather(lake, config, question("c"))
        ask_stored(lake, config, question("c"), chat=ScriptedChat(lambda r: "known", "openai/m"))
        assert batches(lake, config, Batches.submit) == []


def test_request_that_another_process_asks_now_is_left_to_it(lake):
    async def both(config):
        answer = asyncio.Event()

        async def wait(request):
            await answer.wait()
            return Reply(key="", status="ok", text="known")

        wait.model = lambda route: "openai/m"
        async with open_chat(lake, config, chat=wait) as chat:
            asking = asyncio.create_task(chat(question("a")))
            await asyncio.sleep(0.1)
            async with open_batches(lake, config) as opened:
                (batch,) = await opened.submit()
                with pytest.raises(Deferred):  # the book came after the chat was opened
                    await chat(question("b"))
            answer.set()
            await asking
        return batch

    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question("a"), question("b"))
        assert asked(wire, asyncio.run(both(config))) == ["b"]
        assert batches(lake, config, Batches.submit) == []


def test_two_submits_at_once_send_each_request_once(lake):
    async def both(config):
        async with open_batches(lake, config) as one, open_batches(lake, config) as other:
            return [*await asyncio.gather(one.submit(), other.submit()), one._ledger.spent]

    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route(), budget_usd=100.0)
        gather(lake, config, *(question(str(i)) for i in range(30)))
        one, other, spent = asyncio.run(both(config))
        sent = [text for batch in (*one, *other) for text in asked(wire, batch)]
        assert sorted(sent, key=int) == [str(i) for i in range(30)]
        assert batches(lake, config, Batches.collect).statuses == {"ok": 30}
    assert spent.usd == pytest.approx(sum(batch.most_usd for batch in (*one, *other)))


def test_batch_that_is_not_begun_holds_no_money(lake):
    async def overtaken(opened):
        def begin(*_, **__):
            raise LakeError("another process is sending the same requests")

        opened._book.begin = begin
        with pytest.raises(LakeError, match="another process"):
            await opened.submit()
        return opened._ledger.spent, opened._ledger._holds

    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route(), budget_usd=100.0)
        gather(lake, config, question())
        assert batches(lake, config, overtaken) == ((0.0, 0), {})
        assert len(batches(lake, config, Batches.submit)) == 1


def test_batch_that_a_living_process_is_sending_is_left_to_it(lake):
    async def both(config):
        async with open_batches(lake, config) as one:
            sending, may_send = one._send, asyncio.Event()

            async def slowly(*given):
                await may_send.wait()
                return await sending(*given)

            one._send = slowly
            submitting = asyncio.create_task(one.submit())
            await asyncio.sleep(0.1)
            async with open_batches(lake, config) as other:
                found, ((batch, said),) = await other.collect(), await other.states()
                assert await other.submit() == []
            assert (found.n_open, found.n_again, found.problems) == (1, 0, [])
            assert (batch.remote, said) == (None, "another process is sending it")
            may_send.set()
            return await submitting

    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())
        (batch,) = asyncio.run(both(config))
        assert batch.remote == "batch-0"
        assert batches(lake, config, Batches.collect).statuses == {"ok": 1}
        assert len(wire.batches) == 1


def test_status_names_a_batch_that_is_not_sent_yet(lake, capsys):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())
        own = BatchBook(folder_of(lake, config) / FILE)
        keys = [key for key, _, _ in own.waiting()]
        deployment = config.explainer.deployments[0]
        values = {"model": deployment.model, "deployment": deployment.digest()}
        own.begin(keys, **values, most_usd=None, most_tokens=1)
        (price,) = {deployment.input_cost_per_token}
        route = f'{{deployments = [{{model = "{deployment.model}", api_base = '
        route += f'"{deployment.api_base}", input_cost_per_token = {price}, '
        route += f"output_cost_per_token = {deployment.output_cost_per_token}}}]}}"
        command = ["llm", "batch", "status", "--lake", lake.root]
        assert cli.run([*command, "--set", f"chat.explainer={route}"]) == 0
        own.close()
    said = capsys.readouterr().out
    assert said.startswith("not sent yet  ")
    assert "another process is sending it" in said


def test_book_of_an_earlier_version_is_read_and_its_lost_batch_found(lake):
    with BatchWire(everything) as wire:
        config = ChatConfig(explainer=wire.route())
        gather(lake, config, question())
        batches(lake, config, Batches.submit)
        con = sqlite3.connect(folder_of(lake, config) / FILE)
        con.execute("UPDATE batches SET remote = NULL")
        con.execute("ALTER TABLE batches DROP COLUMN submitter")
        con.commit()
        con.close()
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


@pytest.mark.parametrize("what", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches"])
def test_batch_files_and_keys_are_taken_to_no_other_address(lake, what, monkeypatch):
    monkeypatch.setenv("TEAM", "team-secret")
    with BatchWire(everything) as wire, BatchWire(everything) as other:
        config = ChatConfig(explainer=wire.route(headers_env={"X-Team": "TEAM"}))
        gather(lake, config, question())
        elsewhere = other.route().deployments[0].api_base
        wire.moved = (what, elsewhere)
        if what.startswith("GET"):
            batches(lake, config, Batches.submit)
        work = Batches.collect if what.startswith("GET") else Batches.submit
        with pytest.raises(LakeError, match=r"sends on to another .* api_base of .*\[0\]"):
            batches(lake, config, work)
        wire.moved = None
        batches(lake, config, Batches.submit)
        wire.moved = ("GET /v1/files", elsewhere)
        with pytest.raises(LakeError, match="the address sends on to another one"):
            batches(lake, config, Batches.collect)
        assert other.n_requests == 0
        wire.moved = None
        assert batches(lake, config, Batches.collect).statuses == {"ok": 1}


def test_clients_of_azures_batch_files_follow_no_redirect(litellm):
    from litellm.batches.main import azure_batches_instance
    from litellm.files.main import azure_files_instance

    for api in (azure_files_instance, azure_batches_instance):
        client = api.get_azure_openai_client(
            api_key="k", api_base="http://127.0.0.1:1", api_version="2024-10-21", _is_async=True
        )
        assert client._client.follow_redirects is False
