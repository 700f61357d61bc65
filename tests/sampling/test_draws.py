"""Tiles and draws against the same worked out token by token."""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from lakeinterp.config import SamplingConfig
from lakeinterp.config.sampling import Draw
from lakeinterp.explain.columns import lay_out
from lakeinterp.sampling import open_session
from lakeinterp.sampling.examples import draw
from lakeinterp.sampling.positives import turns
from lakeinterp.terms import Example, Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake
from tests.sampling import truth
from tests.sampling.small import random_lake

CONTEXT = 64
DRAWS = get_args(Draw)
UNITS = [Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=b) for b in range(3)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return planted_lake(str(tmp_path_factory.mktemp("planted")), n_sequences=90, seed=3)


@pytest.fixture(scope="module")
def lakes(planted, tmp_path_factory):
    """Return the planted lake, and one whose documents are of a few tokens each."""
    root = str(tmp_path_factory.mktemp("short"))
    return {"planted": planted, "short": random_lake(root, 5, 24, 40, (0.05, 0.2, 0.6))}


configs = st.builds(
    SamplingConfig,
    window_tokens=st.sampled_from([5, 16, 32]),
    placement=st.sampled_from(["peak", "aligned"]),
    peak_at=st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    n_quantiles=st.sampled_from([1, 3, 10]),
    explain_draw=st.sampled_from(DRAWS),
    score_draw=st.sampled_from(DRAWS),
    mix_top=st.sampled_from([0.0, 0.2, 1.0]),
    n_explain=st.integers(1, 30),
    n_score=st.integers(1, 30),
    n_explain_negatives=st.integers(0, 30),
    n_random=st.integers(0, 200),
    explain_share=st.sampled_from([0.1, 0.5, 0.8]),
    seed=st.integers(0, 1000),
    min_windows=st.sampled_from([1, 5, 40]),
)
few = settings(
    max_examples=12, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)


@few
@given(config=configs)
def test_tiles_cut_every_document_span_from_its_start(planted, config):
    with open_session(planted.lake, CAPTURE, config) as session:
        rows = session.con.execute("SELECT * EXCLUDE (ring) FROM tiles ORDER BY number").fetchall()
    assert [truth.Tile(*row) for row in rows] == truth.tiles(planted, config)
    covered = Counter(i for row in rows for i in range(row[1], row[1] + row[2]))
    assert set(covered) == set(np.flatnonzero(planted.documents.ravel() >= 0))
    assert set(covered.values()) == {1}


crowded = SamplingConfig(
    window_tokens=5, n_quantiles=3, n_explain=70, n_score=75, peak_at=0.5, min_windows=5
)
"""So many windows of one latent that overlaps decide who is drawn."""
exhausted = crowded.model_copy(update={"n_quantiles": 10, "n_explain": 105, "n_score": 110})
"""Nearly all windows are drawn, so some quantiles have only overlapping ones left."""
scarce = crowded.model_copy(update={"n_quantiles": 10, "n_explain": 6, "n_score": 7})
"""Fewer windows are drawn than there are quantiles."""

leading = exhausted.model_copy(update={"mix_top": 1.0})
"""The strongest meet each other, and what is taken for them comes from far down the other cells."""


def drawing(config, explain, score):
    return config.model_copy(update={"explain_draw": explain, "score_draw": score})


@few
@example(config=crowded, unit=UNITS[0], which="planted")
@example(config=exhausted, unit=UNITS[0], which="planted")
@example(config=scarce, unit=UNITS[0], which="planted")
@example(config=drawing(crowded, "top", "mix"), unit=UNITS[0], which="planted")
@example(config=drawing(crowded, "importance", "random"), unit=UNITS[0], which="planted")
@example(config=drawing(exhausted, "random", "importance"), unit=UNITS[0], which="planted")
@example(config=drawing(leading, "mix", "top"), unit=UNITS[0], which="planted")
@example(config=drawing(scarce, "mix", "importance"), unit=UNITS[1], which="planted")
@given(config=configs, unit=st.sampled_from(UNITS), which=st.sampled_from(["planted", "short"]))
def test_draws_are_those_of_a_draw_done_by_hand(lakes, config, unit, which):
    planted = lakes[which]
    n_here = planted.dense.shape[1] // 3
    latents = list(range(unit.bucket * n_here, unit.bucket * n_here + n_here))
    with open_session(planted.lake, CAPTURE, config) as session:
        rows = draw(session, unit, latents).to_pylist()
    found = {}
    for row in rows:
        found.setdefault((row["latent"], row["role"], row["stratum"]), []).append(row)
    tile_list = truth.tiles(planted, config)
    n_tiles = Counter(t.role for t in tile_list)
    for latent in latents:
        active = truth.windows(planted, tile_list, latent)
        if len(active) < config.min_windows or not active:
            assert not [row for row in rows if row["latent"] == latent]
            continue
        for role in ("explain", "score"):
            check_positives(planted, config, found, active, latent, role)
            check_negatives(planted, config, found, tile_list, active, latent, role, n_tiles)


