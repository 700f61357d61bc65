"""The metrics of `sql/score/simulation.sql` against NumPy, and their intervals."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES

T = {2: 4.30265, 3: 3.18245, 4: 2.77645, 5: 2.57058, 6: 2.44691, 7: 2.36462}
"""Student's t at 0.975, by degrees of freedom."""
PLACE = {"capture": "c", "hookpoint": "h"}
ITEMS = pa.schema(
    [
        ("latent", pa.int32()),
        ("explanation", pa.string()),
        ("role", pa.string()),
        ("item", pa.int32()),
        ("example", pa.int32()),
        ("values", pa.list_(pa.float32())),
        ("is_judged", pa.bool_()),
        ("has_failed", pa.bool_()),
    ]
)


@pytest.fixture
def con():
    with duckdb.connect() as con:
        for name in ("macros/mix", "macros/student"):
            queries.load(name).run(con)
        yield con


def table(con, name, rows, schema):
    arrow = pa.Table.from_pylist(  # noqa: F841 - DuckDB reads it by name
        [{**dict.fromkeys(schema.names), **row} for row in rows], schema=schema
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM arrow")


def windows(rng, n, n_tokens=6, n_documents=5, noise=1.0):
    """Return windows with measured and predicted activations; the first half is activating."""
    found = []
    for item in range(n):
        is_active = item < n // 2
        y = np.where(rng.random(n_tokens) < 0.4, rng.integers(1, 9, n_tokens), 0).astype(float)
        y = y if is_active else np.zeros(n_tokens)
        if is_active and not y.any():
            y[0] = 3.0
        found.append(
            {
                "item": item,
                "document": int(rng.integers(n_documents)),
                "stratum": "activating" if is_active else "random",
                "quantile": 1 + item % 2 if is_active else None,
                "population": [40, 90][item % 2] if is_active else 5000,
                "y": y,
                "p": np.clip(np.round(y + noise * rng.normal(size=n_tokens) * 3), 0, 10),
            }
        )
    return found


def measured(con, made, n_failed=0, drawn=None):
    """Return the rows of the statement for windows as `windows` makes them, by metric."""
    (found,) = measured_all(con, [made], n_failed, drawn)
    return found


def measured_all(con, corpora, n_failed=0, drawn=None):
    """Return the same for many corpora, each of a latent of its own."""
    examples, explanations, items = [], [], []
    for latent, made in enumerate(corpora):
        me = {"latent": latent, "explanation": f"e{latent}"}
        examples += [example(latent, w) for w in (made if drawn is None else drawn)]
        explanations.append({**PLACE, **me, "sample": "s"})
        items += [item(me, w["item"], w["p"].tolist(), has_failed=False) for w in made]
        items += [item(me, 1000 + i, None, has_failed=True) for i in range(n_failed)]
    table(con, "examples", examples, TABLES["examples"].schema)
    table(con, "explanations", explanations, TABLES["explanations"].schema)
    table(con, "items", items, ITEMS)
    found = [{} for _ in corpora]
    for row in queries.load("score/simulation").table(con).to_pylist():
        found[row["latent"]][row["metric"]] = row
    return found


def example(latent, window):
    return {
        **PLACE,
        "latent": latent,
        "sample": "s",
        "example": window["item"],
        "role": "score",
        **{k: window[k] for k in ("stratum", "quantile", "document", "population")},
        "values": window["y"].tolist(),
    }


def item(me, number, values, *, has_failed):
    judged = {"is_judged": not has_failed, "has_failed": has_failed}
    return {**me, "role": "own", "item": number, "example": number, "values": values, **judged}


def pearson(p, y, w=None):
    w = np.ones_like(p) if w is None else w
    if np.ptp(p) == 0:
        return 0.0
    mean_p, mean_y = np.average(p, weights=w), np.average(y, weights=w)
    cov = np.average((p - mean_p) * (y - mean_y), weights=w)
    var = np.average((p - mean_p) ** 2, weights=w) * np.average((y - mean_y) ** 2, weights=w)
    return float(cov / np.sqrt(var))


def joined(made, key):
    return np.concatenate([w[key] for w in made])


def jackknife(made, scale, back):
    """Return limits by leaving out one document at a time."""
    documents = sorted({w["document"] for w in made})
    if len(documents) < 3:
        return None, None
    left = [scale([w for w in made if w["document"] != d]) for d in documents]
    if None in left:
        return None, None
    n = len(documents)
    reach = T[n - 1] * np.sqrt((n - 1) * np.var(left))
    return (
        (None, None)
        if reach == 0
        else sorted((back(scale(made) - reach), back(scale(made) + reach)))
    )


def fisher(made):
    y = joined(made, "y")
    r = pearson(joined(made, "p"), y) if np.ptp(y) else None
    return None if r is None else float(np.arctanh(np.clip(r, -0.9999999, 0.9999999)))


def half_of(con, document):
    return con.execute("SELECT mix(1::BIGINT, ?) % 2", [document]).fetchone()[0]


def left_over(con, made):
    """Return residuals and deviations from the mean of each window, by the other half's line."""
    halves = {w["document"]: half_of(con, w["document"]) for w in made}
    found = []
    for w in made:
        other = [o for o in made if halves[o["document"]] != halves[w["document"]]]
        if not other:
            return []
        p, y = joined(other, "p"), joined(other, "y")
        slope = 0.0 if np.ptp(p) == 0 else np.cov(p, y, bias=True)[0, 1] / np.var(p)
        found.append((w["y"] - y.mean() - slope * (w["p"] - p.mean()), w["y"] - y.mean()))
    return found


@settings(
    derandomize=True,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 10_000), st.integers(4, 14), st.sampled_from([0.0, 0.5, 1.5]))
