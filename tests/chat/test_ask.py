"""Asking with a reader: one more try on an unreadable reply, statuses passed on, texts kept."""

import asyncio
from functools import partial

from lakeinterp.chat import Reply, ScriptedChat, ask, open_chat, parse_labels
from lakeinterp.config import ChatConfig
from tests.chat.helpers import question


def asked(*answers):
    """Ask for two labels of a chat that gives these answers; return the result and its requests."""
    left, requests = list(answers), []

    def answer(request):
        requests.append(request)
        return left.pop(0)

    result = asyncio.run(ask(ScriptedChat(answer), question(), partial(parse_labels, n=2)))
    return result, requests


def test_readable_reply_is_asked_for_once():
    result, requests = asked("[1, 0]")
    assert (result.value, result.status, result.reason) == ([True, False], "ok", "")
    assert result.reply_keys == (result.reply.key,) == (requests[0].key("scripted"),)


def test_unreadable_reply_is_asked_for_once_more_with_the_error():
    result, requests = asked("[1, 0, 1]", "[0, 1]")
    assert result.value == [False, True]
    assert len(set(result.reply_keys)) == 2
    said = requests[1].messages
    assert said[0] == requests[0].messages[0]
    assert (said[1].role, said[1].content) == ("assistant", "[1, 0, 1]")
    assert "expected 2 labels, the reply holds 3" in said[2].content


def test_twice_unreadable_is_parse_failed_and_both_texts_are_kept(lake):
    async def whole():
        async with open_chat(lake, ChatConfig(), chat=ScriptedChat(lambda r: "no idea")) as chat:
            return await ask(chat, question(), partial(parse_labels, n=2))

    result = asyncio.run(whole())
    assert (result.value, result.status) == (None, "parse_failed")
    assert "expected 2 labels" in result.reason
    assert sorted(result.reply_keys) == [row["key"] for row in lake.rows("replies")]
    assert {row["text"] for row in lake.rows("replies")} == {"no idea"}


def test_failed_call_is_passed_on_and_not_repeated():
    failed = Reply(key="", status="timeout", text=None, reason="late")
    result, requests = asked(failed)
    assert (result.status, result.reason, len(requests)) == ("timeout", "late", 1)
    result, requests = asked("nothing", failed)
    assert (result.status, len(requests), len(result.reply_keys)) == ("timeout", 2, 2)


def test_truncated_reply_is_not_read():
    cut = Reply(key="", status="truncated", text="[1, 0]", reason="cut")
    result, _ = asked(cut)
    assert (result.value, result.status, result.reply.text) == (None, "truncated", "[1, 0]")
