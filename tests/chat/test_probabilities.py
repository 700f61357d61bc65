"""Probabilities of labels from log-probabilities, whatever the tokenizer."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.chat import Reply, TokenLogprobs, label_probabilities


def reply(text, tokens):
    """Return a reply whose tokens are texts, or (text, {alternative: probability})."""
    entries = []
    for token in tokens:
        said, top = token if isinstance(token, tuple) else (token, {token: 1.0})
        logs = tuple((t, math.log(p)) for t, p in top.items())
        entries.append(TokenLogprobs(token=said, logprob=dict(logs)[said], top=logs))
    return Reply(key="", status="ok", text=text, logprobs=tuple(entries))


YES, NO = {"1": 0.8, "0": 0.2}, {"0": 0.9, "1": 0.1}


def choices(before, probabilities):
    return {before + label: p for label, p in probabilities.items()}


FORMS = {
    "labels alone": ("[1, 0]", ["[", ("1", YES), ",", " ", ("0", NO), "]"]),
    "with a space": ("[1, 0]", ["[", ("1", YES), ",", (" 0", choices(" ", NO)), "]"]),
    "with a bracket": ("[1, 0]", [("[1", choices("[", YES)), ",", (" 0", choices(" ", NO)), "]"]),
    "with a comma": ("[1,0]", ["[", ("1", YES), (",0", choices(",", NO)), "]"]),
    "GPT-2's marks": ("[1, 0]", ["[", ("1", YES), ",", ("Ġ0", choices("Ġ", NO)), "]"]),
    "sentencepiece": ("1 0", [("▁1", choices("▁", YES)), ("▁0", choices("▁", NO))]),
    "bytes": (
        "[1, 0]",
        ["[", ("<0x31>", {"<0x31>": 0.8, "<0x30>": 0.2}), ", ", ("0", NO), "]"],
    ),
    "OpenAI's bytes": (
        "[1, 0]",
        ["[", (r"bytes:\x31", {r"bytes:\x31": 0.8, r"bytes:\x30": 0.2}), ", ", ("0", NO), "]"],
    ),
    "half an alternative": (
        "yes no",
        [("yes", {"yes": 0.8, "n": 0.2}), (" no", {" no": 0.9, " y": 0.1})],
    ),
    "words in pieces": (
        '{"labels": [true, false]}',
        [
            *('{"', "labels", '":', " ["),
            *(("tr", {"tr": 0.8, "false": 0.2}), "ue", ",", " "),
            *(("f", {"f": 0.9, "t": 0.1}), "alse", "]}"),
        ],
    ),
    "numbered": (
        "1. 1\n2. 0",
        ["1", ".", (" 1", choices(" ", YES)), "\n", "2", ". ", ("0", NO)],
    ),
    "after thinking": (
        "<think>[0, 1]</think>[1, 0]",
        ["<think>", "[0, 1]", "</think>", "[", ("1", YES), ", ", ("0", NO), "]"],
    ),
    "thinking left out of the text": (
        "[1, 0]",
        ["hm [0, 0]", "\n", "[", ("1", YES), ", ", ("0", NO), "]"],
    ),
    "text trimmed": ("[1, 0]", ["\n", "[", ("1", YES), ", ", ("0", NO), "]", "\n"]),
    "other tokens likely as well": (
        "[1, 0]",
        ["[", ("1", {"1": 0.4, "0": 0.1, " ": 0.3, "x": 0.2}), ", ", ("0", NO), "]"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_probability_is_that_of_true_among_the_labels(form):
    assert label_probabilities(reply(*FORMS[form]), 2) == pytest.approx([0.8, 0.1])


def test_what_cannot_be_said_is_none():
    two_in_one = reply("[1, 0]", ["[", "1, 0", "]"])
    assert label_probabilities(two_in_one, 2) == [None, None]
    little_mass = reply("[1]", ["[", ("1", {"1": 0.2, "x": 0.8}), "]"])
    assert label_probabilities(little_mass, 1) == [None]
    other_text = reply("[1, 0]", ["something", " else"])
    assert label_probabilities(other_text, 2) == [None, None]
    without = Reply(key="", status="ok", text="[1, 0]")
    assert label_probabilities(without, 2) == [None, None]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=8), st.data())
def test_any_cutting_of_a_json_answer_gives_each_labels_own_probability(wanted, data):
    labels = [int(p >= 0.5) for p in wanted]
    text = json.dumps({"labels": labels})
    places = [i for i in range(text.index("["), len(text)) if text[i] in "01"]
    # Every label keeps a token of its own, which may begin before it.
    cuts = {0, len(text), *(p + 1 for p in places)}
    cuts |= data.draw(st.sets(st.integers(1, len(text) - 1), max_size=6))
    edges = sorted(cuts)
    tokens = []
    for a, b in pairwise(edges):
        held = [p for p in places if a <= p < b]
        said = text[a:b]
        if not held:
            tokens.append(said)
            continue
        p = wanted[places.index(held[0])]
        other = text[a : held[0]] + str(1 - labels[places.index(held[0])]) + text[held[0] + 1 : b]
        sure = p if said[held[0] - a] == "1" else 1 - p
        tokens.append((said, {said: sure, other: 1 - sure}))
    assert label_probabilities(reply(text, tokens), len(wanted)) == pytest.approx(wanted)
