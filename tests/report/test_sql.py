"""The report's SQL: headers tell the truth, results equal the plain way of computing them."""

from __future__ import annotations

import shutil
from collections import defaultdict
from datetime import UTC, datetime

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.config import load
from lakeinterp.errors import NotFound
from lakeinterp.lake import Lake, queries
from lakeinterp.report.reader import Reader
from lakeinterp.report.statistics import bootstrap_mean, bootstrap_ratio, scale
from lakeinterp.terms import now
from tests.lakes import SAMPLE, row
from tests.planted import CAPTURE, HOOKPOINT

VALUES = {
    "capture": CAPTURE,
    "metric": "balanced_accuracy",
    "low": 0.0,
    "high": 1.0,
    "n_bins": 20,
    "explainer": "pattern",
    "scorer": "pattern",
    "scored": True,
    "ascending": False,
    "n_rows": 100,
    "n_listed": 3,
    "n_groups": 50,
    "hookpoints": [HOOKPOINT] * 12,
    "latents": list(range(12)),
    "buckets": [i // 4 for i in range(12)],
    "samples": [SAMPLE] * 12,
    "per_section": 2,
    "captures": [CAPTURE],
    "current": [SAMPLE],
    "transient": ["timeout"],
    "metrics": [],
    "paired": True,
    "tail": 0.02,
    "made": "s1",
    "settings": "s1",
    "seed": 1,
    "hookpoint": HOOKPOINT,
    "bucket_latents": 4,
    "levels": [0] * 12,
    "earlier": [],
    "earlier_levels": [],
    "explained_by": ["s1"],
    "prompt": "p1",
    "scorers": ["pattern"],
    "headlines": ["balanced_accuracy"],
    "asking": [True],
    "judges": ["pattern"],
    "judged": ["s1"],
    "turns": [0],
    "failures": [],
    "before": now(),
    "wider": 0.1,
    "least": 2,
    "n_score": 1,
    "score_share": 0.5,
    **{
        f"{name}_{side}": value
        for side, explainer, scorer in (("a", "pattern", "pattern"), ("b", "default", "detection"))
        for name, value in (
            ("capture", CAPTURE),
            ("explainer", explainer),
            ("made", "s1"),
            ("scorer", scorer),
            ("settings", "s1"),
        )
    },
}
NAMES = [n for n in queries.names("report") if "cookbook" not in n]
"""The cook-book has lakes of its own, in test_cookbook.py."""


def value_of(lake, name):
    if name == "explanations":
        return [r["explanation"] for r in lake.rows("explanations")]
    return VALUES[name]


@pytest.fixture(scope="module")
def lake(lake, tmp_path_factory):
    """The scored lake with output tokens of one latent."""
    root = tmp_path_factory.mktemp("outputs") / "lake"
    shutil.copytree(lake.root, root)
    made, key = Lake(str(root)), {"capture": CAPTURE, "hookpoint": HOOKPOINT}
    sides = {s: [{"token_id": 1, "text": s, "logit": 2.0}] for s in ("raised", "lowered")}
    made.upsert("outputs", [row("outputs", **key, latent=1, **sides)], scope=key)
    return made


@pytest.fixture(scope="module")
def con(lake):
    with lake.connect() as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_the_columns_types_and_grain_of_the_result(lake, con, name):
    query = queries.load(name)
    relation = con.sql(query.sql, params={p: value_of(lake, p) for p in query.params})
    found = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert {c: t.replace('"', "") for c, t in found.items()} == query.columns
    rows = [tuple(r[found_at(relation, g)] for g in query.grain) for r in relation.fetchall()]
    assert rows, "the test lake gives this query something to return"
    assert len(set(rows)) == len(rows)


def found_at(relation, column):
    return relation.columns.index(column)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_exactly_the_parameters_used(name):
    query = queries.load(name)
    (statement,) = duckdb.connect().extract_statements(query.sql)
    assert set(statement.named_parameters) == set(query.params)


# -- against the plain way --------------------------------------------------------------------

SHARE = st.integers(0, 20).map(lambda i: i / 20)
ONE = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["x", "y"]),
    st.none() | SHARE,
    SHARE,
    st.none() | SHARE,
    st.integers(0, 3),
)


