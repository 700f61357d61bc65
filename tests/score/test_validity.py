"""A judge of known skill: intervals hold the truth, nulls give uniform p values."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from tests.planted import planted_lake
from tests.score.simulated import Items, Judge, coverage, judged, scores, truths
from tests.score.verdicts import drawn, exact, judgements

METRICS = (
    "balanced_accuracy",
    "reference_f1",
    "auroc",
    "precision_natural",
    "recall_natural",
    "f1_natural",
    "auprc_natural",
)


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        yield con


def values(rows, metric, column="value"):
    return [row[column] for row in rows.to_pylist() if row["metric"] == metric]


@pytest.mark.parametrize(("prevalence", "specificity"), [(1e-4, 0.9), (0.3, 0.98)])
def test_intervals_cover_when_items_share_calls_and_documents(con, prevalence, specificity):
    judge = Judge(specificity=specificity, call=0.2, document=0.3, decline=1.0)
    items = Items(n_latents=150, prevalence=prevalence, n_borrowed=1, windows_per_document=3)
    found, known = scores(con, judged(judge, items, seed=3)), truths(judge, items)
    rates = {metric: coverage(found, metric, known[metric])[0] for metric in METRICS}
    # 150 intervals that hold at 95 % are below this once in two hundred times.
    assert min(rates.values()) > 0.90, rates


def test_an_explanation_that_says_nothing_gets_uniform_p_values(con):
    items = Items(n_latents=300, n_borrowed=2, is_null=True)
    rows = scores(con, judged(Judge(specificity=0.5), items, seed=4))
    p = np.sort(values(rows, "auroc", "p_value"))
    distance = np.abs(p - (np.arange(300) + 0.5) / 300).max()
    assert distance < 1.63 * np.sqrt(1 / 300 + 1 / 600)  # Smirnov's limit at 1 %
    ties = np.array(values(rows, "balanced_accuracy", "p_value"))
    assert np.mean(ties <= 0.05) < 0.08


def test_balanced_accuracy_misses_the_broad_explanation_that_natural_f1_finds(con):
    good = Judge(sensitivity=0.9, specificity=0.995)
    broad = Judge(sensitivity=0.99, specificity=0.85)
    narrow = Judge(sensitivity=0.3, specificity=0.999)
    items = Items(n_latents=60, prevalence=0.002, n_random=400, n_borrowed=0)
    means = {}
    for name, judge in (("good", good), ("broad", broad), ("narrow", narrow)):
        rows = scores(con, judged(judge, items, seed=5))
        for metric in ("balanced_accuracy", "f1_natural"):
            means[name, metric] = np.mean(values(rows, metric))
    assert means["good", "balanced_accuracy"] - means["broad", "balanced_accuracy"] < 0.05
    assert means["good", "balanced_accuracy"] - means["narrow", "balanced_accuracy"] > 0.2
    assert means["broad", "f1_natural"] < 0.1 * means["good", "f1_natural"]
    assert means["narrow", "f1_natural"] < means["good", "f1_natural"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a lake, and of some seeds the metrics of each latent over all its windows."""
    lake = planted_lake(str(tmp_path_factory.mktemp("drawn")), n_sequences=220, n_buckets=1).lake
    return lake, {seed: exact(drawn(lake, "random", 10**6, seed)) for seed in range(5)}


@pytest.mark.parametrize("how", ["random", "quantiles", "mix", "importance", "top"])
def test_natural_recall_is_unbiased_however_windows_were_drawn(con, planted, how):
    lake, known = planted
    errors, plain = [], []
    for seed in known:
        for row in scores(con, judgements(drawn(lake, how, 30, seed))).to_pylist():
            true = known[seed][row["latent"]]["recall_natural"]
            if row["metric"] == "recall_natural" and row["value"] is not None:
                errors.append(row["value"] - true)
            if row["metric"] == "tpr":
                plain.append(row["value"] - true)
    if how == "top":
        assert not errors
    else:
        assert abs(np.mean(errors)) < 3.5 * np.std(errors, ddof=1) / np.sqrt(len(errors))
    if how in ("top", "importance"):
        assert np.mean(plain) > 3.5 * np.std(plain, ddof=1) / np.sqrt(len(plain))
