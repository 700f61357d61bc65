"""Numbers in replies: forms that models write them in, and what is never read as one."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakeinterp.chat.numbers import parse_activations, parse_choice, parse_number
from lakeinterp.errors import UnparsableReply

CHOICES = {
    '{"intruder": 3}': 3,
    '```json\n{"intruder": 3}\n```': 3,
    '{"intruder": "3"}': 3,
    '{"intruder": "text 3"}': 3,
    '{"Intruder": 3, "reason": "the 2 others and the 4th are about 7 cats"}': 3,
    '{"answer": {"intruder": 3}}': 3,
    "3": 3,
    "3.": 3,
    "**3**": 3,
    "[3]": 3,
    "Text 3": 3,
    "Answer: 3": 3,
    "The intruder is 3.": 3,
    "[RESPONSE]: 3": 3,
    "The odd one out is text 3": 3,
    "Texts [1] and [2] are about cats.\nIntruder: 3": 3,
    "Only text 3 is about dogs.": 3,
    "<think>1? 2?</think>\n3": 3,
    'First I thought {"intruder": 1}, but:\n{"intruder": 3}': 3,
    '{"intruder": 3}\n\nTexts:\n1: a\n{"intruder": 5}': 3,
}
NO_CHOICES = [
    "",
    "none",
    "I cannot tell.",
    "text 1 or text 4",
    '{"intruder": 9}',
    '{"intruder": 0}',
    '{"intruder": -1}',
    '{"intruder": 1.5}',
    '{"intruder": [1, 2]}',
    '{"intruder": true}',
    '{"intruder": null}',
    "<think>it is 3",
    "50 % sure",
    "9",
]


@pytest.mark.parametrize(("text", "choice"), CHOICES.items())
def test_a_choice_is_read_in_every_usual_form(text, choice):
    assert parse_choice(text, 5, "intruder") == choice


@pytest.mark.parametrize("text", NO_CHOICES)
def test_what_names_no_single_item_is_no_choice(text):
    with pytest.raises(UnparsableReply):
        parse_choice(text, 5, "intruder")


ACTIVATIONS = {
    '{"activations": [{"token": 2, "activation": 7}]}': (0, 7, 0, 0),
    '{"activations": [{"token": "2", "activation": "7"}]}': (0, 7, 0, 0),
    '{"activations": []}': (0, 0, 0, 0),
    '{"activations": {}}': (0, 0, 0, 0),
    '{"activations": {"2": 7, "4": 1.5}}': (0, 7, 0, 1.5),
    '{"2": 7}': (0, 7, 0, 0),
    '{"activations": [0, 7, 0, 1]}': (0, 7, 0, 1),
    "[0, 7, 0, 1]": (0, 7, 0, 1),
    '[{"token": " a", "activation": 0}, {"token": " b", "activation": 7}, '
    '{"token": ",", "activation": 0}, {"token": " c", "activation": 1}]': (0, 7, 0, 1),
    "2: 7\n4: 1": (0, 7, 0, 1),
    "1: the: 0\n2: cat: 7\n": (0, 7, 0, 0),
    'Here:\n```json\n{"activations": [{"token": 2, "activation": 7}]}\n```': (0, 7, 0, 0),
    "[0, 0, 0, 0] at first, then [0, 7, 0, 1]": (0, 7, 0, 1),
}
NO_ACTIVATIONS = {
    "no idea": "no activations",
    "[0, 7, 0]": "expected 4 activations, the reply holds 3",
    '{"activations": [{"token": 5, "activation": 7}]}': "expected tokens from 1 to 4, found 5",
    '{"activations": [{"token": 0, "activation": 7}]}': "expected tokens from 1 to 4",
    '{"activations": [{"token": 2, "activation": 11}]}': "from 0 to 10, found 11",
    '{"activations": [{"token": 2, "activation": -1}]}': "from 0 to 10, found -1",
    '{"activations": [{"token": 2, "activation": "high"}]}': "found 'high'",
    '{"activations": [{"token": 2, "activation": {"a": 1}}]}': "found a dict",
    '{"activations": [{"token": 2, "activation": 1}, {"token": 2, "activation": 2}]}': "two",
    '{"activations": [0, 7, true, 1]}': "found True",
    '{"activations": [0, 7, NaN, 1]}': "found nan",
}


@pytest.mark.parametrize(("text", "values"), ACTIVATIONS.items())
def test_activations_are_read_in_every_usual_form(text, values):
    assert parse_activations(text, 4, 10) == values


@pytest.mark.parametrize(("text", "reason"), NO_ACTIVATIONS.items())
def test_activations_that_are_off_the_scale_or_out_of_step_are_refused(text, reason):
    with pytest.raises(UnparsableReply, match=reason):
        parse_activations(text, 4, 10)


@pytest.mark.parametrize(
    "text", ["7", "7.", " **7** ", '{"activation": 7}', "Activation: 7", "[7]"]
)
def test_one_number_is_read(text):
    assert parse_number(text, 9) == 7


@pytest.mark.parametrize("text", ["", "none", "7 or 8", "12", "-3", "70 %", "[7, 8]", "1e3"])
def test_no_number_two_or_one_off_the_scale_is_none(text):
    with pytest.raises(UnparsableReply):
        parse_number(text, 9)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["intruder", "answer", "activations", "token", "activation", "2", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
REPLIES = (
    st.text(max_size=60)
    | JSONS.map(json.dumps)
    | st.lists(
        st.sampled_from([*CHOICES, *ACTIVATIONS, *NO_CHOICES, "\n", ": ", "9", "{", "["]),
        max_size=5,
    ).map("".join)
)
DEEP = '{"answer": ' * 600 + "3" + "}" * 600
DEEP_LIST = '{"activations": ' * 600 + "[0, 1]" + "}" * 600


@settings(derandomize=True, deadline=None, max_examples=300)
@given(REPLIES, st.integers(1, 6))
@example(DEEP, 3)
@example(DEEP_LIST, 2)
@example("[" * 5000, 2)
@example("1: " * 5000, 2)
@example("9" * 5000, 2)
def test_any_text_gives_the_asked_shape_or_is_refused(text, n):
    readers = [
        (lambda: parse_choice(text, n, "intruder"), lambda v: v in range(1, n + 1)),
        (lambda: parse_number(text, 9), lambda v: 0 <= v <= 9),
        (
            lambda: parse_activations(text, n, 10),
            lambda v: len(v) == n and all(0 <= a <= 10 for a in v),
        ),
    ]
    for read, fits in readers:
        try:
            value = read()
        except UnparsableReply:
            continue
        assert fits(value)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=40))
def test_what_is_written_in_the_asked_form_is_read_back(values):
    named = [{"token": i, "activation": v} for i, v in enumerate(values, start=1) if v]
    text = json.dumps({"activations": named})
    assert parse_activations(f"Sure!\n{text}\n", len(values), 10) == tuple(values)
    assert parse_activations(json.dumps(values), len(values), 10) == tuple(values)