def lake_of(root, ones):
    """Write one hookpoint with explanations and scores of several ages."""
    lake = Lake(str(root))
    key, time = {"capture": "c", "hookpoint": "h"}, now()
    lake.upsert(
        "captures",
        [row("captures", capture="c", created_at=time, context_tokens=8)],
        scope={"capture": "c"},
    )
    lake.upsert(
        "hookpoints",
        [row("hookpoints", **key, n_latents=6, bucket_latents=6)],
        scope=key,
    )
    latents = [row("latents", **key, latent=i, density=10.0**-i, status="ok") for i in range(6)]
    lake.upsert("latents", latents, scope=key)
    explanations, scores = {}, {}
    for latent, explainer, scorer, value, low, null, age in ones:
        name = f"{latent}{explainer}{age}"
        explanations[name] = row(
            "explanations", **key, latent=latent, explanation=name, explainer=explainer,
            text="t", status="ok", created_at=time.replace(year=2020 + age),
        )  # fmt: skip
        scores[name, scorer] = row(
            "scores", **key, latent=latent, explanation=name, scorer=scorer, settings="s",
            metric="m", value=value, ci_low=None if value is None else low, null_value=null, n=3,
            n_failed=1, status="ok" if value is not None else "timeout",
            created_at=time.replace(year=2020 + age),
        )  # fmt: skip
    lake.upsert("explanations", list(explanations.values()), scope=key)
    lake.upsert("scores", list(scores.values()), scope=key)
    return lake, list(explanations.values()), list(scores.values())


def standing(explanations, scores):
    """Return the scores of each (latent, explainer)'s newest explanation, the plain way."""
    newest = {}
    for e in explanations:
        key = (e["latent"], e["explainer"])
        if key not in newest or e["created_at"] > newest[key]["created_at"]:
            newest[key] = e
    names = {e["explanation"]: e["explainer"] for e in newest.values()}
    return [
        {**s, "explainer": names[s["explanation"]]} for s in scores if s["explanation"] in names
    ]


def test_a_lake_scored_by_others_is_sorted_by_their_own_metric(tmp_path):
    lake, _, scores = lake_of(tmp_path, [(1, "pattern", "intruder", 0.6, 0.5, 0.2, 1)])
    accuracy = [{**one, "metric": "accuracy"} for one in scores]
    lake.upsert("scores", accuracy, scope={"capture": "c", "hookpoint": "h"})
    with Reader(lake, load()) as reader:
        assert reader.metric == "accuracy"
        assert [pair.scorer for pair in reader.pairs] == ["intruder"]
    with pytest.raises(NotFound, match="balanced_accuracy"):
        Reader(lake, load(overrides=["score.headline=balanced_accuracy"]))


@given(st.lists(ONE, min_size=1, max_size=25))
@settings(derandomize=True, deadline=None, max_examples=6)
def test_summaries_equal_the_plain_means_over_standing_scores(tmp_path_factory, ones):
    lake, explanations, scores = lake_of(tmp_path_factory.mktemp("random"), ones)
    expected = defaultdict(list)
    for s in standing(explanations, scores):
        expected[s["explainer"], s["scorer"]].append(s)
    with Reader(lake, load(overrides=["score.headline=m"])) as reader:
        found = reader.summaries()["h"]
    assert {(s.pair.explainer, s.pair.scorer) for s in found} == set(expected)
    for s in found:
        mine = expected[s.pair.explainer, s.pair.scorer]
        values = [r["value"] for r in mine if r["value"] is not None]
        both = [r for r in mine if r["ci_low"] is not None and r["null_value"] is not None]
        assert s.n_latents == len(values)
        assert s.n_without == len(mine) - len(values)
        assert s.mean == (pytest.approx(sum(values) / len(values)) if values else None)
        assert s.n_compared == len(both)
        assert s.n_above == sum(r["ci_low"] > r["null_value"] for r in both)
        assert sum(b.n_own for b in s.histogram) == len(values)
        assert [b.n_own for b in s.histogram] == [
            sum(min(int(v * 20 + 1e-9), 19) == i for v in values) for i in range(20)
        ] or not values
        assert sum(d.n for d in s.by_density) == len(values)


@given(st.lists(ONE, min_size=1, max_size=25))
@settings(derandomize=True, deadline=None, max_examples=6)
def test_every_latent_is_listed_exactly_once(tmp_path_factory, ones):
    lake, explanations, scores = lake_of(tmp_path_factory.mktemp("random"), ones)
    with Reader(lake, load(overrides=["score.headline=m"])) as reader:
        scored = [one.latent for one in reader.listed(scored=True, n=100)]
        order = [one.headline.value for one in reader.listed(scored=True, n=100)]
        explained = [one.latent for one in reader.listed(scored=False, n=100)]
        rest = [i for group in reader.unexplained() for i in group.latents]
        (listing,) = reader.listings()
    values = [v for v in order if v is not None]
    assert values == sorted(values, reverse=True)
    assert order[: len(values)] == values
    assert sorted(scored + explained + rest) == list(range(6))
    assert (listing.n_scored, listing.n_explained) == (len(scored), len(explained))
    expected = {s["latent"] for s in standing(explanations, scores) if s["value"] is not None}
    assert set(scored) == expected


