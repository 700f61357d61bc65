"""Fuzzing items: both versions look alike to anyone who has no explanation."""

from __future__ import annotations

import random
import re
from collections import Counter

from lakeinterp.config import ScoreConfig
from lakeinterp.score import ScoringTask, ToJudge
from lakeinterp.score.fuzzing import FuzzingScorer
from lakeinterp.score.moves import move
from lakeinterp.terms import Example, LatentId

WORDS = [" the", " a", " cat", " dog", ",", "(", " Sat", " 12", "\n", " on", "ing", " house"]
LATENT = LatentId(capture="c", hookpoint="h", latent=3)
OWN = ToJudge(explanation="e", text="cats", detail=None, role="own", explained_latent=3)


def example(number, values, pieces):
    return Example(
        sample="s",
        example=number,
        role="score",
        stratum="activating" if any(values) else "random",
        quantile=1 if any(values) else None,
        document=number,
        start=0,
        tokens=(0,) * len(pieces),
        values=tuple(values),
        peak=max(values),
        peak_offset=values.index(max(values)) if any(values) else None,
        population=1,
        pieces=tuple(pieces),
    )


def examples(n, *, width=32, peak_at=24, seed=0):
    """Windows as sampling places them: the peak at one place, weaker activations around it."""
    rng = random.Random(seed)
    found = []
    for number in range(n):
        values = [0.0] * width
        values[peak_at] = 2.0
        for offset in rng.sample(range(-3, 4), rng.randrange(3)):
            values[peak_at + offset] = max(values[peak_at + offset], rng.choice([0.3, 1.0, 1.5]))
        found.append(example(number, values, rng.choices(WORDS, k=width)))
    return tuple(found)


def passes(n, **options):
    task = ScoringTask(latent=LATENT, examples=examples(n, **options), explanation=OWN, seed=22)
    return FuzzingScorer(ScoreConfig()).passes(task)


def test_a_move_highlights_only_silent_tokens_and_the_right_ones_before():
    for shown in examples(100):
        moved = move(shown, 0.3, (1,))
        for first, is_right in ((moved.right, True), (moved.wrong, False)):
            for i, mark in enumerate(moved.marked):
                value = shown.values[first + i]
                assert not mark or (value >= 0.6 if is_right else value == 0)
                assert mark or not is_right or value < 0.6
        assert moved.right <= shown.peak_offset < moved.right + moved.n_shown


def test_both_versions_of_an_item_have_the_same_marks_in_the_same_places():
    for shown in examples(50):
        moved = move(shown, 0.3, (1,))
        for is_right in (True, False):
            first = moved.right if is_right else moved.wrong
            text = moved.text(shown, is_right=is_right)
            assert text.count("<<") == len(
                re.findall("1+", "".join(map(str, map(int, moved.marked))))
            )
            assert 0 <= first <= len(shown.pieces) - moved.n_shown


def test_windows_that_cannot_be_moved_are_told_apart():
    everywhere = example(0, [1.0] * 16, ["a"] * 16)
    assert move(everywhere, 0.3, (1,)) is None
    half = example(1, [0.0] * 8 + [1.0] * 8, ["a"] * 16)
    assert move(half, 0.3, (1,)).n_shown == 8
    assert move(example(2, [1.0, 0.0], ["a", ""]), 0.3, (1,)) is None


def test_tokens_of_the_same_kind_are_preferred():
    pieces = [" a", ",", " b", "\n", "(", " cat", ";", " c", ".", "!", "?", ":", "#", "1", "2", "3"]
    values = [0.0] * 16
    values[5] = 1.0
    for seed in range(20):
        moved = move(example(0, values, pieces), 0.3, (seed,))
        (place,) = [i for i, mark in enumerate(moved.marked) if mark]
        assert pieces[moved.wrong + place] in (" a", " b", " c")


def test_the_two_versions_of_an_example_never_share_a_call():
    first, second = passes(37)
    for items in (first, second):
        numbers = [item.example.example for item in items]
        assert len(set(numbers)) == len(numbers) == 37
    truth = {(i.example.example, i.truth) for items in (first, second) for i in items}
    assert len(truth) == 74
    assert 8 < sum(item.truth for item in first) < 29


def blind_accuracy(read):
    """Return how often the best guess from `read(text)` alone, learnt on others, is right."""
    learnt, tested = passes(400, seed=1), passes(400, seed=2)
    votes: dict[object, Counter[bool]] = {}
    for item in (*learnt[0], *learnt[1]):
        votes.setdefault(read(item.text), Counter())[item.truth] += 1
    items = [*tested[0], *tested[1]]
    right = 0.0
    for item in items:
        seen = votes.get(read(item.text), Counter())
        right += 0.5 if seen[True] == seen[False] else (seen[True] > seen[False]) == item.truth
    return right / len(items)


def marked_at(text):
    """Return at which pieces the marks stand, by splitting at spaces and punctuation."""
    plain = re.split(r"(<<|>>)", text)
    place, found = 0, []
    for part in plain:
        if part == "<<":
            found.append(place)
        elif part != ">>":
            place += len(re.findall(r" \w+|\\n|,|\(|ing", part))
    return tuple(found)


def test_a_judge_without_the_explanation_is_at_chance():
    features = {
        "position": marked_at,
        "runs": lambda text: text.count("<<"),
        "marked letters": lambda text: sum(map(len, re.findall("<<(.*?)>>", text))) // 3,
        "length": lambda text: len(text) // 8,
        "begins": lambda text: text[:3],
        "ends": lambda text: text[-3:],
        "marked text": lambda text: re.findall("<<(.*?)>>", text)[0],
    }
    for name, read in features.items():
        assert abs(blind_accuracy(read) - 0.5) < 0.06, name


def test_items_are_the_same_for_every_explanation_and_every_time():
    first = passes(20)
    borrowed = ToJudge(
        explanation="b", text="dogs", detail=None, role="borrowed", explained_latent=9
    )
    task = ScoringTask(latent=LATENT, examples=examples(20), explanation=borrowed, seed=22)
    assert FuzzingScorer(ScoreConfig()).passes(task) == first
