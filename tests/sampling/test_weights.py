"""Weights: sums over drawn windows are, over many seeds, the sums over all windows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from lakeinterp.config import SamplingConfig
from lakeinterp.explain.columns import lay_out, weights
from lakeinterp.sampling import open_session
from lakeinterp.sampling.arrays import mix
from lakeinterp.sampling.examples import draw
from lakeinterp.sampling.placing import Setting
from lakeinterp.sampling.positives import positives
from lakeinterp.sampling.runs import Windows
from lakeinterp.sampling.silence import random_windows
from lakeinterp.sampling.tiles import ROLES, Tiles
from lakeinterp.terms import Example, Unit
from tests.planted import CAPTURE, CAT, HOOKPOINT, planted_lake

ALIGNED, BY_PEAK = Setting(16, None), Setting(16, 12)
CONFIG = SamplingConfig(window_tokens=16, n_quantiles=5, min_windows=1, mix_top=0.3)
LATENTS = np.arange(4, 8)
SCORE = ROLES.index("score")
N_DRAWN = 12


class Corpus(NamedTuple):
    tiles: Tiles
    windows: Windows
    unit: Unit
    mine: np.ndarray
    """Windows of the role `score`, places in `windows`."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    lake = planted_lake(str(tmp_path_factory.mktemp("weights")), n_sequences=150, seed=2).lake
    unit = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=1)
    with open_session(lake, CAPTURE, CONFIG) as session:
        session.windows(unit, LATENTS.tolist())
        tiles, windows = session.tiles, session.found
    mine = np.flatnonzero(tiles.role[windows.number] == SCORE)
    return Corpus(tiles, windows, unit, mine)


def functions(windows, of):
    """Return what is summed over windows: their number and three things they differ in."""
    total = windows.mass()[of]
    return np.stack([np.ones(len(of)), windows.n[of], total, windows.peak[of] > 0.5])


def summed(group, values, weight):
    """Return weighted sums of each function by latent; shape [functions, latents]."""
    return np.stack([np.bincount(group, v * weight, len(LATENTS)) for v in values])


def z_scores(estimates, truth):
    """Return by how many standard errors the mean of estimates is off; shape as `truth`."""
    mean, n = estimates.mean(axis=0), len(estimates)
    error = estimates.std(axis=0, ddof=1) / np.sqrt(n)
    is_exact = np.isclose(mean, truth, rtol=1e-9)
    return np.where(is_exact, 0, (mean - truth) / np.maximum(error, 1e-12))


def drawn(corpus, how, seed, n, setting=ALIGNED):
    config = CONFIG.model_copy(update={"seed": seed})
    return positives(corpus.windows, corpus.tiles, LATENTS, SCORE, n, how, config, setting)


@pytest.mark.parametrize("how", ["random", "quantiles", "mix", "importance"])
def test_sums_with_weights_are_unbiased(corpus, how):
    windows = corpus.windows
    truth = summed(windows.latent[corpus.mine] - LATENTS[0], functions(windows, corpus.mine), 1.0)
    estimates, plain = [], []
    for seed in range(400):
        found = drawn(corpus, how, seed, N_DRAWN)
        values = functions(windows, found.window)
        assert np.bincount(found.group).tolist() == [N_DRAWN] * len(LATENTS)
        estimates.append(summed(found.group, values, found.weight))
        plain.append(summed(found.group, values, found.n_windows[found.group] / N_DRAWN))
    assert np.abs(z_scores(np.stack(estimates), truth)).max() < 4
    # Without weights the draws that prefer strong windows are far off.
    is_fair = how in ("random", "quantiles")
    assert is_fair or np.abs(z_scores(np.stack(plain), truth)).max() > 20


def test_windows_that_had_no_chance_leave_the_others_without_weights(corpus):
    sizes = np.bincount(corpus.windows.latent[corpus.mine] - LATENTS[0])
    for how, n in (("top", N_DRAWN), ("quantiles", 4), ("mix", 5)):
        assert np.isnan(drawn(corpus, how, 1, n).weight).all()
    for how in ("top", "quantiles", "mix", "random", "importance"):
        every = drawn(corpus, how, 1, 200)
        assert np.array_equal(np.bincount(every.group), sizes)
        assert every.weight == pytest.approx(1)


def reseeded(tiles, seed):
    """Return tiles of the same roles on the ring of another seed."""
    ring = mix(mix(seed, -1), tiles.tile)
    rings = []
    for role in range(len(ROLES)):
        numbers = np.flatnonzero(tiles.role == role)
        numbers = numbers[np.argsort(ring[numbers], kind="stable")].astype(np.int32)
        rings.append((ring[numbers], numbers))
    return replace(tiles, rings=tuple(rings))


