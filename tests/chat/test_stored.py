"""The chat around the store: what is held is not asked again, what was bought is kept."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from lakeinterp.chat import Reply, ReplyStore, ScriptedChat, StoredChat, open_chat
from lakeinterp.chat.claims import Claims
from lakeinterp.chat.replies import row_of
from lakeinterp.config import ChatConfig
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire, error


def test_second_run_makes_no_request(lake):
    requests = [question(str(i)) for i in range(10)]
    with Wire(lambda body: body["messages"][0]["content"] * 2) as wire:
        first, _ = ask_stored(lake, settings(wire), *requests)
        assert wire.n_requests == 10
        second, stats = ask_stored(lake, settings(wire), *requests)
        assert wire.n_requests == 10
    assert second == first
    assert (stats.n_asked, stats.n_stored, stats.n_calls) == (10, 10, 0)


def test_refused_and_truncated_replies_are_final(lake):
    answers = {
        "r": Answer(text=None, refusal="no"),
        "t": Answer(text="half", finish_reason="length"),
    }
    requests = [question("r"), question("t")]
    with Wire(lambda body: answers[body["messages"][0]["content"]]) as wire:
        for _ in range(2):
            replies, _ = ask_stored(lake, settings(wire), *requests)
            assert [r.status for r in replies] == ["refused", "truncated"]
        assert wire.n_requests == 2


def test_failures_are_asked_again_by_the_next_run(lake):
    answers = [error(400), "now"]
    with Wire(lambda body: answers.pop(0)) as wire:
        (failed,), stats = ask_stored(lake, settings(wire), question())
        assert stats.failures == {"http_error": 1}
        (reply,), _ = ask_stored(lake, settings(wire), question())
    assert (failed.status, reply.status) == ("http_error", "ok")
    assert [row["status"] for row in lake.rows("replies")] == ["ok"]


def test_equal_requests_in_flight_make_one_call(lake):
    with Wire(lambda body: Answer(text="x", delay_s=0.1)) as wire:
        replies, stats = ask_stored(
            lake, settings(wire), *[question("same")] * 5, question("other")
        )
        assert wire.n_requests == 2
    assert len(set(replies[:5])) == 1
    assert (stats.n_calls, stats.n_joined, stats.statuses["ok"]) == (2, 4, 6)


def test_two_processes_on_the_same_work_buy_each_reply_once(lake):
    async def both(config):
        async with open_chat(lake, config) as one, open_chat(lake, config) as other:
            asked = [chat(question(str(i))) for i in range(12) for chat in (one, other)]
            return await asyncio.gather(*asked), one.stats, other.stats

    with Wire(lambda body: Answer(text="x", delay_s=0.05)) as wire:
        replies, *stats = asyncio.run(both(settings(wire)))
        assert wire.n_requests == 12
    assert {r.status for r in replies} == {"ok"}
    assert (sum(s.n_calls for s in stats), sum(s.n_stored for s in stats)) == (12, 12)


def test_who_waited_for_a_call_that_failed_asks_by_itself(lake):
    answers = [error(400), "yes"]

    async def both(config):
        async with open_chat(lake, config) as one, open_chat(lake, config) as other:
            return await asyncio.gather(one(question()), other(question()))

    with Wire(lambda body: answers.pop(0)) as wire:
        replies = asyncio.run(both(settings(wire)))
        assert wire.n_requests == 2
    assert sorted(r.status for r in replies) == ["http_error", "ok"]


def test_claim_of_a_dead_process_holds_nobody_up(tmp_path):
    dead, living = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert dead.take("a")
    assert not living.take("a")
    dead._presence.close()
    assert living.take("a")
    other = Claims(tmp_path / "claims")
    assert not other.take("a")
    living.close()
    assert other.take("a")
    other.close()
    dead.close()


class Collecting:
    """A book whose request is collected just when it is looked at."""

    def __init__(self, store, reply):
        self.store, self.reply = store, reply

    def is_awaited(self, key):
        self.store._journal.put([row_of(question(), replace(self.reply, key=key))])
        return False

    def close(self):
        """Nothing is open."""


def test_reply_that_is_collected_while_it_is_looked_for_is_not_bought(lake):
    scripted = ScriptedChat(lambda request: "bought")

    async def whole():
        async with open_chat(lake, ChatConfig(), chat=scripted) as chat:
            chat._book = Collecting(chat.store, Reply(key="", status="ok", text="collected"))
            return await chat(question())

    assert asyncio.run(whole()).text == "collected"
    assert scripted.n_calls == 0


def test_repeats_are_bought_each(lake):
    with Wire(lambda body: "x") as wire:
        ask_stored(lake, settings(wire), *(question("same", repeat=i) for i in range(3)))
        assert wire.n_requests == 3


def test_reply_of_a_cancelled_caller_is_kept(lake):
    async def whole(config):
        async with open_chat(lake, config) as chat:
            caller = asyncio.create_task(chat(question()))
            await asyncio.sleep(0.2)
            caller.cancel()

    with Wire(lambda body: Answer(text="paid", delay_s=0.5)) as wire:
        asyncio.run(whole(settings(wire)))
        assert wire.n_requests == 1
    assert [row["text"] for row in lake.rows("replies")] == ["paid"]


def test_error_inside_leaves_what_was_bought_in_the_lake(lake):
    async def whole(config):
        async with open_chat(lake, config) as chat:
            await chat(question())
            raise RuntimeError("elsewhere")

    with Wire(lambda body: "paid") as wire, pytest.raises(RuntimeError, match="elsewhere"):
        asyncio.run(whole(settings(wire)))
    assert [row["text"] for row in lake.rows("replies")] == ["paid"]


def test_scripted_chat_answers_and_its_replies_are_stored_like_any(lake):
    chat = ScriptedChat(lambda request: request.messages[-1].content.upper())
    for _ in range(2):
        (reply,), stats = ask_stored(lake, ChatConfig(), question("abc"), chat=chat)
        assert (reply.text, reply.cost_state, reply.cost_usd) == ("ABC", "free", 0.0)
    assert chat.n_calls == 1
    assert str(stats) == "0 calls, 1 from the lake, 0 tokens, $0.0000"


def test_scripted_chat_can_fail_on_purpose(lake):
    failed = Reply(key="", status="timeout", text=None, reason="script")
    (reply,), _ = ask_stored(
        lake, ChatConfig(), question(), chat=ScriptedChat(lambda request: failed)
    )
    assert reply == replace(failed, key=question().key("scripted"))


def test_broken_write_reaches_the_caller_and_nothing_is_claimed(lake):
    async def whole():
        store = ReplyStore(lake)
        store._journal._con.execute("DROP TABLE replies")
        chat = StoredChat(ScriptedChat(lambda request: "x"), store, lambda route: "m")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await chat(question())
        store._journal.close()

    asyncio.run(whole())
