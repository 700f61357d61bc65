"""The metrics of `sql/score/metrics.sql` against a plain version, and their intervals."""

from __future__ import annotations

import math
from collections import Counter

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from lakeinterp.score.measure import measure
from tests.score.test_means import TABLED

Z = 1.959963984540054
WHO = {"capture": "c", "hookpoint": "h", "scorer": "detection", "settings": "s"}
POPULATION = {("activating", 1): 30, ("activating", 2): 50, ("random", None): 4000}
POPULATION["same_token", None] = 70


def poisson_limit(count):
    """Return the rate at which one sees `count` or more one time in forty, by bisection."""
    low, high = 0.0, 9.0
    for _ in range(80):
        rate = (low + high) / 2
        under = sum(math.exp(-rate) * rate**i / math.factorial(i) for i in range(count))
        low, high = (rate, high) if 1 - under < 0.025 else (low, rate)
    return low


LIMITS = {count: poisson_limit(count) for count in (1, 2, 3)}


def wilson(k, n):
    if not n:
        return None, None
    center, half = k + Z * Z / 2, Z * math.sqrt(k * (n - k) / n + Z * Z / 4)
    low, high = (center - half) / (n + Z * Z), (center + half) / (n + Z * Z)
    low = min(low, LIMITS.get(k, n) / n)
    high = max(high, 1 - LIMITS.get(n - k, n) / n)
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def share(items):
    return sum(items) / len(items) if items else None


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        for name in queries.names("macros"):
            if name.startswith(("macros/mix", "macros/ratio", "macros/student", "macros/wi")):
                queries.load(name).run(con)
        for name in ("judgements", "explanations", "scores"):
            empty = TABLES[name].schema.empty_table()  # noqa: F841 - DuckDB reads it by name
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM empty")
        yield con


def fill(con, judgements, explanations):
    filled = {"judgements": judgements, "explanations": explanations}
    for name, rows in {**filled, "scores": []}.items():
        con.execute(f"DELETE FROM {name}")
        blank = dict.fromkeys(TABLES[name].columns)
        filled = [{**blank, **row} for row in rows]
        arrow = pa.Table.from_pylist(filled, schema=TABLES[name].schema)  # noqa: F841 - as above
        con.execute(f"INSERT INTO {name} SELECT * FROM arrow")


def measured(con, *, pooled=True, latents=None):
    table = measure(con, "score/metrics", WHO, latents=latents, pooled=pooled, run="r")
    return {(r["explanation"], r["metric"]): r for r in table.to_pylist()}


def explanation(latent):
    return {
        "capture": "c",
        "hookpoint": "h",
        "latent": latent,
        "explanation": f"e{latent}",
        "explainer": "pattern",
        "settings": "m",
        "sample": "x",
        "text": "t",
        "status": "ok",
    }


def judgement(latent, explained, item, cell, truth, said):
    """`said` is a prediction, or the status of a failure."""
    failed = isinstance(said, str)
    return {
        **WHO,
        "latent": latent,
        "explanation": f"e{explained}",
        "role": "own" if latent == explained else "borrowed",
        "explained_latent": explained,
        "item": item,
        "stratum": cell[0],
        "quantile": cell[1],
        "population": POPULATION[cell],
        "truth": truth,
        "prediction": None if failed else said,
        "status": said if failed else "ok",
    }


said = st.sampled_from([True, False, True, False, "timeout", "not_applicable", "parse_failed"])
cells = st.lists(
    st.tuples(st.sampled_from(sorted(POPULATION, key=str)), said), min_size=1, max_size=25
)


def items_of(found, latent, explained):
    return [
        judgement(latent, explained, i, cell, cell[0] == "activating", s)
        for i, (cell, s) in enumerate(found)
    ]