def test_rare_reasons_are_counted_when_groups_run_out(lake, config):
    with Reader(lake, config) as reader:
        groups = reader.unexplained(n_groups=1)
    assert [g.n for g in groups] == [1, 2]
    assert groups[-1].state == "other"


def test_a_batch_that_was_asked_twice_costs_two_replies(tmp_path):
    lake, key = Lake(str(tmp_path)), {"capture": "c", "hookpoint": "h"}
    made = {**key, "latent": 0, "explanation": "e"}
    rows = {
        "captures": [row("captures", capture="c", created_at=now(), context_tokens=8)],
        "explanations": [row("explanations", **made, explainer="default", status="ok")],
        "judgements": [
            row("judgements", **made, scorer="detection", item=i, reply_keys=["first", "second"])
            for i in range(3)
        ],
        "replies": [
            row("replies", key=k, status="ok", cost_state="priced", cost_usd=usd, model_served="m")
            for k, usd in (("first", 44.0), ("second", 44.0))
        ],
    }
    for table, found in rows.items():
        lake.upsert(table, found, scope={})
    with Reader(lake, load(), "c") as reader:
        cost = reader.costs["h", "default", "detection"]
    assert (cost.n_replies, cost.cost_usd) == (2, 88.0)


# -- bootstrap --------------------------------------------------------------------------------


def test_the_bootstrap_interval_is_that_of_the_mean():
    found = bootstrap_mean([0.0, 1.0], [400, 600])
    assert found.low == pytest.approx(0.6 - 1.96 * 0.0155, abs=0.004)
    assert found.high == pytest.approx(0.6 + 1.96 * 0.0155, abs=0.004)


def test_the_bootstrap_of_equal_values_has_no_width():
    found = bootstrap_mean([0.5], [10])
    assert (found.low, found.high) == (0.5, 0.5)


def test_one_latent_has_no_interval():
    assert bootstrap_mean([0.5], [1]) is None


def test_the_bootstrap_is_the_same_every_time():
    assert bootstrap_mean([0.1, 0.9], [5, 5]) == bootstrap_mean([0.1, 0.9], [5, 5])


def test_the_bootstrap_of_few_latents_reaches_as_far_as_students_interval():
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(300, 6)).round(4).tolist()
    means = [bootstrap_mean(values, [1] * 6) for values in draws]
    assert np.mean([m.low <= 0 <= m.high for m in means]) > 0.91
    ratios = [bootstrap_ratio(values, [1.0] * 6) for values in draws]
    assert np.mean([r.low <= 0 <= r.high for r in ratios]) > 0.91


def test_the_axis_of_a_metric_holds_every_value():
    def rows(low, high):
        return [{"lowest": low, "highest": high}, {"lowest": None, "highest": None}]

    assert scale(rows(0.2, 0.9)) == (0.0, 1.0)
    assert scale(rows(-0.1, 0.9)) == (-1.0, 1.0)
    assert scale(rows(-3.0, 17.5)) == (-5.0, 20.0)
    assert scale(rows(None, None)) == scale([]) == (0.0, 1.0)


def test_scores_that_stand_are_all_of_the_settings_that_were_scored_last(tmp_path):
    """A metric that only older settings had does not stand beside the newer ones' metrics."""
    lake, place = Lake(str(tmp_path / "lake")), {"capture": "c", "hookpoint": "h"}
    who = {**place, "latent": 1, "explanation": "e"}
    lake.upsert("explanations", [row("explanations", **who, explainer="x")], scope=place)
    said = [("old", "f1", 1, 3), ("old", "auroc", 1, 3), ("new", "f1", 2, 4)]
    lake.upsert(
        "scores",
        [
            row(
                "scores", **who, scorer="s", settings=settings, metric=metric, value=value,
                created_at=datetime(2026, month, 1, tzinfo=UTC),
            )
            for settings, metric, value, month in said
        ],
        scope=place,
    )  # fmt: skip
    with lake.connect() as con:
        found = con.execute("SELECT settings, metric, value FROM newest_scores('c')").fetchall()
        listed = queries.load("report/scores").table(con, capture="c", explanations=["e"])
    assert found == [("new", "f1", 2.0)]
    assert [(r["settings"], r["metric"]) for r in listed.to_pylist()] == [("new", "f1")]
