"""Replies are durable, moved once, found again, and never bought twice."""

import asyncio
import json
import random
import sqlite3
from dataclasses import replace
from functools import partial

import pytest

from lakeinterp.chat import (
    Message,
    Reply,
    ReplyStore,
    Request,
    ScriptedChat,
    StoredChat,
    TokenLogprobs,
)
from lakeinterp.chat import store as stores
from lakeinterp.chat.journal import Journal
from lakeinterp.chat.store import journal_folder
from lakeinterp.config import ChatConfig
from lakeinterp.lake import Lake
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire, error


def a_reply(request, **values):
    """Return a reply with every field set."""
    full = {
        "status": "ok",
        "text": "y\x00é\u2028",
        "logprobs": (TokenLogprobs(token="y", logprob=-0.5, top=(("y", -0.5), ("n", -1.0))),),
        "finish_reason": "stop",
        "model_requested": "m",
        "model_served": "m-1",
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "cost_usd": 0.5,
        "cost_state": "priced",
        "latency_s": 0.25,
        "attempts": 2,
    }
    return Reply(key=request.key("m"), **(full | values))


def run(lake, work):
    """Run `work(store)` on an open store."""

    async def whole():
        store = ReplyStore(lake)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(whole())


def test_reply_is_found_unchanged_in_the_journal_and_in_the_table(lake):
    request = question("q\x00")
    reply = a_reply(request)

    async def keep(store):
        await store.put(request, reply)
        return await store.get(reply.key)

    async def find(store):
        return await store.get(reply.key)

    assert run(lake, keep) == reply
    (row,) = lake.rows("replies")
    assert (row["key"], row["route"], row["text"]) == (reply.key, "judge", reply.text)
    assert json.loads(row["request"]) == request.as_json()
    assert run(lake, find) == reply


@pytest.mark.parametrize("status", ["http_error", "timeout", "budget_stopped"])
def test_passing_failure_is_a_row_and_a_miss_until_a_reply_replaces_it(lake, status):
    request = question()
    failed = a_reply(request, status=status, text=None, reason="no luck")

    run(lake, lambda store: store.put(request, failed))
    assert [r["status"] for r in lake.rows("replies")] == [status]
    assert run(lake, lambda store: store.get(failed.key)) is None
    run(lake, lambda store: store.put(request, a_reply(request)))
    assert [r["status"] for r in lake.rows("replies")] == ["ok"]


def test_passing_failure_never_replaces_a_reply(lake):
    request = question()
    failed = a_reply(request, status="timeout", text=None)
    run(lake, lambda store: store.put(request, a_reply(request)))
    run(lake, lambda store: store.put(request, failed))
    assert [r["status"] for r in lake.rows("replies")] == ["ok"]

    async def both(store):
        await store.put(question("2"), a_reply(question("2")))
        return await store.put(question("2"), a_reply(question("2"), status="timeout", text=None))

    assert run(lake, both).status == "ok"


def test_second_process_sees_what_the_first_keeps_and_moves(lake):
    requests = [question(str(i)) for i in range(20)]
    keys = [r.key("m") for r in requests]

    async def whole():
        first, second = ReplyStore(lake), ReplyStore(lake)
        assert await second.get(keys[0]) is None
        await asyncio.gather(*(first.put(r, a_reply(r)) for r in requests))
        assert None not in await asyncio.gather(*(second.get(k) for k in keys))
        first.move()
        assert None not in await asyncio.gather(*(second.get(k) for k in keys))
        second.move()
        await first.aclose()
        await second.aclose()

    asyncio.run(whole())
    assert sorted(r["key"] for r in lake.rows("replies")) == sorted(keys)


def test_crash_between_commit_and_deletion_loses_and_doubles_nothing(lake):
    requests = [question(str(i)) for i in range(5)]

    async def keep(store):
        for request in requests:
            await store.put(request, a_reply(request))

    run(lake, keep)
    before = lake.rows("replies")
    journal = Journal(journal_folder(lake))
    journal.put([dict(row) for row in before])  # as if the deletion had not happened
    journal.close()
    run(lake, lambda store: store.get(requests[0].key("m")))
    assert lake.rows("replies") == before


def test_many_batches_are_moved_in_order(lake, monkeypatch):
    monkeypatch.setattr(stores, "MOVE_ROWS", 7)
    requests = [question(str(i)) for i in range(40)]

    async def keep(store):
        await asyncio.gather(*(store.put(r, a_reply(r)) for r in requests))

    run(lake, keep)
    assert len(lake.rows("replies")) == 40
    assert len(Journal(journal_folder(lake))) == 0