def plain(rows):
    """Compute every metric the slow way: name to (value, low, high, n, n_failed)."""
    ok = [r for r in rows if r["status"] == "ok"]
    failed = [r for r in rows if r["status"] not in ("ok", "not_applicable")]
    out = {}

    def simple(name, member, right):
        chosen = [right(r) for r in ok if member(r)]
        interval = wilson(sum(chosen), len(chosen))
        n_failed = sum(member(r) for r in failed)
        out[name] = (share(chosen), *interval, len(chosen), n_failed)

    simple("tpr", lambda r: r["truth"], lambda r: r["prediction"])
    # Hard negatives count only where there is nothing else.
    has_random = any(r["stratum"] == "random" for r in rows)
    counts = {id(r) for r in rows if r["truth"] or r["stratum"] == "random" or not has_random}
    simple("fpr", lambda r: not r["truth"] and id(r) in counts, lambda r: r["prediction"])
    simple("accuracy", lambda r: id(r) in counts, lambda r: r["prediction"] == r["truth"])
    for stratum, quantile in {(r["stratum"], r["quantile"]) for r in rows}:
        name = f"tpr_quantile_{quantile}" if quantile else f"fpr_{stratum}"
        simple(
            name,
            lambda r, c=(stratum, quantile): (r["stratum"], r["quantile"]) == c,
            lambda r: r["prediction"],
        )
    (t, tl, th, nt, ft), (f, fl, fh, nf, ff) = out["tpr"], out["fpr"]
    value = low = high = None
    if t is not None and f is not None:
        value = (t + 1 - f) / 2
        low = value - math.hypot(t - tl, fh - f) / 2
        high = value + math.hypot(th - t, f - fl) / 2
    out["balanced_accuracy"] = (value, low, high, nt + nf, ft + ff)
    hits, alarms = (t or 0) * nt, (f or 0) * nf
    known = t is not None and f is not None
    precision = hits / (hits + alarms) if hits + alarms else 0
    out["reference_precision"] = (precision if known else None, nt + nf, ft + ff)
    out["reference_f1"] = (2 * hits / (hits + alarms + nt) if known else None, nt + nf, ft + ff)
    out.update(natural(rows, ok, failed))
    return out


def natural(rows, ok, failed):
    """Weight every judged item by what it stands for; precision, recall, F1, IoU of the sums."""
    if not any(r["stratum"] == "random" for r in rows):
        return {}
    active_cells = {r["quantile"] for r in rows if r["truth"]}
    population = sum(POPULATION["activating", q] for q in active_cells)
    if not population:
        return {}
    drawn = Counter((r["stratum"], r["quantile"]) for r in ok)
    hit = present = 0.0
    for r in ok:
        if r["truth"]:
            weight = r["population"] / drawn[r["stratum"], r["quantile"]]
            present += weight
            hit += weight * r["prediction"]
    noise = [r["prediction"] for r in ok if r["stratum"] == "random"]
    recall = hit / present if present else None
    false = POPULATION["random", None] * share(noise) if noise else None
    values = dict.fromkeys(("precision", "f1", "iou"))
    if recall is not None and false is not None:
        true, missed = population * recall, population * (1 - recall)
        values["precision"] = true / (true + false) if true + false else None
        values["f1"] = 2 * true / (2 * true + false + missed)
        values["iou"] = true / (true + false + missed)
    n_true = sum(r["truth"] for r in ok)
    n_failed_true = sum(r["truth"] for r in failed)
    n_failed = n_failed_true + sum(r["stratum"] == "random" for r in failed)
    out = {"recall_natural": (recall, n_true, n_failed_true)}
    for name, value in values.items():
        out[f"{name}_natural"] = (value, n_true + len(noise), n_failed)
    return out


@settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cells, cells, cells)
def test_every_metric_equals_the_plain_version(con, own, first, second):
    rows = items_of(own, 0, 0)
    borrowed = [items_of(first, 0, 1), items_of(second, 0, 2)]
    fill(con, rows + borrowed[0] + borrowed[1], [explanation(i) for i in range(3)])
    found = measured(con)
    expected, nulls = plain(rows), [plain(b) for b in borrowed]
    assert {metric for _, metric in found} == set(expected)
    for metric, values in expected.items():
        row = found["e0", metric]
        assert row["value"] == pytest.approx(values[0]), metric
        assert (row["n"], row["n_failed"]) == values[-2:], metric
        assert (row["status"] in ("ok", "many_failed")) == (row["value"] is not None)
        if row["value"] is not None:
            n_asked = row["n"] + row["n_failed"]
            assert (row["status"] == "many_failed") == (row["n_failed"] > 0.02 * n_asked)
        if len(values) == 5:
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(values[1:3], abs=1e-12), metric
        if row["value"] is not None:
            assert -1e-9 <= row["ci_low"] <= row["value"] + 1e-9, metric
            assert row["value"] - 1e-9 <= row["ci_high"] <= 1 + 1e-9, metric
        clean = [n[metric] for n in nulls if metric in n]
        clean = [v for v in clean if v[-1] <= 0.02 * (v[-2] + v[-1])]
        _check_null(row, metric, [v[0] for v in clean])


