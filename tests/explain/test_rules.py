"""Rules over token texts: how they fire, how they are said, how they are found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.errors import SchemaError
from lakeinterp.explain.columns import lay_out
from lakeinterp.explain.induce import best_rule
from lakeinterp.rules import CLASSES, Condition, Rule, keys_of, shown
from lakeinterp.terms import Example

PIECES = ["self", "(", " cat", "Cat", " The", "\n", "    ", "12", "running", "ing", "é", ")", ""]


def token(*texts, at=0):
    return Condition(test="token", any_of=texts, at=at)


@pytest.mark.parametrize(
    ("rule", "said", "fires"),
    [
        (Rule(), "fires on every token", [1, 1, 1, 1, 1]),
        (Rule(conditions=(token("("),)), "fires on `(`", [0, 1, 0, 0, 0]),
        (
            Rule(conditions=(token("self", "cls"), token("(", at=-1))),
            "fires on `self` or `cls` after `(`",
            [0, 0, 1, 0, 0],
        ),
        (
            Rule(conditions=(token("self", at=-1),)),
            "fires on any token after `self`",
            [0, 0, 0, 1, 0],
        ),
        (
            Rule(conditions=(token("self", at=1),)),
            "fires on any token before `self`",
            [0, 1, 0, 0, 0],
        ),
        (
            Rule(conditions=(Condition(test="word", any_of=("def",), within=2),)),
            "fires on any token when the word `def` in any case is among the 2 tokens before",
            [0, 1, 1, 0, 0],
        ),
        (
            Rule(conditions=(Condition(test="suffix", any_of=("ing", "ning")),)),
            "fires on a word that ends in `ing` or `ning`",
            [0, 0, 0, 0, 1],
        ),
        (
            Rule(conditions=(Condition(test="class", any_of=("punctuation",), at=-1),)),
            "fires on any token after punctuation",
            [0, 0, 1, 0, 1],
        ),
    ],
)
def test_a_rule_fires_where_it_says(rule, said, fires):
    assert rule.in_words() == said
    assert rule.fires([" Def", "(", "self", ",", " running"]) == [bool(f) for f in fires]


def test_a_rule_never_looks_beyond_its_window():
    assert Rule(conditions=(token("a", at=-1),)).fires(["b", "a"]) == [False, False]
    assert Rule(conditions=(token("a", at=1),)).fires(["a", "b"]) == [False, False]
    assert Rule().fires([]) == []


@pytest.mark.parametrize(
    ("piece", "text"),
    [(" cat", "`␣cat`"), ("\n", "`\\n`"), ("  ", "`␣␣`"), ("`", "`\\``"), (" a b ", "`␣a b␣`")],
)
def test_tokens_are_shown_with_their_white_space(piece, text):
    assert shown(piece) == text


@pytest.mark.parametrize(
    ("piece", "classes"),
    [
        (" The", {"capitalised", "start"}),
        ("THE", {"upper", "part"}),
        (" 12", {"number"}),
        (").", {"punctuation"}),
        ("\n  ", {"break"}),
        ("   ", {"space"}),
        ("é", {"part", "foreign"}),
        ("", set()),
    ],
)
def test_texts_have_their_classes(piece, classes):
    assert set(keys_of("class", piece)) == classes
    assert classes <= CLASSES.keys()


places = {"at": st.integers(-2, 2), "within": st.none() | st.integers(1, 5)}
conditions = st.builds(
    Condition,
    test=st.sampled_from(["token", "word", "prefix", "suffix"]),
    any_of=st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    **places,
) | st.builds(
    Condition,
    test=st.just("class"),
    any_of=st.lists(st.sampled_from(sorted(CLASSES)), min_size=1, max_size=3).map(tuple),
    **places,
)
rules = st.builds(Rule, conditions=st.lists(conditions, max_size=3).map(tuple))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(rules)
def test_a_rule_survives_json_and_can_be_said_on_one_line(rule):
    assert Rule.from_json(json.loads(json.dumps(rule.as_json()))) == rule
    assert len(rule.in_words().splitlines()) == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"conditions": [{"test": "token"}]},
        {"conditions": [{"test": "regex", "any_of": ["a"], "at": 0, "within": None}]},
        {"conditions": [{"test": "token", "any_of": "a", "at": 0, "within": None}]},
        {"conditions": [{"test": "class", "any_of": ["odd"], "at": 0, "within": None}]},
    ],
)
def test_what_is_no_rule_is_refused(value):
    with pytest.raises(SchemaError, match="not a rule"):
        Rule.from_json(value)


def example(number, pieces, values, *, population=10):
    is_active = any(values)
    return Example(
        sample="s",
        example=number,
        role="explain",
        stratum="activating" if is_active else "random",
        quantile=1 if is_active else None,
        document=number,
        start=0,
        tokens=(0,) * len(pieces),
        values=tuple(values),
        peak=max(values),
        peak_offset=None,
        population=population,
        pieces=tuple(pieces),
    )


windows = st.lists(
    st.lists(st.tuples(st.sampled_from(PIECES), st.booleans()), min_size=2, max_size=9),
    min_size=3,
    max_size=12,
).filter(lambda found: any(active for window in found for _, active in window))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(windows)
def test_the_rule_found_fires_on_pieces_as_it_did_in_the_search(found):
    examples = [
        example(i, [p for p, _ in window], [float(a) for _, a in window])
        for i, window in enumerate(found)
    ]
    tokens = lay_out(examples)
    best = best_rule(tokens)
    for row, shown_example in zip(best.fires, examples, strict=True):
        n = len(shown_example.pieces)
        assert row[:n].tolist() == best.rule.fires(shown_example.pieces)
        assert not row[n:].any()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(windows)
def test_the_score_is_the_weighted_f1_less_the_length(found):
    examples = [
        example(
            i, [p for p, _ in w], [float(a) for _, a in w], population=3 + 2 * any(a for _, a in w)
        )
        for i, w in enumerate(found)
    ]
    best = best_rule(lay_out(examples))
    n_active = sum(e.is_active for e in examples)
    hit = drawn = mass = 0.0
    for e in examples:
        weight = e.population / (n_active if e.is_active else len(examples) - n_active)
        for fires, value in zip(best.rule.fires(e.pieces), e.values, strict=True):
            hit += weight * (fires and value > 0)
            drawn += weight * fires
            mass += weight * (value > 0)
    assert best.score == pytest.approx(2 * hit / (drawn + mass) - 0.01 * max(0, best.rule.size - 1))
    assert best.score >= 2 * mass / (lay_out(examples).weight.sum() + mass) - 1e-9


RNG = np.random.default_rng(5)
WORDS = ["the", "a", " cat", " dog", "self", "(", "def", "\n", " 12", " running", " jumping", "x"]


@pytest.mark.parametrize(
    ("fires", "said"),
    [
        (lambda p, i: p[i] == " cat", "fires on `␣cat`"),
        (lambda p, i: p[i] in (" cat", "x"), "fires on `␣cat` or `x`"),
        (lambda p, i: i > 0 and p[i - 1] == "the", "fires on any token after `the`"),
        (lambda p, i: i > 0 and p[i - 1] == "(" and p[i] == "self", "fires on `self` after `(`"),
        (lambda p, i: i + 1 < len(p) and p[i + 1] == "(", "fires on any token before `(`"),
        (lambda p, i: p[i].endswith("ing"), "fires on a word that ends in `ing`"),
        (lambda p, i: True, "fires on every token"),
        (
            lambda p, i: p[i] == "x" and "def" in p[max(0, i - 8) : i],
            "fires on `x` when the word `def` in any case is among the 8 tokens before",
        ),
    ],
)
def test_planted_rules_are_found_and_said(fires, said):
    examples = []
    while len(examples) < 60:
        pieces = [WORDS[i] for i in RNG.integers(0, len(WORDS), size=14)]
        values = [float(fires(pieces, i)) for i in range(len(pieces))]
        examples.append(example(len(examples), pieces, values))
    words = best_rule(lay_out(examples)).rule.in_words()
    assert sorted(words.split()) == sorted(said.split()) or words == said


def test_a_text_seen_in_one_document_is_no_rule():
    examples = [example(0, ["odd", "a"], [1.0, 0.0]), example(1, ["a", "b"], [0.0, 0.0])]
    assert best_rule(lay_out(examples)).rule == Rule()
