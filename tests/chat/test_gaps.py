"""Reading the log-probabilities of a prompt at the gaps of its last message."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.chat.gaps import gaps_of
from lakeinterp.chat.replies import reply_from, row_of
from lakeinterp.chat.types import Message, Reply, Request


def request(*contents, gap="unknown"):
    roles = ["user", "assistant"] * len(contents)
    messages = tuple(Message(role=r, content=c) for r, c in zip(roles, contents, strict=False))
    return Request(route="judge", messages=messages, max_tokens=1, top_logprobs=5, gap=gap)


def entry(token, *likeliest):
    found = {"7": {"logprob": -9.0, "rank": 40, "decoded_token": token}}
    for i, (text, p) in enumerate(likeliest):
        found[str(100 + i)] = {"logprob": p, "rank": i + 1, "decoded_token": text}
    return found


def test_only_the_gaps_of_the_last_message_are_read():
    asked = request("what is unknown here?", "a\tunknown\nb\tunknown")
    found = [None]
    found += [entry(t, ("x", -0.5)) for t in ("<|user|>", "what is ", "unknown", " here?", "<|a|>")]
    found += [entry("a"), entry("\t"), entry("unknown", ("1", -0.1), (" 2", -0.2))]
    found += [entry("\nb\t"), entry("unk", ("3", -0.3)), entry("nown", ("4", -0.4)), entry("<|e|>")]
    first, second = gaps_of(found, asked)
    assert first == (("1", -0.1), ("2", -0.2), ("unknown", -9.0))
    assert second == (("3", -0.3), ("unk", -9.0))


def test_what_stands_before_the_gap_in_its_token_is_cut_from_the_alternatives():
    asked = request("?", "a|unknown")
    (gap,) = gaps_of([entry("a"), entry("|unknown", ("|5", -0.1), ("!5", -0.2))], asked)
    assert gap == (("5", -0.1), ("unknown", -9.0))


def test_what_does_not_fit_the_prompt_is_not_read():
    asked = request("?", "a\tunknown\nb\tunknown")
    assert gaps_of(None, asked) is None
    assert gaps_of([], asked) is None
    assert gaps_of([None, entry("a"), entry("unknown")], asked) is None
    assert gaps_of([entry("unknown"), entry("unknown")], request("?", "unknown", gap="")) is None


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.data())
def test_however_the_prompt_is_cut_into_tokens_the_gaps_are_found(data):
    pieces = data.draw(st.lists(st.text("ab, \n\tĠé", max_size=4), min_size=1, max_size=6))
    table = "\n".join(f"{piece}\tunknown" for piece in pieces)
    text = f"<s>tell me the unknown\n{table}</s>"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    bounds = [0, *cuts, len(text)]
    tokens = [text[a:b] for a, b in pairwise(bounds)]
    strip = data.draw(st.booleans())
    found = [entry(t.strip() if strip else t, ("5", -0.1)) for t in tokens]
    gaps = gaps_of(found, request("tell me the unknown", table))
    assert len(gaps) == len(pieces)


def test_gaps_are_kept_with_the_reply_and_make_another_request():
    asked = request("?", "a\tunknown")
    reply = Reply(key="k", status="ok", text="", gaps=((("5", -0.1), ("6", -0.2)),))
    row = row_of(asked, reply)
    assert reply_from(row).gaps == reply.gaps
    assert reply_from(row).logprobs is None
    assert json.loads(row["request"])["gap"] == "unknown"
    plain = request("?", "a\tunknown", gap="")
    assert "gap" not in plain.as_json()
    assert plain.key("m") != asked.key("m")