def check_positives(planted, config, found, active, latent, role):
    n = config.n_explain if role == "explain" else config.n_score
    how = config.explain_draw if role == "explain" else config.score_draw
    rows = found.get((latent, role, "activating"), [])
    expected = truth.positives(
        planted, active, latent, role, n, how, config, turns(config.n_quantiles)
    )
    shown = [(r["start"], len(r["tokens"]), r["quantile"], r["population"]) for r in rows]
    assert sorted(shown) == sorted(e[:4] for e in expected)
    # As many as asked for, or all that differ; none twice.
    there = {truth.shown(t, at, config)[0] for t, (_, at) in active.items() if t.role == role}
    assert len(rows) == len({row["start"] for row in rows}) == min(n, len(there))
    of = {e[0]: e for e in expected}
    for row in rows:
        *_, weight, tile = of[row["start"]]
        assert row["weight"] == (weight if weight is None else pytest.approx(weight, rel=1e-12))
        peak, token = active[tile]
        assert (row["peak"], row["start"] + row["peak_offset"]) == (peak, token)
        assert row["document"] == tile.document
        check_text(planted, row, latent)
    order = [(r["quantile"], r["example"]) for r in rows]
    assert order == sorted(order)


@pytest.mark.parametrize("config", [crowded, scarce])
def test_populations_of_the_drawn_quantiles_sum_to_all_windows_of_a_role(planted, config):
    """Also where some quantiles are not drawn at all."""
    with open_session(planted.lake, CAPTURE, config) as session:
        rows = draw(session, UNITS[0], [0, 1, 2, 3]).to_pylist()
    examples = [
        Example(pieces=("x",) * len(r["tokens"]), **r)
        for r in (
            {k: v for k, v in row.items() if k in Example.__slots__}
            for row in rows
            if row["stratum"] == "activating"
        )
    ]
    tile_list, n_undrawn = truth.tiles(planted, config), 0
    drawn = {(row["latent"], row["role"]) for row in rows if row["stratum"] == "activating"}
    latents = [row["latent"] for row in rows if row["stratum"] == "activating"]
    for latent, role in drawn:
        active = truth.windows(planted, tile_list, latent)
        mine = [
            e for e, of in zip(examples, latents, strict=True) if (of, e.role) == (latent, role)
        ]
        there = {
            q for t, q in truth.quantiles(active, config.n_quantiles).items() if t.role == role
        }
        n_undrawn += len(there - {e.quantile for e in mine})
        weight = lay_out(mine).weight.max(axis=1)
        assert weight.sum() == pytest.approx(sum(t.role == role for t in active))
    assert config is crowded or n_undrawn


def check_negatives(planted, config, found, tile_list, active, latent, role, n_tiles):
    n = config.n_explain_negatives if role == "explain" else config.n_random
    rows = found.get((latent, role, "random"), [])
    expected = truth.negatives(planted, tile_list, active, latent, role, n, config)
    assert [(r["start"], len(r["tokens"])) for r in rows] == [e[:2] for e in expected]
    for row in rows:
        assert row["population"] == n_tiles[role] - sum(t.role == role for t in active)
        assert not any(row["values"])
        assert (row["peak"], row["peak_offset"], row["quantile"]) == (0, None, None)
        check_text(planted, row, latent)


def check_text(planted, row, latent):
    span = slice(row["start"], row["start"] + len(row["tokens"]))
    assert row["tokens"] == planted.tokens.ravel()[span].tolist()
    assert row["values"] == planted.dense[span, latent].tolist()
    assert set(planted.documents.ravel()[span]) == {row["document"]}


@given(n=st.integers(1, 60))
def test_any_first_few_turns_are_spread_over_the_quantiles(n):
    order = turns(n)
    assert sorted(order) == list(range(n))
    for taken in range(1, n + 1):
        chosen = [q for q in range(n) if order[q] < taken]
        gaps = np.diff([-1, *chosen, n])
        assert max(gaps) <= 2 * math.ceil(n / taken) + 1