def test_moving_new_replies_reads_none_that_were_moved_before(lake):
    async def whole():
        store = ReplyStore(lake)
        await store.put(question("a"), a_reply(question("a")))
        store.move()
        assert await store.get(question("b").key("m")) is None
        (file,) = lake.files("replies")
        with open(file, "wb"):
            pass
        await store.put(question("b"), a_reply(question("b")))
        assert store.move() == 1
        await store.aclose()

    asyncio.run(whole())
    assert len(lake.files("replies")) == 2


class Overtaken(Lake):
    """A lake where another machine's move comes between looking and committing, once."""

    other = None

    def publish(self, *args, **values):
        if self.other is not None:
            other, self.other = self.other, None
            other.move()
        return super().publish(*args, **values)


def test_two_machines_that_move_at_one_time_keep_one_reply_a_key(tmp_path):
    slow, fast = Overtaken(str(tmp_path / "lake")), Lake(str(tmp_path / "lake"))
    shared, mine = question("shared"), question("mine")

    async def whole():
        here, there = ReplyStore(slow, tmp_path / "here"), ReplyStore(fast, tmp_path / "there")
        await there.put(shared, a_reply(shared, text="first"))
        await here.put(shared, a_reply(shared, text="second"))
        await here.put(mine, a_reply(mine))
        slow.other = there
        here.move()
        await here.aclose()
        await there.aclose()

    asyncio.run(whole())
    found = {row["key"]: row["text"] for row in fast.rows("replies")}
    assert len(fast.rows("replies")) == len(found) == 2
    assert found[shared.key("m")] == "first"


async def put_all(pairs, store):
    for request, reply in pairs:
        await store.put(request, reply)


def test_lookups_agree_with_a_dictionary_over_many_files(lake):
    dice = random.Random(4)
    requests = [question(str(i)) for i in range(60)]
    truth = {}
    for _ in range(6):
        some = dice.sample(requests, 15)
        replies = [
            a_reply(r, text=str(dice.random()), status=dice.choice(["ok", "refused", "timeout"]))
            for r in some
        ]

        run(lake, partial(put_all, list(zip(some, replies, strict=True))))
        for reply in replies:
            if truth.get(reply.key, reply).status == "timeout" or reply.key not in truth:
                truth[reply.key] = reply

    async def find(store):
        return await asyncio.gather(*(store.get(r.key("m")) for r in requests))

    expected = [truth.get(r.key("m")) for r in requests]
    final = [r if r is not None and r.status != "timeout" else None for r in expected]
    assert run(lake, find) == final
    assert len(lake.rows("replies")) == len(truth)


def test_memory_holds_keys_and_no_texts(lake):
    requests = [question(str(i)) for i in range(300)]

    async def keep(store):
        await asyncio.gather(*(store.put(r, a_reply(r, text="x" * 10_000)) for r in requests))

    run(lake, keep)

    async def size(store):
        assert await store.get("0" * 32) is None
        return sum(known.nbytes for known in store._index._prefixes.values())

    assert run(lake, size) == 8 * 300


def test_remote_lake_has_its_journal_in_the_users_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, other = Lake("s3://one/lake"), Lake("s3://other/lake")
    assert journal_folder(one).parent == tmp_path / "lakeinterp"
    assert journal_folder(one) != journal_folder(other)


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


def test_repeats_are_bought_each(lake):
    with Wire(lambda body: "x") as wire:
        ask_stored(lake, settings(wire), *(question("same", repeat=i) for i in range(3)))
        assert wire.n_requests == 3


def test_reply_of_a_cancelled_caller_is_kept(lake):
    from lakeinterp.chat import open_chat

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
    from lakeinterp.chat import open_chat

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


def test_keys_tell_everything_apart_that_changes_a_reply():
    base = question()
    others = [
        question("else"),
        question(max_tokens=51),
        question(temperature=0.1),
        question(seed=1),
        question(schema={}),
        question(top_logprobs=1),
        question(repeat=1),
        replace(base, messages=(Message(role="system", content="what?"),)),
    ]
    keys = [request.key("m") for request in [base, *others]] + [base.key("n")]
    assert len(set(keys)) == len(keys)
    assert base.key("m") == Request(**{f: getattr(base, f) for f in base.__slots__}).key("m")
    assert base.key("m") == replace(base, route="explainer").key("m")


def test_journal_syncs_every_commit(lake):
    store = ReplyStore(lake)
    con = store._journal._con
    assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert con.execute("PRAGMA synchronous").fetchone() == (2,)
    asyncio.run(store.aclose())
    with pytest.raises(sqlite3.ProgrammingError):
        len(store._journal)


def test_broken_write_reaches_the_caller_and_nothing_is_claimed(lake):
    async def whole():
        store = ReplyStore(lake)
        store._journal._con.execute("DROP TABLE replies")
        chat = StoredChat(ScriptedChat(lambda request: "x"), store, lambda route: "m")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await chat(question())
        store._journal.close()

    asyncio.run(whole())
