"""Judging until the interval is narrow enough, and judging twice."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.config import ScoreConfig
from lakeinterp.explain import explain
from lakeinterp.lake import Lake, queries
from lakeinterp.score import ToJudge, score
from lakeinterp.score.detection import DetectionScorer
from lakeinterp.score.fuzzing import FuzzingScorer
from lakeinterp.score.judging import judged_rows, mixture, rounds
from lakeinterp.score.scorer import ScoringTask
from lakeinterp.terms import Example, LatentId, digest
from tests.score.planted_examples import planted_config, sampled_lake
from tests.score.simulated import Items, Judge, coverage, judged, scores, truths
from tests.score.test_moves import LATENT, OWN, example, examples

RUN = {"run": "test"}
CONFIG = planted_config(
    sampling={"latents": [0]},
    explain={"explainer": "default"},
    score={"scorers": ["detection"], "n_borrowed": 0},
)


def words(request):
    """Return a judge that explains a latent as one word and calls texts with it active."""
    user = request.messages[-1].content
    if "unit respond to?" in user:
        return '{"explanation": "the word cat"}'
    return str([int(" cat" in line) for line in re.findall(r"^\d+: (.*)$", user, re.M)])


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """Return a planted lake whose first latent is explained."""
    made = sampled_lake(tmp_path_factory.mktemp("explained") / "lake", CONFIG, n_buckets=1)
    asyncio.run(explain(made.lake, CONFIG, ScriptedChat(words), **RUN))
    return Path(made.lake.root)


def judged_lake(explained, root, answer=words, **settings):
    """Score the first latent by detection, all over again; return lake and chat."""
    shutil.copytree(explained, root)
    lake, chat = Lake(str(root)), ScriptedChat(answer)
    config = CONFIG.model_copy(update={"score": CONFIG.score.model_copy(update=settings)})
    asyncio.run(score(lake, config, chat, **RUN))
    return lake, chat


def metric(lake, name):
    (row,) = lake.rows("scores", f"metric = '{name}' AND latent = 0")
    return row


def test_a_repeated_share_is_judged_in_other_calls_and_changes_no_other_metric(explained, tmp_path):
    once, _ = judged_lake(explained, tmp_path / "once")
    twice, chat = judged_lake(explained, tmp_path / "twice", repeat_share=1)
    rows = twice.rows("judgements")
    first = {r["item"]: r for r in rows if r["role"] == "own"}
    again = {-1 - r["item"]: r for r in rows if r["role"] == "repeat"}
    assert set(again) == set(first)
    together = [defaultdict(set), defaultdict(set)]
    for calls, of in zip(together, (first, again), strict=True):
        for item, row in of.items():
            calls[row["call"]].add(item)
    assert not {frozenset(c) for c in together[0].values()} & {
        frozenset(c) for c in together[1].values()
    }
    keys = [{key for r in of.values() for key in r["reply_keys"]} for of in (first, again)]
    assert not keys[0] & keys[1]
    assert chat.n_calls == 2 * len(together[0])
    agreement = metric(twice, "self_agreement")
    assert (agreement["value"], agreement["n"]) == (1, len(first))
    assert metric(twice, "self_kappa")["value"] == 1
    alike = {r["metric"]: (r["value"], r["ci_low"], r["n"]) for r in once.rows("scores")}
    assert alike == {
        r["metric"]: (r["value"], r["ci_low"], r["n"])
        for r in twice.rows("scores")
        if not r["metric"].startswith("self_")
    }


def test_a_judge_that_changes_its_mind_is_found_out(explained, tmp_path):
    def fickle(request):
        said = words(request)
        return said.translate(str.maketrans("01", "10")) if request.repeat else said

    lake, _ = judged_lake(explained, tmp_path / "lake", fickle, repeat_share=1)
    assert metric(lake, "self_agreement")["value"] == 0
    assert metric(lake, "self_kappa")["value"] < -0.9
    assert metric(lake, "balanced_accuracy")["value"] > 0.9


def test_repeats_that_fail_are_counted_as_failed(explained, tmp_path):
    lake, _ = judged_lake(
        explained, tmp_path / "lake", lambda r: "no" if r.repeat else words(r), repeat_share=1
    )
    row = metric(lake, "self_agreement")
    assert (row["value"], row["n"]) == (None, 0)
    assert row["n_failed"] == metric(lake, "balanced_accuracy")["n"]
    assert metric(lake, "balanced_accuracy")["n_failed"] == 0


def test_judging_stops_when_the_interval_is_narrow_and_says_what_it_left_out(explained, tmp_path):
    whole, all_asked = judged_lake(explained, tmp_path / "whole", items_per_prompt=1)
    early, asked = judged_lake(
        explained, tmp_path / "early", items_per_prompt=1, adaptive_width=0.45
    )
    assert asked.n_calls < 0.8 * all_asked.n_calls
    rows = early.rows("judgements")
    left_out = [r for r in rows if r["status"] == "stopped_early"]
    assert left_out
    items = {(r["item"], r["example"], r["truth"]) for r in whole.rows("judgements")}
    assert {(r["item"], r["example"], r["truth"]) for r in rows} == items
    assert len({r["call"] for r in rows if r["status"] == "ok"}) == len(rows) - len(left_out)
    row, full = metric(early, "balanced_accuracy"), metric(whole, "balanced_accuracy")
    assert (row["n"], row["n_failed"]) == (len(rows) - len(left_out), 0)
    assert row["ci_low"] < full["ci_low"]
    assert metric(early, "recall_natural")["value"] == metric(whole, "recall_natural")["value"] == 1


DOWN = Reply(key="", status="timeout", text=None, reason="slow")


class Killed(Exception):
    """Stands for the end of the process."""


def resumed(scorer, config, faults):
    """Return the rows of one task after one run a pattern of faults, and one without.

    A pattern says of the calls by number which of them time out, and which one kills the process:
    then no row is written.
    """
    active = examples(24, width=16, peak_at=12)
    silent = [example(24 + i, [0.0] * 16, [" a"] * 16) for i in range(24)]
    task = ScoringTask(latent=LATENT, examples=(*active, *silent), explanation=OWN, seed=22)
    held = {}
    for failing, killed in (*faults, (frozenset(), None)):
        n_asked = 0

        def answer(request, failing=failing, killed=killed):
            nonlocal n_asked
            n_asked += 1
            if n_asked == killed:
                raise Killed
            lines = re.findall(r"^\d+: (.*)$", request.messages[1].content, re.M)
            # A judge of some skill, who errs on what the text is, and at times cannot be read.
            drawn = [int(digest([request.repeat, line], size=2), 16) for line in lines]
            if drawn[0] % 17 == 0:
                return "no idea"
            said = [(d % 8 > 0) == (" a a" not in t) for d, t in zip(drawn, lines, strict=True)]
            return DOWN if n_asked in failing else str([int(label) for label in said])

        try:
            rows = asyncio.run(judged_rows({}, scorer, task, ScriptedChat(answer), config))
        except Killed:
            continue
        held |= {row["item"]: row for row in rows}
    return held


@pytest.mark.parametrize("kind", [DetectionScorer, FuzzingScorer])
@pytest.mark.parametrize("adaptive_width", [0.0, 0.75])
@given(
    faults=st.lists(
        st.tuples(st.frozensets(st.integers(1, 24), max_size=12), st.none() | st.integers(1, 24)),
        min_size=1,
        max_size=3,
    )
)
@settings(derandomize=True, deadline=None, max_examples=12)
def test_whatever_failed_or_was_killed_the_rows_are_those_of_an_undisturbed_run(
    kind, adaptive_width, faults
):
    config = ScoreConfig(adaptive_width=adaptive_width, repeat_share=1, items_per_prompt=2)
    scorer = kind(config)
    whole, found = resumed(scorer, config, ()), resumed(scorer, config, faults)
    assert found == whole
    statuses = {row["status"] for row in whole.values()}
    assert ("stopped_early" in statuses) == (adaptive_width > 0)
    shown = {item for item in whole if item >= 0}
    assert {-1 - item for item in whole if item < 0} == shown


def test_rounds_deal_every_cell_evenly():
    cells = [("activating", q) for q in (1, 2)] * 6 + [("random", None)] * 24
    examples = tuple(
        Example(
            sample="s", example=i, role="score", stratum=stratum, quantile=quantile, document=i,
            start=i, tokens=(1,), values=(0.0,), peak=0.0, peak_offset=None, population=1,
        )
        for i, (stratum, quantile) in enumerate(cells)
    )  # fmt: skip
    explanation = ToJudge(explanation="e", text="t", detail=None, role="own", explained_latent=0)
    task = ScoringTask(
        latent=LatentId(capture="c", hookpoint="h", latent=0),
        examples=examples,
        explanation=explanation,
        seed=1,
    )
    dealt = rounds(task, 12)
    assert [len(part) for part in dealt] == [12, 12, 12]
    assert {e.example for part in dealt for e in part} == set(range(36))
    for part in dealt:
        counted = Counter((e.stratum, e.quantile) for e in part)
        assert all(abs(counted[cell] - n / 3) <= 1 for cell, n in Counter(cells).items())


def test_detection_and_moved_fuzzing_may_be_cut_and_repeated():
    assert DetectionScorer(planted_config().score).is_itemwise


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        for name in queries.names("macros"):
            if name.startswith(("macros/mixture", "macros/wilson")):
                queries.load(name).run(con)
        yield con


def test_the_sequence_in_sql_is_the_one_that_decides(con):
    rows = con.execute(
        "SELECT k, n, mixture_low(k, n), mixture_high(k, n), wilson_low(k, n), wilson_high(k, n) "
        "FROM range(1, 40) AS a(n), range(0, 40) AS b(k) WHERE k <= n"
    ).fetchall()
    for k, n, low, high, wilson_low, wilson_high in rows:
        assert (low, high) == pytest.approx(mixture(k, n), abs=1e-9)
        # Of two or three alike the Poisson limit of Wilson's is the farther one.
        assert n <= 3 or low <= wilson_low + 1e-12
        assert n <= 3 or high >= wilson_high - 1e-12


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_sequence_holds_at_every_n_at_once_and_wilson_does_not(con, p):
    hits = np.cumsum(np.random.default_rng(2).random((400, 120)) < p, axis=1)
    ever = np.zeros((2, 400), dtype=bool)
    for n in range(5, 121):
        for run, k in enumerate(hits[:, n - 1].tolist()):
            low, high = mixture(k, n)
            ever[0, run] |= not low <= p <= high
            center, half = (k + 1.92) / (n + 3.84), 1.96 * np.sqrt(k * (n - k) / n + 0.96)
            ever[1, run] |= abs(p - center) > half / (n + 3.84)
    assert ever[0].mean() <= 0.05
    assert ever[1].mean() > 0.15


def test_intervals_cover_when_judging_stops_early():
    judge = Judge(call=0.2, document=0.2)
    items = Items(
        n_latents=120, n_quantiles=5, n_each=20, n_random=100, n_borrowed=0, stop_width=0.25
    )
    tables, known = judged(judge, items, seed=8), truths(judge, items)
    n_ok = tables["judgements"]["status"].to_pylist().count("ok")
    assert n_ok < 0.7 * 120 * items.n
    with duckdb.connect() as con:
        found = scores(con, tables, is_sequential=True)
    for name in ("tpr", "fpr", "balanced_accuracy", "f1_natural", "auprc_natural"):
        assert coverage(found, name, known[name])[0] >= 0.94, name