def test_metrics_are_those_of_a_plain_version(con, seed, n, noise):
    rng = np.random.default_rng(seed)
    made = windows(rng, n, noise=noise, n_documents=int(rng.integers(1, 8)))
    found = measured(con, made, n_failed=2)
    assert {(r["n"], r["n_failed"]) for r in found.values()} == {(n, 2)}
    y, p = joined(made, "y"), joined(made, "p")
    close(found["correlation"], pearson(p, y), jackknife(made, fisher, np.tanh))
    at_place = [
        {**w, **{k: w[k] - np.mean([o[k] for o in made], axis=0) for k in "py"}} for w in made
    ]
    p_left, y_left = joined(at_place, "p"), joined(at_place, "y")
    close(found["correlation_centred"], pearson(p_left, y_left))
    active = [w for w in made if np.ptp(w["y"])]
    close(found["correlation_window"], np.mean([pearson(w["p"], w["y"]) for w in active]))
    weights = []
    for w in made:
        alike = [o for o in made if (o["stratum"], o["quantile"]) == (w["stratum"], w["quantile"])]
        weights.append(np.full(len(w["y"]), w["population"] / len(alike)))
    close(found["correlation_natural"], pearson(p, y, np.concatenate(weights)))
    rests = left_over(con, made)
    for metric, size in (("r_squared", np.square), ("deviation_explained", np.abs)):
        if not rests:
            assert found[metric]["value"] is None
            continue
        ratio = sum(size(a).sum() for a, _ in rests) / sum(size(b).sum() for _, b in rests)
        close(found[metric], 1 - ratio)


def close(row, value, limits=None):
    assert row["value"] == pytest.approx(value, abs=1e-6)
    if limits is not None:
        for name, limit in zip(("ci_low", "ci_high"), limits, strict=True):
            assert (row[name] is None) == (limit is None)
            assert limit is None or row[name] == pytest.approx(limit, abs=0.02)
    if row["ci_low"] is not None:
        assert row["ci_low"] <= row["value"] <= row["ci_high"]


def test_windows_that_were_not_simulated_are_spoken_for(con):
    drawn = windows(np.random.default_rng(1), 12)
    some = [w for w in drawn if w["item"] in (0, 1, 2, 7, 9)]
    found = measured(con, some, drawn=drawn)
    stands_for = {0: 20.0, 2: 20.0, 1: 90.0, 7: 2500.0, 9: 2500.0}
    weights = [np.full(len(w["y"]), stands_for[w["item"]]) for w in some]
    value = pearson(joined(some, "p"), joined(some, "y"), np.concatenate(weights))
    assert found["correlation_natural"]["value"] == pytest.approx(value, abs=1e-6)
    without = [w for w in some if w["quantile"] != 2]
    found = measured(con, without, drawn=drawn)
    weights = [np.full(len(w["y"]), 65.0 if w["item"] < 6 else 2500.0) for w in without]
    value = pearson(joined(without, "p"), joined(without, "y"), np.concatenate(weights))
    assert found["correlation_natural"]["value"] == pytest.approx(value, abs=1e-6)
    assert measured(con, some[:3], drawn=drawn)["correlation_natural"]["value"] is None


def test_a_prediction_that_never_varies_explains_nothing(con):
    made = windows(np.random.default_rng(2), 10)
    flat = [{**w, "p": np.zeros_like(w["p"])} for w in made]
    found = measured(con, flat)
    assert {r["value"] for r in found.values()} == {0.0}
    assert {r["ci_low"] for r in found.values()} == {None}


def test_a_perfect_prediction_explains_everything(con):
    made = windows(np.random.default_rng(3), 10)
    found = measured(con, [{**w, "p": w["y"] * 0.7} for w in made])
    assert {round(r["value"], 5) for r in found.values()} == {1.0}


def test_intervals_hold_the_truth_about_as_often_as_they_say(con):
    """Windows of one document share how well they are predicted; 200 small corpora."""
    rng = np.random.default_rng(4)
    truth = simulated(rng, 4000)
    value = pearson(joined(truth, "p"), joined(truth, "y"))
    rows = measured_all(con, [simulated(rng, 15) for _ in range(200)])
    inside = [r["correlation"]["ci_low"] <= value <= r["correlation"]["ci_high"] for r in rows]
    # Four standard errors below 95 %; Fisher's z of as many independent tokens holds it in 57 %.
    assert sum(inside) >= 178


def test_what_the_place_alone_tells_is_no_merit_after_centring(con):
    """Peaks at one place, and a judge that knows the place and nothing else."""
    rng = np.random.default_rng(5)
    made = windows(rng, 20, n_tokens=12, n_documents=20)
    for window in made:
        window["p"] = np.where(np.arange(12) == 8, 9.0, 0.0)
        if window["stratum"] == "activating":
            window["y"] = np.where(np.arange(12) == 8, rng.integers(3, 9), window["y"] * 0.1)
    found = measured(con, made)
    assert found["correlation"]["value"] > 0.5
    assert found["correlation_centred"]["value"] == 0.0


def simulated(rng, n_documents):
    """Return two windows of each document; the noise is a document's own."""
    found = []
    for item in range(2 * n_documents):
        if item % 2 == 0:
            noise = rng.choice([0.5, 2.5])
        y = np.maximum(0, rng.normal(size=12)) * 4
        found.append(
            {
                "item": item,
                "document": item // 2,
                "stratum": "activating",
                "quantile": 1,
                "population": 10,
                "y": y,
                "p": np.clip(y + noise * rng.normal(size=12), 0, 10),
            }
        )
    return found
