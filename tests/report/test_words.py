from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.report import shading, words


@given(st.text())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_visible_text_holds_nothing_that_steers_a_screen(text):
    assert all(c.isprintable() or c in "\n\t" for c in words.visible(text))
    assert "\n" not in words.one_line(text)


def test_visible_leaves_plain_text_of_any_script_alone():
    for text in ("naïve café", "שלום", "日本語", "🙂"):
        assert words.visible(text) == text


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_ranges_name_exactly_the_numbers_given(numbers):
    named = []
    for part in filter(None, words.ranges(numbers).split(", ")):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.0632, "6.3 %"),
        (0.00042, "0.04 %"),
    ],
)
def test_shares_are_per_cent_with_the_digits_that_matter(value, shown):
    assert words.share(value) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("EleutherAI/pythia-70m", "EleutherAI/pythia-70m"),
        ("/data/models/tiny/", "tiny"),
        ("./corpus.jsonl", "corpus.jsonl"),
        ("C:\\models\\tiny", "tiny"),
        ("demo", "demo"),
    ],
)
def test_paths_of_a_machine_stay_there(name, shown):
    assert words.place(name) == shown


def test_a_cost_never_hides_what_nobody_knows():
    assert words.cost(5, 0.012, 1, 2) == "$0.0120, 1 free, 2 of unknown cost"
    assert words.cost(2, 0.0, 0, 2) == "2 of unknown cost"
    assert words.cost(0, 0.0, 0, 0) == "no calls"


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("balanced_accuracy", "balanced accuracy"),
        ("tpr_quantile_3", "true positive rate, quantile 3"),
        ("fpr_same_token", "false positive rate, same token"),
        ("f1_natural", "F1 at natural rate"),
        ("auprc_natural", "AUPRC at natural rate"),
        ("reference_f1", "F1 as drawn"),
        ("made_up", "made up"),
    ],
)
def test_metrics_are_named_in_words(metric, shown):
    assert words.metric_name(metric) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.5, "0.50"), (-0.014, "−0.01"), (-0.004, "0.00")]
)
def test_scores_have_two_decimals_and_no_negative_zero(value, shown):
    assert words.score(value) == shown


def test_levels_rise_from_the_faintest_to_the_maximum():
    levels = [shading.level(v, 9.0) for v in (0.0, 0.001, 1.0, 4.5, 9.0, 99.0)]
    assert levels == [0, 1, 1, 5, 9, 9]


def test_silent_neighbours_join_and_active_tokens_stand_alone():
    found = shading.runs(["a", " b", " c", " d", "e"], [0, 0, 1, 2, 0], 2.0)
    assert [(r.text, r.level) for r in found] == [("a b", 0), (" c", 5), (" d", 9), ("e", 0)]


def test_an_active_part_of_a_character_is_not_lost():
    (run,) = shading.runs([""], [1.0], 1.0)
    assert (run.text, run.level) == ("▯", 9)
