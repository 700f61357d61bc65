"""Two runs side by side: the pairs found, the differences and their intervals."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from statistics import NormalDist

import numpy as np
import pytest

from lakeinterp import cli
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from lakeinterp.report.compare import Run, compare, compare_all, matching, paired, pairs, runs
from lakeinterp.report.page import write_page
from lakeinterp.report.statistics import tail
from tests.lakes import row

PLACE = {"capture": "c", "hookpoint": "h"}


def two_runs(root, a, b, densities=None, p_values=None):
    """Write a lake in which explainers `a` and `b` have these scores, by latent."""
    lake = Lake(root)
    explanations, scores = [], []
    for name, values in (("a", a), ("b", b)):
        for latent, value in values.items():
            who = {**PLACE, "latent": latent, "explanation": f"{name}{latent}"}
            explanations.append(row("explanations", **who, explainer=name, settings="s", text="t"))
            scored = {**who, "scorer": "detection", "settings": "d", "metric": "f1_natural"}
            scores.append(row("scores", **scored, value=value, n=9, n_failed=1, status="ok"))
            scores[-1]["p_value"] = (p_values or {}).get(latent)
    lake.upsert("explanations", explanations, scope=PLACE)
    lake.upsert("scores", scores, scope=PLACE)
    counts = densities or dict.fromkeys(a, 1)
    rows = [row("latents", **PLACE, latent=i, n_activations=n) for i, n in counts.items()]
    lake.upsert("latents", rows, scope=PLACE)
    return lake


def compared(lake):
    ((a, b),) = pairs(lake, "a", "b")
    return {r["mean"]: r for r in compare(lake, a, b).rows}


def test_differences_are_of_shared_latents_counted_once_or_by_frequency(tmp_path):
    a, b = {0: 0.2, 1: 0.4, 2: 0.9}, {0: 0.3, 1: 0.8, 3: 0.1}
    found = compared(two_runs(str(tmp_path / "lake"), a, b, {0: 30, 1: 10, 2: 5}))
    assert found["macro"]["difference"] == pytest.approx((0.1 + 0.4) / 2)
    assert found["frequency"]["difference"] == pytest.approx((30 * 0.1 + 10 * 0.4) / 40)
    first = found["macro"]
    assert (first["n_a"], first["n_b"], first["n_better"], first["n_worse"]) == (2, 2, 2, 0)
    assert first["failed_a"] == pytest.approx(0.1)
    assert (first["alone_a"], first["alone_b"]) == (1, 1)


def test_the_interval_is_that_of_a_mean_of_paired_differences(tmp_path):
    rng = np.random.default_rng(7)
    level, gain = rng.uniform(0.2, 0.6, 400), rng.normal(0.05, 0.1, 400)
    a = dict(enumerate(level.tolist()))
    lake = two_runs(str(tmp_path / "lake"), a, dict(enumerate((level + gain).tolist())))
    found = compared(lake)["macro"]
    error = gain.std(ddof=1) / 20
    assert found["difference"] == pytest.approx(gain.mean())
    assert found["low"] == pytest.approx(gain.mean() - 1.96 * error, abs=0.25 * error)
    assert found["high"] == pytest.approx(gain.mean() + 1.96 * error, abs=0.25 * error)
    assert compared(lake)["macro"] == found


def test_discoveries_keep_the_false_ones_at_one_in_twenty(tmp_path):
    p = dict(enumerate([0.001, 0.011, 0.02, 0.039, 0.2, 0.5]))
    lake = two_runs(str(tmp_path / "lake"), dict.fromkeys(p, 0.5), {0: 0.5}, p_values=p)
    found = compared(lake)["macro"]
    # 0.02 <= 3 / 6 of 5 %, 0.039 > 4 / 6 of 5 %.
    assert (found["above_a"], found["above_b"]) == (3, 1)
    q = lake.sql(
        "SELECT latent, q_value FROM q_values('c', 'f1_natural') WHERE explainer = 'a' "
        "ORDER BY latent"
    ).fetchall()
    expected = [0.006, 0.033, 0.04, 0.0585, 0.24, 0.5]
    assert [value for _, value in q] == pytest.approx(expected)


def test_intervals_for_few_latents_end_further_out():
    assert tail(10**6) == pytest.approx(0.025, abs=1e-5)
    # Student's 97.5 % quantile for 9 degrees of freedom is 2.2622, for 2 it is 4.3027.
    normal = NormalDist()
    assert tail(10) == pytest.approx(normal.cdf(-2.2622 * math.sqrt(10 / 9)), rel=1e-3)
    assert normal.cdf(-4.3027 * math.sqrt(3 / 2)) < tail(3) == tail(2) == 0.001


def test_runs_are_named_by_what_they_are(tmp_path):
    lake = two_runs(str(tmp_path / "lake"), {0: 0.5}, {0: 0.6})
    assert [run.explainer for run in matching(runs(lake), "c b@s")] == ["b"]
    with pytest.raises(NotFound, match="a@s"):
        matching(runs(lake), "nobody")
    with pytest.raises(ConfigError, match="same run"):
        pairs(lake, "a", "a@s")


def test_a_name_of_an_explainer_and_a_scorer_is_read_as_what_the_other_side_names():
    def run(explainer, scorer):
        return Run(
            capture="c", coder="", explainer=explainer, made="m", scorer=scorer, settings="s"
        )

    every = [run(e, s) for e in ("pattern", "default") for s in ("pattern", "detection")]
    both = {("pattern", s) for s in ("pattern", "detection")}

    def named(found):
        return {(one.explainer, one.scorer) for one in found}

    assert named(matching(every, "pattern")) == both
    assert named(matching(every, "scorer=pattern")) == {
        (e, "pattern") for e in ("pattern", "default")
    }
    assert named(matching(every, "default pattern")) == {("default", "pattern")}
    assert named(matching(every, "pattern pattern")) == {("pattern", "pattern")}
    sides = [
        (x.explainer, x.scorer, y.explainer, y.scorer)
        for x, y in paired(every, "pattern", "default")
    ]
    assert sides == [("pattern", s, "default", s) for s in ("pattern", "detection")]
    sides = [
        (x.explainer, x.scorer, y.explainer, y.scorer)
        for x, y in paired(every, "pattern", "detection")
    ]
    assert sides == [(e, "pattern", e, "detection") for e in ("pattern", "default")]
    with pytest.raises(NotFound, match="run"):
        matching(every, "explainer=detection")


def test_the_command_prints_each_metric_with_its_interval(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    lake = two_runs(str(tmp_path / "lake"), {0: 0.2, 1: 0.4, 2: 0.1}, {0: 0.3, 1: 0.8})
    assert cli.run(["compare", "a", "b", "--lake", lake.root]) == 0
    shown = capsys.readouterr().out
    assert "latents with a score on one side alone: A 1, B 0" in shown
    assert "F1 at natural rate" in shown
    assert "0.25" in shown
    assert cli.run(["compare", "a", "nobody", "--lake", lake.root]) == 2


def test_pooled_figures_are_those_of_all_items_together(tmp_path):
    lake = two_runs(str(tmp_path / "lake"), {0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}, {0: 3, 1: 1})
    rng, rows = np.random.default_rng(3), []
    for latent in (0, 1):
        who = {**PLACE, "latent": latent, "explanation": f"a{latent}", "role": "own"}
        for item in range(20):
            truth, p = item % 2 == 0, round(float(rng.random()) + 0.2 * (item % 2 == 0), 1)
            said = {"truth": truth, "prediction": p > 0.5, "probability": p, "status": "ok"}
            rows.append(
                row("judgements", **who, scorer="detection", settings="d", item=item, **said)
            )
    lake.upsert("judgements", rows, scope=PLACE)
    ((a, b),) = pairs(lake, "a", "b")
    pooled, empty = compare(lake, a, b).pooled
    right = [
        [r["prediction"] == r["truth"] for r in rows if r["truth"] is t] for t in (True, False)
    ]
    assert pooled["reference_balanced_accuracy"] == pytest.approx(
        np.mean([np.mean(r) for r in right])
    )
    assert pooled["reference_f1"] == pytest.approx(f1(rows))
    by_latent = [f1([r for r in rows if r["latent"] == latent]) for latent in (0, 1)]
    assert pooled["reference_weighted_f1"] == pytest.approx((3 * by_latent[0] + by_latent[1]) / 4)
    yes, no = ([r["probability"] for r in rows if r["truth"] is t] for t in (True, False))
    ordered = [(p > q) + (p == q) / 2 for p in yes for q in no]
    assert pooled["reference_auroc"] == pytest.approx(np.mean(ordered))
    assert (empty["n"], empty["reference_f1"], empty["reference_auroc"]) == (0, None, None)


def test_pooled_figures_are_of_the_newest_explanation_and_of_random_windows(tmp_path, capsys):
    lake = two_runs(str(tmp_path / "lake"), {0: 0.5}, {0: 0.5})
    older = {**PLACE, "latent": 0, "explanation": "a0old", "explainer": "a", "settings": "s"}
    newer = {**older, "explanation": "a0new", "sample": "other"}
    times = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    made = [
        row("explanations", **e, created_at=t) for e, t in zip((older, newer), times, strict=True)
    ]
    lake.upsert("explanations", made, scope=PLACE)
    said = [
        ("a0old", "activating", True, False), ("a0old", "random", False, True),
        ("a0new", "activating", True, True), ("a0new", "random", False, False),
        ("a0new", "neighbour", False, True), ("b0", "activating", True, True),
    ]  # fmt: skip
    rows = [
        row(
            "judgements", **PLACE, latent=0, explanation=e, role="own", scorer="detection",
            settings="d", item=i, stratum=stratum, truth=truth, prediction=told, status="ok",
        )
        for i, (e, stratum, truth, told) in enumerate(said)
    ]  # fmt: skip
    lake.upsert("judgements", rows, scope=PLACE)
    ((a, b),) = pairs(lake, "a", "b")
    new, one_sided = compare(lake, a, b).pooled
    assert (new["n"], new["reference_balanced_accuracy"], new["reference_f1"]) == (2, 1, 1)
    assert set(one_sided.values()) == {1, None}
    assert cli.run(["compare", "a", "b", "--lake", lake.root]) == 0
    shown = capsys.readouterr().out
    assert "A as delphi reckons it" in shown
    assert "B as delphi reckons it" not in shown


def f1(rows):
    hits = sum(r["truth"] and r["prediction"] for r in rows)
    return 2 * hits / (sum(r["truth"] for r in rows) + sum(r["prediction"] for r in rows))


def test_the_page_has_a_section_for_the_runs_that_are_compared(lake, config, tmp_path):
    found = compare_all(lake, "pattern", "default detection", config)
    page = write_page(lake, tmp_path / "page.html", config, compared=found)
    plain = write_page(lake, tmp_path / "plain.html", config)
    assert len(found) == 1
    shown = page.read_text(encoding="utf-8")
    assert "<h2>Compared</h2>" in shown
    assert f"A: <bdi>{found[0].a}</bdi>" in shown
    assert "<h2>Compared</h2>" not in plain.read_text(encoding="utf-8")