def _check_null(row, metric, values):
    values = [v for v in values if v is not None]
    expected = share(values)
    assert row["null_value"] == pytest.approx(expected)
    if row["value"] is None or expected is None:
        assert row["corrected"] is None
        return
    sign = -1 if metric.startswith("fpr") else 1
    as_good = sum(sign * v >= sign * row["value"] - 1e-15 for v in values)
    assert row["p_value"] == pytest.approx((1 + as_good) / (1 + len(values)))
    if sign > 0 and expected < 1:
        assert row["corrected"] == pytest.approx((row["value"] - expected) / (1 - expected))
    else:
        assert row["corrected"] is None


probabilities = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9])), min_size=1, max_size=20
)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(probabilities)
def test_auroc_is_the_share_of_pairs_in_order(con, found):
    rows = []
    for i, (truth, probability) in enumerate(found):
        cell = ("activating", 1) if truth else ("random", None)
        rows.append(judgement(0, 0, i, cell, truth, probability > 0.4))
        rows[-1]["probability"] = probability
    fill(con, rows, [explanation(0)])
    pairs = [(p > q) + (p == q) / 2 for yes, p in found if yes for no, q in found if not no]
    assert measured(con)["e0", "auroc"]["value"] == pytest.approx(share(pairs))
    cells = [("activating", 1), ("random", None), ("random", None)]
    failed = [
        judgement(0, 0, 90 + i, cell, cell[0] == "activating", "timeout")
        for i, cell in enumerate(cells)
    ]
    fill(con, rows + failed, [explanation(0)])
    row = measured(con)["e0", "auroc"]
    assert (row["n"], row["n_failed"]) == (len(rows), 3)
    rows[0]["probability"] = None
    fill(con, rows, [explanation(0)])
    assert len(rows) == 1 or measured(con)["e0", "auroc"]["value"] is None
    for row in rows:
        row["probability"] = None
    fill(con, rows, [explanation(0)])
    assert ("e0", "auroc") not in measured(con)


def test_p_values_are_ranks_in_the_null_of_all_latents(con):
    rows = []
    for latent in range(3):
        for explained in range(3):
            right = 10 if latent == explained else 4 + explained
            rows += [
                judgement(latent, explained, i, ("activating", 1), True, i < right)
                for i in range(10)
            ]
    fill(con, rows, [explanation(i) for i in range(3)])
    assert {r["p_value"] for k, r in measured(con).items() if k[1] == "tpr"} == {1 / 7}
    unpooled = measured(con, pooled=False, latents=[0, 2])
    assert {k[0] for k in unpooled} == {"e0", "e2"}
    assert {r["p_value"] for r in unpooled.values()} == {None}


