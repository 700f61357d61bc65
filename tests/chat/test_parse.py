"""Reading replies: every usual form is understood, and nothing of the wrong shape gets through."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakeinterp.chat import parse_field, parse_json, parse_labels
from lakeinterp.errors import UnparsableReply

LABELS = {
    "list": "[1, 0, 1]",
    "spaces": "  [ 1,0 , 1 ]\n",
    "words": '["yes", "No", "TRUE"]',
    "booleans": "[true, false, true]",
    "Python": "[True, False, True]",
    "single quotes": "['yes', 'no', 'yes']",
    "bare words in brackets": "[yes, no, yes]",
    "floats": "[1.0, 0.0, 1.0]",
    "strings": '["1", "0", "1"]',
    "object": '{"labels": [1, 0, 1]}',
    "reasoning first": '{"reasoning": "a [0, 0, 0] b", "labels": [true, false, true]}',
    "answers": '{"answers": [1, 0, 1]}',
    "predictions": '{"predictions": ["1", "0", "1"]}',
    "result": '{"result": [1, 0, 1]}',
    "nested": '{"result": {"1": 1, "2": 0, "3": 1}}',
    "numbered object": '{"1": true, "3": true, "2": false}',
    "numbered from zero": '{"0": 1, "1": 0, "2": 1}',
    "named object": '{"example_1": "yes", "example_2": "no", "example_3": "yes"}',
    "objects": '[{"id": 2, "label": 0}, {"id": 1, "label": 1}, {"id": 3, "label": 1}]',
    "objects without numbers": '[{"answer": true}, {"answer": false}, {"answer": true}]',
    "fenced": "Sure!\n```json\n[1, 0, 1]\n```\nAnything else?",
    "fenced without a language": '```\n{"labels": [1, 0, 1]}\n```',
    "over lines": "[\n  1,\n  0,\n  1\n]",
    "chatty": "I looked at them all. My answer is [1, 0, 1]. Have a nice day!",
    "bare": "1, 0, 1",
    "bare with a name": "Labels: 1, 0, 1",
    "bare words": "yes no yes",
    "bold": "**1, 0, 1**",
    "numbered lines": "1. yes\n2. no\n3. yes",
    "numbered with reasons": "Example 1: 1 - names a cat\nExample 2: 0 because not\nExample 3: 1",
    "numbered in bold": "**Example 1:** Yes\n**Example 2:** No\n**Example 3:** Yes",
    "brackets": "1) true\n2) false\n3) true",
    "thinking": "<think>maybe [0, 0, 0]? or 1, 1, 1</think>\n[1, 0, 1]",
    "thought aloud": "1. yes\n2. yes\n3. yes\nOn reflection:\n[1, 0, 1]",
    "two answers": "[0, 0, 0] was my first idea, but it is [1, 0, 1]",
    "lists of reasons": "[1] and [2] are sources. [1, 0, 1]",
    "run on": "[1, 0, 1]\n\nExample 2:\nText: cat [sic]\nThat one I leave out.",
    "run on with an answer": "[1, 0, 1]\n\nDescription: dogs\n\nTexts:\n\n1: a dog\n\n[0, 0, 1]",
    "run on with JSON": '{"labels": [1, 0, 1]}\nTexts:\n1: x\n{"labels": [1, 1, 1]}',
    "checked one by one": "[1, 1, 1]\nExample 2: no cat in it, so 0\nSo: [1, 0, 1]",
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_are_read_in_every_usual_form(form):
    assert parse_labels(LABELS[form], 3) == [True, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "I cannot help with that.",
        "[1, 0]",
        "[1, 0, 1, 0]",
        "[]",
        "[1, 2, 3]",
        "[1, null, 0]",
        "[[1, 0, 1]]",
        '{"labels": [1, 0]}',
        '{"labels": "1, 0"}',
        '{"1": 1, "2": 0, "4": 1}',
        '{"1": 1, "2": 0, "2 ": 1}',
        "1. yes\n2. no",
        "1. yes\n2. no\n3. yes\n4. yes",
        "1. yes\n3. no\n4. yes",
        "2, 5, 7",
        "1, 0, 1, 0",
        "[\n1,\n0\n]",
        "<think>[1, 0, 1]",
        "[1, 0, 1",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" + "9" * 5000 + "]",
    ],
)
def test_labels_of_another_length_or_kind_are_refused(text):
    with pytest.raises(UnparsableReply, match=r"expected 3 labels|empty|thinking") as caught:
        parse_labels(text, 3)
    assert caught.value.text == text


def test_list_of_the_wrong_length_is_not_mistaken_for_its_last_line():
    with pytest.raises(UnparsableReply, match="expected 1 labels, the reply holds 2"):
        parse_labels("[\n1,\n0\n]", 1)


PIECES = st.sampled_from(
    [
        *LABELS.values(),
        "[",
        "]",
        "{",
        "}",
        "```",
        "```json\n",
        '"',
        "1",
        "0",
        ", ",
        ": ",
        "\n",
        "yes",
        "labels",
        "Example 2: ",
        "<think>",
        "</think>",
        "[EXPLANATION]: ",
        "NaN",
        "\ud800",
        "\x00",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(TEXTS, st.integers(1, 6))
@example('{"1": "\u0661"}', 1)
def test_whatever_the_reply_labels_are_exactly_n_or_refused(text, n):
    try:
        labels = parse_labels(text, n)
    except UnparsableReply:
        return
    assert len(labels) == n
    assert all(type(label) is bool for label in labels)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(TEXTS)
def test_whatever_the_reply_other_readers_give_a_value_or_refuse(text):
    for read in (parse_json, lambda t: parse_field(t, "explanation")):
        try:
            value = read(text)
        except UnparsableReply:
            continue
        json.dumps(value)
        assert value != "" or read is parse_json


WRAPPERS = [
    "{}",
    "```json\n{}\n```",
    "Sure, here it is: {} Bye.",
    "<think>[1]</think>{}",
    "\n\n{}\n",
]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.sampled_from(WRAPPERS),
    st.sampled_from(["list", "object", "numbered", "items", "words"]),
)
def test_labels_survive_every_wrapping(labels, wrapper, form):
    value = {
        "list": [int(x) for x in labels],
        "object": {"why": "because", "labels": labels},
        "numbered": {str(i): x for i, x in enumerate(labels, 1)},
        "items": [{"example": i, "label": int(x)} for i, x in enumerate(labels, 1)],
        "words": ["yes" if x else "no" for x in labels],
    }[form]
    assert parse_labels(wrapper.format(json.dumps(value)), len(labels)) == labels


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("true", True),
        ('```json\n{"a": 2}\n```', {"a": 2}),
        ('first\n```\n{"a": 1}\n```\nbetter\n```\n{"a": 2}\n```', {"a": 2}),
        ('Well: {"a": [1, {"b": "}"}]} and {"c": 3}', {"a": [1, {"b": "}"}]}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
    ],
)
def test_json_is_found_where_it_stands(text, value):
    assert parse_json(text) == value


@pytest.mark.parametrize("text", ["", "no", "NaN", "{", '{"a": }', "[" * 100_000])
def test_text_without_json_is_refused(text):
    with pytest.raises(UnparsableReply):
        parse_json(text)


RUN_ON = """[EXPLANATION]: Growth and prices in one industry.

