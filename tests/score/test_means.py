"""Means of values and their intervals when items share documents or calls; Student's quantiles."""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lakeinterp.lake import queries
from tests.score.simulated import (
    Items,
    Judge,
    coverage,
    judged,
    mean_truths,
    ranked,
    scores,
    truths,
)

TABLED = {1: 12.706205, 2: 4.302653, 3: 3.182446, 4: 2.776445, 5: 2.570582, 6: 2.446912,
          7: 2.364624, 8: 2.306004, 9: 2.262157, 10: 2.228139, 15: 2.131450, 20: 2.085963,
          23: 2.068658, 30: 2.042272, 60: 2.000298, 120: 1.979930, 1000: 1.962339}  # fmt: skip
"""97.5 % quantiles of Student's t by degrees of freedom."""


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        for name in ("macros/student", "macros/welch"):
            queries.load(name).run(con)
        yield con


def student(con, df):
    ((value,),) = con.execute("SELECT student($df)", {"df": df}).fetchall()
    return value


def test_students_quantiles_are_those_of_the_tables(con):
    assert {df: student(con, df) for df in TABLED} == pytest.approx(TABLED, rel=4e-6)
    assert student(con, 10**9) == pytest.approx(1.959964, rel=1e-6)


@pytest.mark.parametrize("df", [1.3, 2.5, 3.7, 11.2])
def test_students_quantile_of_a_fraction_leaves_two_and_a_half_percent_above_it(con, df):
    x = np.linspace(0, math.atan(student(con, df) / math.sqrt(df)), 20_001)
    # With t = sqrt(df) tan(x) the density is that of cos(x)^(df - 1).
    height = np.cos(x) ** (df - 1)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    below = scale * float(((height[1:] + height[:-1]) / 2).sum() * (x[1] - x[0]))
    assert below == pytest.approx(0.475, abs=2e-6)


def jackknife(values, clusters):
    """Return the variance of a mean by leaving out one cluster after the other, and its freedom."""
    values, clusters = np.array(values), np.array(clusters)
    names = np.unique(clusters)
    others = np.array([values[clusters != name].mean() for name in names])
    n, shares = len(names), np.array([(clusters == name).mean() for name in names])
    # What leaving a cluster out does to the mean, as a matrix on the clusters' means.
    shift = (shares / (1 - shares))[:, None] * (shares - np.eye(n))
    form = shift.T @ shift
    freedom = float(np.trace(form) ** 2 / np.trace(form @ form))
    return (n - 1) / n * float(((others - values.mean()) ** 2).sum()), freedom


def fill(con, rows):
    """Make `items` of (truth, value, document, call), counted and judged all."""
    names = ("truth", "value", "document", "call")
    made = [
        {"latent": 1, "explanation": "e", "item": i, **dict(zip(names, row, strict=True))}
        for i, row in enumerate(rows)
    ]
    arrow = pa.Table.from_pylist(made)
    con.register("made", arrow)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE items AS SELECT latent, explanation, item, truth::BOOLEAN "
        'AS truth, "value"::DOUBLE AS "value", document::BIGINT AS document, call::INTEGER AS '
        "call, true AS is_judged, true AS is_counted FROM made"
    )
    queries.load("score/means").run(con)
    found = con.execute("SELECT truth, mean, variance, freedom FROM means").fetchall()
    return {truth: rest for truth, *rest in found}


@pytest.mark.parametrize("kind", ["document", "call", "item"])
def test_the_variance_of_a_mean_is_the_jackknife_over_what_items_share(con, kind):
    rng = np.random.default_rng(3)
    rows = []
    for truth in (True, False):
        for value, place in zip(rng.normal(size=30), rng.integers(0, 6, 30), strict=True):
            document, call = int(place), int(rng.integers(0, 3))
            rows.append((
                truth, float(value),
                document if kind == "document" else None, call if kind != "item" else None,
            ))  # fmt: skip
    found = fill(con, rows)
    for truth in (True, False):
        mine = [row for row in rows if row[0] is truth]
        place = [{"document": r[2], "call": r[3], "item": i}[kind] for i, r in enumerate(mine)]
        values = [row[1] for row in mine]
        assert found[truth] == pytest.approx([np.mean(values), *jackknife(values, place)])