def test_how_items_of_a_call_agree_is_taken_from_explanations_of_the_same_sample(con):
    """One explanation of another sample whose items of a call are all alike."""
    rows = [
        judgement(0, 0, i, ("activating", 1), True, i % 3 > 0) | {"call": i // 5} for i in range(30)
    ]
    alike = [
        judgement(0, 1, i, ("activating", 1), True, (i // 5) % 2 == 0) | {"call": i // 5}
        for i in range(30)
    ]

    def width(sample):
        fill(
            con, rows + alike * bool(sample), [explanation(0), explanation(1) | {"sample": sample}]
        )
        row = measured(con)["e0", "tpr"]
        return row["ci_high"] - row["ci_low"]

    assert width("another") == width(None) < width("x")


def test_a_borrowed_value_of_which_many_items_failed_is_in_no_null(con):
    own = [judgement(0, 0, i, ("activating", 1), True, i < 5) for i in range(10)]
    good = [judgement(0, 1, i, ("activating", 1), True, i < 4) for i in range(10)]
    bad = [judgement(0, 2, i, ("activating", 1), True, [True, "timeout"][i > 0]) for i in range(10)]
    fill(con, own + good + bad, [explanation(i) for i in range(3)])
    row = measured(con)["e0", "tpr"]
    assert (row["null_value"], row["p_value"]) == (0.4, 0.5)


def test_a_judge_that_always_fails_gives_no_value_but_its_status(con):
    rows = [judgement(0, 0, i, ("activating", 1), True, "timeout") for i in range(4)]
    rows += [judgement(0, 0, 9, ("random", None), False, "refused")]
    fill(con, rows, [explanation(0)])
    row = measured(con)["e0", "balanced_accuracy"]
    assert (row["value"], row["n"], row["n_failed"], row["status"]) == (None, 0, 5, "timeout")


def test_a_score_is_marked_when_more_than_two_in_a_hundred_items_failed(con):
    rows = [judgement(0, 0, i, ("activating", 1), True, i % 2 == 0) for i in range(49)]
    fill(con, [*rows, judgement(0, 0, 49, ("activating", 1), True, "timeout")], [explanation(0)])
    assert measured(con)["e0", "tpr"]["status"] == "ok"
    fill(
        con,
        [*rows[1:], *(rows[0] | {"item": i, "status": "timeout"} for i in (0, 49))],
        [explanation(0)],
    )
    row = measured(con)["e0", "tpr"]
    assert (row["status"], row["value"] is None) == ("many_failed", False)


def test_items_that_do_not_apply_are_neither_right_nor_failed(con):
    fill(con, [judgement(0, 0, 0, ("activating", 1), True, "not_applicable")], [explanation(0)])
    row = measured(con)["e0", "tpr"]
    assert (row["value"], row["n"], row["n_failed"], row["status"]) == (
        None,
        0,
        0,
        "not_applicable",
    )


@pytest.mark.parametrize(
    ("hits", "alarms", "precision", "f1"),
    [(0, 0, None, 0.0), (0, 2, 0.0, 0.0), (10, 0, 1.0, 1.0), (10, 10, 30 / 4030, 60 / 4060)],
)
def test_precision_at_prevalence_has_its_edges(con, hits, alarms, precision, f1):
    rows = [judgement(0, 0, i, ("activating", 1), True, i < hits) for i in range(10)]
    rows += [judgement(0, 0, 10 + i, ("random", None), False, i < alarms) for i in range(10)]
    fill(con, rows, [explanation(0)])
    found = measured(con)
    assert found["e0", "precision_natural"]["value"] == pytest.approx(precision)
    assert found["e0", "f1_natural"]["value"] == pytest.approx(f1)
    if not alarms and hits:
        # Without a false positive among ten the rule of three allows 3 / 10 of 4000 windows.
        assert found["e0", "precision_natural"]["ci_low"] < 30 / (30 + 0.25 * 4000)


def test_writing_the_same_again_gives_no_rows(con):
    fill(
        con,
        [judgement(0, 0, i, ("activating", 1), True, i < 3) for i in range(9)],
        [explanation(0)],
    )
    first = measure(  # noqa: F841 - as above
        con, "score/metrics", WHO, latents=None, pooled=True, run="r"
    )
    con.execute("INSERT INTO scores SELECT * FROM first")
    assert measured(con) == {}


def test_wilson_intervals_cover_at_their_rate(con):
    shares, n = np.linspace(0.005, 0.995, 199), 50
    ends = con.execute(
        "SELECT wilson_low(k, $n), wilson_high(k, $n) FROM range(0, $n + 1) AS r(k) ORDER BY k",
        {"n": n},
    ).fetchall()
    covered = []
    for p in shares:
        chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        covered.append(
            sum(c for c, (low, high) in zip(chance, ends, strict=True) if low <= p <= high)
        )
    assert np.mean(covered) > 0.945
    assert min(covered) > 0.93


@pytest.mark.parametrize("prevalence", [0.3, 0.01, 1e-4])
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.8, 0.95), (0.6, 0.7), (0.95, 0.99)])
def test_intervals_of_precision_and_f1_cover(con, prevalence, sensitivity, specificity):
    rng, n, runs = np.random.default_rng(3), 50, 4000
    odds = (1 - prevalence) / prevalence
    drawn = pa.table(  # noqa: F841 - as above
        {"k": rng.binomial(n, sensitivity, runs), "a": rng.binomial(n, 1 - specificity, runs)}
    )
    precision_ratio = odds * (1 - specificity) / sensitivity
    f1_ratio = (1 + odds * (1 - specificity)) / sensitivity
    covered = con.execute(
        """
        SELECT avg(($p BETWEEN ratio_low($r * a / $n, $r * wilson_low(a, $n), k / $n,
                wilson_high(k, $n))
            AND ratio_high($r * a / $n, $r * wilson_high(a, $n), k / $n, wilson_low(k, $n)))::INT),
        avg(($f BETWEEN ratio_low(1 + $r * a / $n, 1 + $r * wilson_low(a, $n), k / $n,
                wilson_high(k, $n))
            AND ratio_high(1 + $r * a / $n, 1 + $r * wilson_high(a, $n), k / $n,
                wilson_low(k, $n)))::INT)
        FROM drawn
        """,
        {"r": odds, "n": n, "p": precision_ratio, "f": f1_ratio},
    ).fetchone()
    assert min(covered) > 0.94