Example 2:  demand for <<chips>> will
[EXPLANATION]: Demand for chips.

Example 3:  <<4.98%.>> The <<rise>> in
[EXPLANATION]: Rising yields.

Note: The other examples show no pattern."""
FIELDS = {
    "JSON": ('{"explanation": "cats"}', "cats"),
    "JSON, other case": ('{"Explanation": " cats "}', "cats"),
    "fenced JSON": ('```json\n{"thoughts": "hm", "explanation": "cats"}\n```', "cats"),
    "two JSON": ('{"explanation": "dogs"} no: {"explanation": "cats"}', "cats"),
    "bracketed": ("[EXPLANATION]: cats", "cats"),
    "bracketed without a colon": ("[EXPLANATION]\ncats", "cats"),
    "plain": ("EXPLANATION: cats", "cats"),
    "bold": ("**Explanation:** cats", "cats"),
    "heading": ("### Explanation:\ncats", "cats"),
    "quoted": ('Explanation: "cats"', "cats"),
    "after steps": ("Step 1: look.\nStep 2: think.\n[EXPLANATION]: cats", "cats"),
    "before other headers": ("[EXPLANATION]: cats [NOTE]: and dogs", "cats"),
    "over two lines": ("[EXPLANATION]: cats\nand dogs", "cats and dogs"),
    "with brackets": ("[EXPLANATION]: the word [sic] after a name", "the word [sic] after a name"),
    "run on": (RUN_ON, "Growth and prices in one industry."),
    "thought again": ("[EXPLANATION]: dogs\n\nBetter:\n[EXPLANATION]: cats", "cats"),
    "examples first": ("Example 1: a cat\nExample 2: a cat\n[EXPLANATION]: cats", "cats"),
    "thinking": ("<think>[EXPLANATION]: dogs</think>[EXPLANATION]: cats", "cats"),
    "markup": ("[EXPLANATION]: <<b>> & <i>", "<<b>> & <i>"),
}


@pytest.mark.parametrize("form", FIELDS)
def test_field_is_read_in_every_usual_form(form):
    text, value = FIELDS[form]
    assert parse_field(text, "explanation") == value


@pytest.mark.parametrize(
    "text", ["", "cats", "[EXPLANATION]:", '{"explanation": ""}', '{"explanation": 3}', "<think>x"]
)
def test_reply_without_the_field_is_refused(text):
    with pytest.raises(UnparsableReply):
        parse_field(text, "explanation")
