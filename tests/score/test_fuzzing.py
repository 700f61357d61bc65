"""Fuzzing with other texts and with neighbours: what is marked, and what comes of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import numpy as np
import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.explain import explain_unit
from lakeinterp.lake import Bench
from lakeinterp.lake.units import sample_id
from lakeinterp.score import score_unit
from lakeinterp.score.neighbours import run_at_peak, values_of_neighbours
from lakeinterp.score.stand_ins import stand_ins
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.planted_examples import WINDOW, planted_config, sampled_lake
from tests.score.test_intruder import RUN, said
from tests.score.test_moves import example

SIZE = {"n_sequences": 120, "n_latents": 6, "n_buckets": 2, "n_shards": 2}
UNIT = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=0)
NEIGHBOUR = 4
"""Of latents 0 and 1; it fires at random, in the other bucket."""


def settings(scorer):
    return planted_config(
        sampling={"latents": [0, 1]},
        explain={"explainer": "default"},
        score={"scorers": [scorer], "n_borrowed": 1},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = settings("fuzzing_neighbours")
    made = sampled_lake(tmp_path_factory.mktemp("fuzzing") / "lake", config, **SIZE)
    add_neighbour_windows(made, config)
    asyncio.run(explain_unit(made.lake, UNIT, config, ScriptedChat(said), **RUN))
    return made


def add_neighbour_windows(made, config):
    """Add score examples in which the neighbour fires and the latent does not."""
    rows = made.lake.rows("examples", "latent < 2")
    added = []
    for latent in (0, 1):
        mine = [r for r in rows if r["latent"] == latent]
        like = next(r for r in mine if r["role"] == "score" and r["stratum"] == "random")
        starts = [
            start
            for start in range(0, len(made.dense) - WINDOW, WINDOW)
            if made.dense[start : start + WINDOW, NEIGHBOUR].any()
            and not made.dense[start : start + WINDOW, latent].any()
            and len(set(made.documents.ravel()[start : start + WINDOW])) == 1
        ][:12]
        added += [
            {
                **like,
                "example": 500 + i,
                "stratum": "neighbour",
                "document": int(made.documents.ravel()[start]),
                "start": start,
                "tokens": made.tokens.ravel()[start : start + WINDOW].tolist(),
                "values": [0.0] * WINDOW,
                "neighbour": NEIGHBOUR,
            }
            for i, start in enumerate(starts)
        ]
    scope = {"capture": CAPTURE, "hookpoint": HOOKPOINT, "bucket": added[0]["bucket"]}
    made.lake.upsert("examples", added, scope=scope)
    assert sample_id(made.lake, CAPTURE, config.sampling) == added[0]["sample"]


def test_the_neighbours_activations_are_those_of_the_capture(made):
    config = settings("fuzzing_neighbours")
    bench = Bench(
        lake=made.lake,
        config=config,
        capture=CAPTURE,
        hookpoint=HOOKPOINT,
        sample=sample_id(made.lake, CAPTURE, config.sampling),
        latents=(0, 1),
    )
    found = values_of_neighbours(bench)
    rows = {
        (r["latent"], r["example"]): r for r in made.lake.rows("examples", "stratum = 'neighbour'")
    }
    assert found.keys() == rows.keys()
    assert len(rows) > 10
    for key, values in found.items():
        start = rows[key]["start"]
        expected = made.dense[start : start + WINDOW, NEIGHBOUR]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("scorer", ["fuzzing_texts", "fuzzing_neighbours"])
def test_a_judge_that_follows_the_explanation_tells_right_marks_from_wrong_ones(made, scorer):
    asyncio.run(score_unit(made.lake, UNIT, settings(scorer), ScriptedChat(said), **RUN))
    rows = made.lake.rows("judgements", f"scorer = '{scorer}' AND latent = 0 AND role = 'own'")
    ok = [r for r in rows if r["status"] == "ok"]
    assert len(ok) > 20
    assert Counter(r["truth"] for r in ok)[True] == len(ok) / 2
    strata = {r["stratum"] for r in ok if not r["truth"]}
    assert strata <= ({"neighbour"} if scorer.endswith("neighbours") else {"random", "neighbour"})
    scores = {
        r["metric"]: r for r in made.lake.rows("scores", f"scorer = '{scorer}' AND latent = 0")
    }
    assert scores["balanced_accuracy"]["value"] > 0.9
    assert not any(name.endswith("_natural") for name in scores)
    for row in rows:
        if row["status"] != "ok":
            assert row["status"] == "not_applicable"
            assert re.search(r"see sampling\.n_(random|neighbour)", row["reason"])


def test_without_neighbours_windows_nothing_applies(tmp_path):
    config = settings("fuzzing_neighbours")
    made = sampled_lake(tmp_path / "lake", config, **SIZE)
    asyncio.run(explain_unit(made.lake, UNIT, config, ScriptedChat(said), **RUN))
    asyncio.run(score_unit(made.lake, UNIT, config, ScriptedChat(said), **RUN))
    assert {r["status"] for r in made.lake.rows("judgements")} == {"not_applicable"}
    assert {r["value"] for r in made.lake.rows("scores")} == {None}


def test_a_stand_in_shows_something_at_every_mark_and_is_used_once():
    donors = [example(i, [0.0, 2.0, 1.0, 0.0], [" a", " b", ",", " c"]) for i in range(4)]
    hosts = [
        example(10 + i, [0.0] * 4, [" x", " y", p, " z"]) for i, p in enumerate(["", ",", " q"])
    ]
    found = stand_ins(donors, hosts, 0.3, (1,))
    assert [made.donor.example for made in found] == [0, 1]
    assert [made.host.example for made in found] == [11, 12]
    assert found[0].text(is_right=False) == " x<< y,>> z"
    assert found[0].text(is_right=True) == " a<< b,>> c"


def test_the_run_at_the_peak_ends_where_the_latent_is_weak_or_silent():
    run = run_at_peak([0.0, 1.0, 0.2, 0.9, 3.0, 1.0, 0.0, 2.0], 0.3)
    assert (run.first, run.n, run.peak) == (3, 3, 4)
    assert run_at_peak([0.0, 0.0], 0.3) is None


def test_windows_left_out_by_stopping_early_change_nothing_about_what_counts(tmp_path):
    """Silent windows are no items of moved marks, not even as items that nobody judged."""
    config = settings("fuzzing")
    config = config.model_copy(
        update={"score": config.score.model_copy(update={"adaptive_width": 0.5})}
    )
    made = sampled_lake(tmp_path / "lake", config, **SIZE)
    asyncio.run(explain_unit(made.lake, UNIT, config, ScriptedChat(said), **RUN))
    asyncio.run(score_unit(made.lake, UNIT, config, ScriptedChat(said), **RUN))
    rows = made.lake.rows("judgements", "latent = 0 AND role = 'own'")
    assert any(r["status"] == "stopped_early" and not r["truth"] for r in rows)
    (score,) = made.lake.rows("scores", "latent = 0 AND metric = 'balanced_accuracy'")
    assert score["value"] > 0.9
    assert score["n"] == sum(r["status"] == "ok" for r in rows)
