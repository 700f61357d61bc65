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
    TokenLogprobs,
)
from lakeinterp.chat import store as stores
from lakeinterp.chat.journal import Journal
from lakeinterp.chat.replies import row_of
from lakeinterp.chat.store import journal_folder
from lakeinterp.lake import Lake
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire


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


def test_move_ends_although_more_comes_in_and_leaves_that_for_the_next(lake):
    async def whole():
        store = ReplyStore(lake)
        for text in "ab":
            await store.put(question(text), a_reply(question(text)))
        write = lake.store.write_parquet

        def slow_write(*given, **values):
            request = question(str(len(lake.files("replies"))))
            store._journal.put([row_of(request, a_reply(request))])
            return write(*given, **values)

        lake.store.write_parquet = slow_write
        assert (store.move(), store.move()) == (2, 1)
        lake.store.write_parquet = write
        await store.aclose()

    asyncio.run(whole())
    assert len(lake.rows("replies")) == 4


def fails(problem):
    def move():
        raise problem

    return move


def test_move_that_failed_on_the_way_is_told_and_made_good_by_the_next(lake, monkeypatch, caplog):
    monkeypatch.setattr(stores, "MOVE_ROWS", 1)

    async def whole():
        store = ReplyStore(lake)
        move, store.move = store.move, fails(OSError("no route to the lake"))
        await store.put(question("a"), a_reply(question("a")))
        await asyncio.wait({store._mover})
        store.move = move
        await store.put(question("b"), a_reply(question("b")))
        await asyncio.wait({store._mover})
        assert len(lake.rows("replies")) == 2
        await store.aclose()

    asyncio.run(whole())
    assert "stay in the journal for now, and are moved later: no route to the lake" in caplog.text


def test_fault_of_ours_in_a_move_ends_the_run_and_loses_nothing(lake, monkeypatch):
    monkeypatch.setattr(stores, "MOVE_ROWS", 1)

    async def whole():
        store = ReplyStore(lake)
        move, store.move = store.move, fails(ZeroDivisionError())
        await store.put(question("a"), a_reply(question("a")))
        await asyncio.wait({store._mover})
        with pytest.raises(ZeroDivisionError):
            await store.put(question("b"), a_reply(question("b")))
        store._mover = asyncio.create_task(asyncio.to_thread(store.move))
        await asyncio.wait({store._mover})
        store.move = move
        with pytest.raises(ZeroDivisionError):
            await store.aclose()

    asyncio.run(whole())
    assert len(lake.rows("replies")) == 2


def test_reply_that_another_machine_wrote_is_seen_soon_and_looked_for_seldom(lake, tmp_path):
    async def whole():
        here, there = ReplyStore(lake, tmp_path / "here"), ReplyStore(lake, tmp_path / "there")
        keys = [question(text).key("m") for text in "ab"]
        assert await here.get(keys[0]) is None
        for text in "ab":
            await there.put(question(text), a_reply(question(text)))
        await asyncio.to_thread(there.move)
        looks, version = [], lake.version
        lake.version = lambda name: looks.append(name) or version(name)
        assert await here.get(keys[0]) is None  # it looked a moment ago
        here._looked -= stores.LOOK_S
        assert None not in [await here.get(key) for key in (*keys, *keys)]
        assert await here.get(question("c").key("m")) is None
        assert looks == ["replies"]
        await here.aclose()
        await there.aclose()

    asyncio.run(whole())


@pytest.mark.parametrize("is_moved", [True, False])
def test_cost_of_a_failure_that_may_be_billed_stays_with_the_reply_that_replaces_it(lake, is_moved):
    failed = {"status": "timeout", "text": None, "cost_usd": None, "cost_state": "unknown"}
    free = {"status": "http_error", "text": None, "cost_usd": 0.0, "cost_state": "free"}

    async def whole():
        store = ReplyStore(lake)
        for text, before in (("a", failed), ("b", free)):
            await store.put(question(text), a_reply(question(text), **before))
        if is_moved:
            store.move()
        for text in "ab":
            await store.put(question(text), a_reply(question(text)))
        await store.aclose()

    asyncio.run(whole())
    found = {row["key"]: (row["cost_usd"], row["cost_state"]) for row in lake.rows("replies")}
    assert found == {
        question("a").key("m"): (0.5, "unknown"),
        question("b").key("m"): (0.5, "priced"),
    }


def test_names_that_are_no_text_do_not_stick_in_the_journal(lake):
    body = {"choices": [{"message": {"role": "assistant", "content": "x"}}], "model": 5}
    raw = [json.dumps(body | {"model": model}).encode() for model in (5, "m\ud800")]
    with Wire(lambda body: Answer(body=raw.pop())) as wire:
        for text in "ab":
            ask_stored(lake, settings(wire), question(text))
    assert {row["model_served"] for row in lake.rows("replies")} == {"5", "m\ufffd"}


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
    truth, states = {}, ["ok", "refused", "timeout"]
    for _ in range(6):
        some = dice.sample(requests, 15)
        replies = [
            a_reply(r, text=str(dice.random()), status=dice.choice(states), cost_usd=0.0)
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