def test_items_of_one_call_or_document_count_less(con):
    rng = np.random.default_rng(5)
    document = {item: int(rng.integers(9)) for item in range(24)}
    keys = [(explained, item) for explained in (0, 1) for item in range(24)]
    said = {k: bool(rng.random() < 0.2 + 0.6 * (document[k[1]] % 2)) for k in keys}
    call = {key: int(rng.integers(8)) for key in said}
    rows = [
        judgement(0, explained, item, ("activating", 1), True, hit)
        | {"call": call[explained, item], "document": document[item]}
        for (explained, item), hit in said.items()
    ]
    fill(con, rows, [explanation(0), explanation(1)])
    groups = [lambda e, i: (e, call[e, i]), lambda e, i: (e, document[i])]
    excess = sum(_correlation(said, group) * _pairs(group, 24) for group in groups)
    hits = sum(hit for (explained, _), hit in said.items() if not explained)
    n_clusters = min(len({group(0, i) for i in range(24)}) for group in groups)
    effective = 24 * 24 / (24 + excess) * (TABLED[23] / TABLED[n_clusters - 1]) ** 2
    row = measured(con)["e0", "tpr"]
    center, half = hits / 24 * effective + Z * Z / 2, hits / 24 * (1 - hits / 24) * effective
    half = Z * math.sqrt(half + Z * Z / 4)
    assert excess > 0
    assert row["ci_low"] == pytest.approx((center - half) / (effective + Z * Z), abs=1e-6)
    assert row["ci_high"] == pytest.approx((center + half) / (effective + Z * Z), abs=1e-6)


def _pairs(group, n):
    return sum(group(0, i) == group(0, j) for i in range(n) for j in range(n) if i != j)


def _correlation(said, group):
    """Average the products of standardised residuals over pairs: of the own explanation, or all."""
    products, own = [], []
    for explained in (0, 1):
        hits = [said[explained, item] for item in range(24)]
        mean = share(hits)
        residuals = [(hit - mean) / math.sqrt(mean * (1 - mean)) for hit in hits]
        products += [
            residuals[i] * residuals[j] + 1 / 23
            for i in range(24)
            for j in range(24)
            if i != j and group(explained, i) == group(explained, j)
        ]
        own = own or list(products)
    return max(0, (sum(own) + 0.2 * 30) / (len(own) + 30), share(products))


def test_windows_that_had_no_chance_to_be_drawn_leave_natural_metrics_without_a_value(con):
    rows = [judgement(0, 0, i, ("activating", 1), True, True) for i in range(5)]
    rows += [judgement(0, 0, 9, ("random", None), False, False) | {"weight": 4000.0}]
    fill(con, rows, [explanation(0)])
    found = measured(con)
    for metric in ("recall_natural", "precision_natural", "f1_natural", "iou_natural"):
        row = found["e0", metric]
        assert (row["value"], row["ci_low"], row["ci_high"]) == (None, None, None), metric
        assert row["status"] == "not_applicable"
    assert found["e0", "tpr"]["value"] == 1


def test_natural_metrics_weigh_windows_by_one_over_their_chance(con):
    weights = {0: 1.0, 1: 2.0, 2: 20.0, 3: 7.0}
    rows = [
        judgement(0, 0, i, ("activating", 1), True, i < 2) | {"weight": weight}
        for i, weight in weights.items()
    ]
    rows += [judgement(0, 0, 9, ("random", None), False, True) | {"weight": 4000.0}]
    fill(con, rows, [explanation(0)])
    assert measured(con)["e0", "recall_natural"]["value"] == pytest.approx(3 / 30)


def test_auprc_averages_precision_at_natural_rate(con):
    found = [(True, 0.9), (False, 0.8), (True, 0.8), (False, 0.3), (True, 0.2), (False, 0.1)]
    rows = []
    for i, (truth, probability) in enumerate(found):
        cell = ("activating", 1) if truth else ("random", None)
        rows.append(judgement(0, 0, i, cell, truth, probability > 0.4))
        rows[-1]["probability"] = probability
    fill(con, rows, [explanation(0)])
    odds = 4000 / 30
    at = [(1 / 3, 0), (2 / 3, 1 / 3), (1, 2 / 3)]
    expected = share([1 / (1 + odds * fpr / tpr) for tpr, fpr in at])
    row = measured(con)["e0", "auprc_natural"]
    assert row["value"] == pytest.approx(expected)
    assert 0 <= row["ci_low"] < expected < row["ci_high"] <= 1
    rows[0]["probability"] = None
    fill(con, rows, [explanation(0)])
    row = measured(con)["e0", "auprc_natural"]
    assert (row["value"], row["ci_low"], row["ci_high"]) == (None, None, None)
