"""Nothing but the explanation tells what is true: blind solvers are at chance on all stimuli.

Many stimuli are made from windows of one distribution of texts, and whatever can be read from how
an item looks is held against its truth. Detection and the intruder show texts that truly differ;
blind there is whoever goes by the form of what is shown and not by the words.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lakeinterp.config import ScoreConfig
from lakeinterp.score import ScoringTask
from lakeinterp.score.detection import DetectionScorer
from lakeinterp.score.fuzzing import FuzzingScorer
from lakeinterp.score.intruder import IntruderScorer
from lakeinterp.score.simulation import SimulationScorer
from tests.score.test_moves import LATENT, OWN, WORDS, examples

N_TASKS = 60
PIECES = [word for word in WORDS if word != "ing"]
"""Texts of tokens that can be told apart in a window."""
_PIECE = re.compile(r"<<|>>| \w+|\\n|,|\(")


def task(seed, *, width=24, n=20):
    """Windows as sampling draws them: peaks at one place, marks beside it; texts of one kind."""
    rng = random.Random(seed)
    active = [
        replace(e, quantile=1 + e.example % 2, pieces=tuple(rng.choices(PIECES, k=width)))
        for e in examples(n, width=width, peak_at=width * 3 // 4, seed=seed)
    ]
    strata = ["random"] * n + ["neighbour"] * n
    silent = [
        replace(
            active[0],
            example=n + i,
            document=100 + i,
            stratum=stratum,
            quantile=None,
            peak=0.0,
            peak_offset=None,
            values=(0.0,) * width,
            pieces=tuple(rng.choices(PIECES, k=width)),
        )
        for i, stratum in enumerate(strata)
    ]
    made = ScoringTask(
        latent=replace(LATENT, latent=seed),
        examples=(*active, *silent),
        explanation=OWN,
        seed=22,
    )
    fired = {(seed, e.example): _fires(rng, width) for e in silent if e.stratum == "neighbour"}
    return made, fired


def _fires(rng, width):
    """Where a neighbour fires: anywhere, with longer runs than the latent's own."""
    values, at = [0.0] * width, rng.randrange(width)
    for i in range(at, min(width, at + rng.choice([1, 2, 3, 4]))):
        values[i] = rng.choice([1.0, 2.0, 3.0])
    return values


def looks(text):
    """Return what can be read from a text without understanding any of it."""
    place, inside, at, runs = 0, False, [], []
    for piece in _PIECE.findall(text):
        if piece in ("<<", ">>"):
            inside = piece == "<<"
            runs += [0] if inside else []
            continue
        if inside:
            at.append(place)
            runs[-1] += 1
        place += 1
    return {
        "tokens": place,
        "letters": len(text),
        "marks": len(at),
        "runs": len(runs),
        "longest run": max(runs, default=0),
        "first mark": min(at, default=0),
        "last mark": max(at, default=0),
        "marks from the end": place - max(at, default=0),
        "spread": max(at, default=0) - min(at, default=0),
        "mean place": float(np.mean(at)) if at else 0.0,
    }