def test_one_document_alone_or_equal_values_give_a_mean_and_no_interval(con):
    rows = [(True, 0.1 * i, 7, None) for i in range(4)] + [(False, 0.5, i, None) for i in range(4)]
    found = fill(con, rows)
    assert found[True][:2] == pytest.approx([0.15, None])
    assert found[False][:2] == pytest.approx([0.5, None])


def test_welchs_interval_is_the_one_worked_out_by_hand(con):
    ((half,),) = con.execute("SELECT welch(0.04, 4.0, 0.01, 9.0)").fetchall()
    df = 0.05**2 / (0.04**2 / 4 + 0.01**2 / 9)
    assert half == pytest.approx(student(con, df) * math.sqrt(0.05))


@pytest.mark.parametrize(("document", "shared"), [(0.8, 10), (0.4, 3)])
def test_intervals_of_ranking_scorers_cover_when_windows_share_documents(document, shared):
    judge = Judge(document=document, decline=1.0)
    items = Items(n_latents=150, windows_per_document=shared, n_borrowed=0)
    tables = ranked(judged(judge, items, seed=11), seed=1)
    known = {**truths(judge, items), **mean_truths(judge, items)}
    metrics = {
        "score/surprisal": ("auroc", "auprc_natural", "nats_saved", "loss_saved"),
        "score/example_embedding": ("auroc", "margin"),
    }
    with duckdb.connect() as con:
        for statement, names in metrics.items():
            found = scores(con, tables, statement)
            rates = {name: coverage(found, name, known[name])[0] for name in names}
            # 150 intervals that hold at 95 % are below this once in two hundred times.
            assert min(rates.values()) > 0.90, rates


def test_the_share_of_the_loss_that_is_saved_is_sure_by_the_documents_there_are(con):
    items = Items(n_latents=1, n_borrowed=0)
    tables = ranked(judged(Judge(document=0.5), items, seed=2), seed=3)
    with duckdb.connect() as other:
        found = {r["metric"]: r for r in scores(other, tables, "score/surprisal").to_pylist()}
    rows = [r for r in tables["judgements"].to_pylist() if r["truth"]]
    detail = [json.loads(r["detail"]) for r in rows]
    plain = np.array([d["plain"] for d in detail])
    saved = plain - np.array([d["loss"] for d in detail])
    document = np.array([r["document"] for r in rows])
    left = [document != name for name in np.unique(document)]
    others = np.array([saved[kept].sum() / plain[kept].sum() for kept in left])
    share, n = saved.sum() / plain.sum(), len(left)
    sizes = np.array([plain[~kept].sum() for kept in left])
    freedom = float(sizes.sum() ** 2 / (sizes**2).sum() - 1)
    reach = student(con, freedom) * np.sqrt((n - 1) / n * ((others - share) ** 2).sum())
    row = found["loss_saved"]
    assert [row["value"], row["ci_low"], row["ci_high"]] == pytest.approx(
        [share, share - reach, share + reach]
    )


def test_a_written_texts_call_is_what_the_mean_peak_is_sure_by():
    judge = Judge(call=0.6)
    items = Items(n_latents=150, n_each=2, n_quantiles=10, n_random=0, n_borrowed=0)
    tables = judged(judge, items, seed=4)
    rows = tables["judgements"]
    p = rows["probability"].to_numpy()
    rows = rows.set_column(rows.column_names.index("value"), "value", [np.log(p / (1 - p)) + 9])
    rows = rows.set_column(
        rows.column_names.index("document"), "document", [pa.nulls(len(rows), pa.int64())]
    )
    true = NormalDist().inv_cdf(judge.sensitivity) + 9
    with duckdb.connect() as con:
        found = scores(con, {**tables, "judgements": rows}, "score/sensitivity")
    assert coverage(found, "mean_peak", true)[0] > 0.90