@pytest.mark.parametrize("setting", [ALIGNED, BY_PEAK], ids=["aligned", "peak"])
def test_random_windows_are_uniform_over_the_silent_tiles(corpus, setting):
    tiles, windows = corpus.tiles, corpus.windows
    n_active = np.bincount(windows.latent[corpus.mine] - LATENTS[0])
    n_tiles = np.count_nonzero(tiles.role == SCORE)
    hits = np.zeros((len(LATENTS), len(tiles)))
    estimates = []
    n_cats = np.add.reduceat(tiles.text == CAT, tiles.tile)
    for seed in range(400):
        found = random_windows(
            windows, reseeded(tiles, seed), LATENTS, SCORE, N_DRAWN, n_active, seed, setting
        )
        assert np.bincount(found.group).tolist() == [N_DRAWN] * len(LATENTS)
        np.add.at(hits, (found.group, found.number), 1)
        weight = found.population / N_DRAWN
        estimates.append(summed(found.group, n_cats[found.number][None], weight))
    fires = np.zeros(hits.shape, dtype=bool)
    fires[windows.latent - LATENTS[0], windows.number] = True
    silent = (tiles.role == SCORE) & ~fires
    assert not hits[~silent].any()
    assert (silent.sum(axis=1) == n_tiles - n_active).all()
    truth = (silent * n_cats).sum(axis=1)[None]
    by_document = [
        np.bincount(np.unique(tiles.document, return_inverse=True)[1], some.sum(axis=0))
        for some in (hits, silent * (hits.sum(axis=1) / silent.sum(axis=1))[:, None])
    ]
    there = by_document[1] > 0
    chi = ((by_document[0] - by_document[1])[there] ** 2 / by_document[1][there]).sum()
    if setting is ALIGNED:
        assert np.abs(z_scores(np.stack(estimates), truth)).max() < 4
        assert chi < np.count_nonzero(there) + 4 * np.sqrt(2 * np.count_nonzero(there))
    else:
        # A window that overlaps an earlier one waits, and one that has no room is passed over.
        assert chi < 4 * np.count_nonzero(there)


# -- readers ----------------------------------------------------------------------------------


def example(stratum="activating", quantile=None, population=1, weight=None, document=1):
    return Example(
        sample="s", example=0, role="explain", stratum=stratum, quantile=quantile,
        document=document, start=0, tokens=(1, 2), values=(0.0, float(stratum == "activating")),
        peak=0.0, peak_offset=None, population=population, weight=weight, pieces=("a", "b"),
    )  # fmt: skip


def test_an_explainers_evidence_weighs_what_its_examples_say():
    drawn = [example(quantile=1, population=9, weight=w) for w in (1.0, 7.5)]
    drawn += [example("random", population=60, weight=30.0) for _ in range(2)]
    assert weights(drawn).tolist() == [1.0, 7.5, 30.0, 30.0]
    assert lay_out(drawn).weight.tolist() == [[w, w] for w in (1.0, 7.5, 30.0, 30.0)]


def test_chosen_windows_share_what_they_stand_for_and_silent_ones_are_counted_once():
    top = [example(quantile=q, population=p) for q, p in ((1, 10), (1, 10), (2, 6))]
    assert weights(top).tolist() == [5, 5, 6]
    hard = [example("same_token", population=30) for _ in range(3)]
    assert weights(hard).tolist() == [10, 10, 10]
    both = [*hard, *[example("random", population=60, weight=30.0) for _ in range(2)]]
    assert weights(both).sum() == pytest.approx(60)
    assert weights(both)[3] == pytest.approx(3 * weights(both)[0])


def test_weights_in_the_lake_are_those_that_were_simulated(tmp_path):
    planted = planted_lake(str(tmp_path), n_sequences=60)
    config = CONFIG.model_copy(
        update={"placement": "aligned", "explain_draw": "importance", "n_random": N_DRAWN}
    )
    unit = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=1)
    with open_session(planted.lake, CAPTURE, config) as session:
        rows = draw(session, unit, [4]).to_pylist()
        found = positives(
            session.found, session.tiles, np.array([4]), 0, config.n_explain, "importance", config,
            session.setting,
        )  # fmt: skip
    mine = {
        r["start"]: r["weight"] for r in rows if (r["role"], r["peak"] > 0) == ("explain", True)
    }
    assert mine == dict(zip(found.start.tolist(), found.weight.tolist(), strict=True))
    silent = [r for r in rows if (r["role"], r["stratum"]) == ("score", "random")]
    assert Counter(r["weight"] for r in silent) == {silent[0]["population"] / N_DRAWN: N_DRAWN}