def areas(items):
    """Return each feature's AUROC for the truth, and how far chance may take it from 0.5."""
    truth = np.array([is_true for _, is_true in items])
    n_true, n_false = int(truth.sum()), int((~truth).sum())
    # Five standard deviations of the rank statistic without ties; ties make it smaller.
    reach = 5 * ((n_true + n_false + 1) / (12 * n_true * n_false)) ** 0.5
    found = {}
    for name in items[0][0]:
        values = np.array([features[name] for features, _ in items], dtype=float)
        order, counts = np.unique(values, return_counts=True)
        middle = np.cumsum(counts) - (counts - 1) / 2
        ranks = middle[np.searchsorted(order, values)]
        found[name] = (ranks[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false)
    return found, reach


def at_chance(items):
    found, reach = areas(items)
    assert reach < 0.08
    leaks = {name: area for name, area in found.items() if abs(area - 0.5) > reach}
    assert not leaks


@pytest.mark.parametrize("kind", ["moved", "texts", "neighbours"])
def test_the_look_of_a_fuzzing_item_does_not_tell_whether_it_is_right(kind):
    items = []
    for seed in range(N_TASKS):
        made, fired = task(seed)
        scorer = FuzzingScorer(ScoreConfig(fuzzing=kind))
        scorer._fired = fired
        for shown in scorer.passes(made):
            patterns = Counter(_pattern(item.text) for item in shown)
            for place, item in enumerate(shown):
                features = {
                    **looks(item.text),
                    "place": place,
                    "place in the call": place % 5,
                    "others of this look": patterns[_pattern(item.text)],
                }
                items.append((features, item.truth))
    assert len(items) > 1000
    at_chance(items)


def test_a_leak_of_any_kind_would_be_seen():
    """The same items with the wrong marks one token further on, or one token longer."""
    for spoil in (
        lambda text: re.sub(r"<<( \w+|\\n|,|\()", r"\1<<", text, count=1),
        lambda text: re.sub(r">>( \w+|\\n|,|\()", r"\1>>", text, count=1),
        lambda text: text + " the",
    ):
        items = []
        for seed in range(N_TASKS):
            for shown in FuzzingScorer(ScoreConfig()).passes(task(seed)[0]):
                texts = [item.text if item.truth else spoil(item.text) for item in shown]
                items += [
                    (looks(text), item.truth) for text, item in zip(texts, shown, strict=True)
                ]
        found, reach = areas(items)
        assert any(abs(area - 0.5) > reach for area in found.values())


def _pattern(text):
    """Return which tokens are marked."""
    marked, inside = [], False
    for piece in _PIECE.findall(text):
        if piece in ("<<", ">>"):
            inside = piece == "<<"
        else:
            marked.append(inside)
    return tuple(marked)


def test_both_versions_of_a_pair_have_one_look_but_never_one_call():
    for kind in ("moved", "texts", "neighbours"):
        for seed in range(10):
            made, fired = task(seed)
            scorer = FuzzingScorer(ScoreConfig(fuzzing=kind))
            scorer._fired = fired
            twins = scorer.twins(made)
            assert twins
            for pair in twins:
                assert _pattern(pair.right_text) == _pattern(pair.wrong_text)
            for shown in scorer.passes(made):
                assert len({item.item // 2 for item in shown}) == len(shown)


@pytest.mark.parametrize("kind", ["silent", "quantile"])
@pytest.mark.parametrize("n_texts", [3, 5])
def test_the_look_of_a_text_does_not_tell_whether_it_is_the_intruder(kind, n_texts):
    items = []
    for seed in range(3 * N_TASKS):
        made, _ = task(seed)
        scorer = IntruderScorer(ScoreConfig(intruder=kind, intruder_texts=n_texts))
        for question in scorer.questions(made):
            patterns = Counter(_pattern(text) for text in question.texts)
            for place, text in enumerate(question.texts):
                features = {
                    **looks(text),
                    "place": place,
                    "others of this look": patterns[_pattern(text)],
                }
                items.append((features, place == question.intruder))
    at_chance(items)


def test_the_form_of_a_detection_item_does_not_tell_whether_it_is_true():
    items = []
    for seed in range(N_TASKS):
        made, _ = task(seed)
        for place, item in enumerate(DetectionScorer(ScoreConfig()).items(made)):
            form = looks(item.text)
            features = {name: form[name] for name in ("tokens", "letters")}
            features |= {"place": place, "place in the call": place % 5}
            items.append((features, item.truth))
    at_chance(items)


def test_a_description_of_something_else_is_at_chance_on_every_labelled_stimulus():
    """A judge that follows a borrowed description: any text with ` dog`, any mark on ` dog`."""
    by_kind = {}
    for kind in ("detection", "moved", "texts", "neighbours"):
        items = by_kind[kind] = []
        for seed in range(N_TASKS):
            made, fired = task(seed)
            if kind == "detection":
                shown = DetectionScorer(ScoreConfig()).items(made)
            else:
                scorer = FuzzingScorer(ScoreConfig(fuzzing=kind))
                scorer._fired = fired
                shown = [item for part in scorer.passes(made) for item in part]
            for item in shown:
                marked = re.findall("<<(.*?)>>", item.text) or [item.text]
                said = {"dog": sum(text.count(" dog") for text in marked)}
                items.append((said, item.truth))
        at_chance(items)


def test_windows_are_chosen_for_simulation_without_regard_to_their_text():
    """Whoever predicts from the order and the form of the windows knows nothing of the latent."""
    items = []
    for seed in range(2 * N_TASKS):
        made, _ = task(seed)
        for window in SimulationScorer(ScoreConfig()).windows(made):
            form = looks(window.text)
            features = {name: form[name] for name in ("tokens", "letters")}
            items.append((features, window.is_active))
    at_chance(items)
