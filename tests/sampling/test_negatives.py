"""Hard negatives: same-token, neighbour and similar windows on which the latent is silent."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.config import SamplingConfig
from lakeinterp.errors import LakeError
from lakeinterp.lake.units import latents_of, units
from lakeinterp.sampling import neighbours, similar, strata
from lakeinterp.sampling.draws import draw_positives
from lakeinterp.sampling.examples import draw, examples_unit
from lakeinterp.sampling.run import sample_unit
from lakeinterp.sampling.session import open_session, session_for
from lakeinterp.sampling.statistics import statistics_unit
from tests.planted import CAPTURE, HOOKPOINT, WORDS, planted_lake, table_of
from tests.sampling import truth
from tests.sampling.test_similar import Words

HARD = ("same_token", "neighbour", "similar")


def settings_for(**more):
    return SamplingConfig(
        window_tokens=16,
        min_windows=5,
        n_explain=6,
        n_score=6,
        n_random=6,
        n_explain_negatives=4,
        n_nearest=4,
        **more,
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    found = planted_lake(str(tmp_path_factory.mktemp("lake")), n_sequences=120)
    neighbours.cooccurrence(found.lake, CAPTURE, HOOKPOINT, settings_for())
    return found


def candidates(planted, config, unit):
    """Return the rows of `candidates` of a unit by (latent, role, stratum), in their order."""
    latents = list(latents_of(planted.lake, unit))
    with session_for(planted.lake, unit, config, None) as session:
        session.windows(unit, latents)
        draw_positives(session, latents)
        strata.candidates(session, unit, latents)
        cursor = session.con.execute("SELECT * FROM candidates ORDER BY place")
        names = [column[0] for column in cursor.description]
        found = defaultdict(list)
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            found[row["latent"], row["role"], row["stratum"]].append(row)
    return found


def along_the_ring(tiles, config, salt, latent, n_bits=32):
    """Return tiles in the order in which a latent walks the ring for one stratum."""
    origin = truth.mix(truth.mix(config.seed, salt), latent) >> 32 - n_bits << 32 - n_bits
    ring = truth.mix(config.seed, -1)
    return sorted(tiles, key=lambda t: ((truth.mix(ring, t.tile) - origin) % 2**32, t.number))


def same_token(planted, tiles, config, latent, role, n):
    """Return (population, [(number, token)]) of the same-token stratum."""
    flat = planted.tokens.ravel()
    active = truth.windows(planted, tiles, latent)
    peaks = Counter(int(flat[token]) for _, token in active.values())
    top = sorted(peaks, key=lambda i: (-peaks[i], i))[: strata.N_PEAK_TOKENS]
    silent = [t for t in tiles if t.role == role and t not in active]
    turns = {}
    for i in top:
        holding = [t for t in silent if i in flat[list(t.span)]]
        for k, t in enumerate(along_the_ring(holding, config, -4, latent, 8), 1):
            place = (k / peaks[i], -peaks[i], i)
            turns[t] = min(place, turns.get(t, place))
    ordered = sorted(turns, key=turns.get)[: 2 * n + 10]
    first = {t: next(j for j in t.span if flat[j] == turns[t][2]) for t in ordered}
    return len(turns), [(t.number, first[t]) for t in ordered]


def neighbour(planted, tiles, config, latent, role, n):
    """Return (population, [(number, neighbour)]) of the neighbour stratum."""
    fired = [set(np.flatnonzero(column)) for column in planted.dense.T]
    near = sorted(
        (-len(fired[latent] & other) / len(fired[latent] | other), j)
        for j, other in enumerate(fired)
        if j != latent and other & fired[latent]
    )[: config.n_nearest]
    cap = max(1, int(config.neighbour_share * n))
    of = defaultdict(list)
    for t in tiles:
        fires = [j for _, j in near if planted.dense[list(t.span), j].any()]
        if t.role == role and fires and not planted.dense[list(t.span), latent].any():
            of[fires[0]].append(t)
    ordered = {j: along_the_ring(found, config, -5, latent)[:cap] for j, found in of.items()}
    ranked = sorted(
        (k, r, t.number, j)
        for r, (_, j) in enumerate(near)
        for k, t in enumerate(ordered.get(j, []))
    )
    return sum(map(len, of.values())), [(number, j) for _, _, number, j in ranked]


@settings(derandomize=True, deadline=None, max_examples=4, phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**31 - 1),
    n=st.tuples(*[st.integers(0, 9)] * 4),
    share=st.sampled_from([0.1, 0.25, 1.0]),
)
def test_candidates_are_those_that_looking_at_every_tile_finds(planted, seed, n, share):
    config = settings_for(
        seed=seed,
        neighbour_share=share,
        n_same_token=n[0],
        n_neighbour=n[1],
        n_explain_same_token=n[2],
        n_explain_neighbour=n[3],
    )
    tiles = truth.tiles(planted, config)
    unit = units(planted.lake, CAPTURE)[seed % 3]
    found = candidates(planted, config, unit)
    expected = 0
    for latent in latents_of(planted.lake, unit):
        if len(truth.windows(planted, tiles, latent)) < config.min_windows:
            continue
        for (role, stratum), wanted in strata.asked(config).items():
            brute = {"same_token": same_token, "neighbour": neighbour}[stratum]
            population, rows = brute(planted, tiles, config, latent, role, wanted)
            got = found[latent, role, stratum]
            second = "token" if stratum == "same_token" else "neighbour"
            assert [(row["number"], row[second]) for row in got] == rows
            assert {row["population"] for row in got} <= {population}
            assert [row["place"] for row in got] == list(range(len(got)))
            assert {row["n"] for row in got} <= {wanted}
            expected += len(rows)
    assert sum(map(len, found.values())) == expected


@pytest.fixture(scope="module")
def config():
    return settings_for(
        n_same_token=5,
        n_neighbour=8,
        n_explain_same_token=3,
        n_explain_neighbour=4,
        neighbour_methods=("cooccurrence",),
    )


@pytest.fixture(scope="module")
def drawn(planted, config):
    """Return the rows of `examples` of every unit, drawn, audited and written."""
    for unit in units(planted.lake, CAPTURE):
        statistics_unit(planted.lake, unit, config)
    done = [examples_unit(planted.lake, unit, config) for unit in units(planted.lake, CAPTURE)]
    rows = table_of(planted.lake, "examples").to_pylist()
    return done, sorted(rows, key=lambda row: (row["latent"], row["example"]))


def test_hard_negatives_are_silent_over_the_whole_window_and_of_their_role(planted, config, drawn):
    roles = {t.document: t.role for t in truth.tiles(planted, config)}
    hard = [row for row in drawn[1] if row["stratum"] in HARD]
    assert {row["stratum"] for row in hard} == {"same_token", "neighbour"}
    for row in hard:
        shown = slice(row["start"], row["start"] + len(row["tokens"]))
        assert not planted.dense[shown, row["latent"]].any()
        assert roles[row["document"]] == row["role"]
        assert set(row["values"]) == {0}
        assert set(planted.documents.ravel()[shown]) == {row["document"]}


def test_a_neighbour_window_shows_its_neighbour_and_none_has_more_than_its_share(
    planted, config, drawn
):
    of = Counter()
    for row in drawn[1]:
        if row["stratum"] == "neighbour":
            shown = slice(row["start"], row["start"] + len(row["tokens"]))
            assert planted.dense[shown, row["neighbour"]].any()
            assert 0 < row["similarity"] <= 1
            of[row["latent"], row["role"], row["neighbour"]] += 1
        else:
            assert row["neighbour"] is None
    assert max(n for (_, role, _), n in of.items() if role == "score") == 2
    assert max(n for (_, role, _), n in of.items() if role == "explain") == 1


def test_a_same_token_window_holds_a_token_that_the_latent_peaks_on(planted, config, drawn):
    flat = planted.tokens.ravel()
    tiles = truth.tiles(planted, config)
    for row in drawn[1]:
        if row["stratum"] == "same_token":
            active = truth.windows(planted, tiles, row["latent"])
            peaks = Counter(int(flat[token]) for _, token in active.values())
            assert set(row["tokens"]) & {i for i, _ in peaks.most_common(99)}


def test_the_number_asked_for_is_met_or_the_shortfall_is_stated(config, drawn):
    done, rows = drawn
    held = Counter((row["latent"], row["role"], row["stratum"]) for row in rows)
    latents = {row["latent"] for row in rows}
    missing = Counter()
    for (role, stratum), n in strata.asked(config).items():
        for latent in latents:
            assert held[latent, role, stratum] <= n
            missing[role, stratum] += n - held[latent, role, stratum]
    # Latent 0 fires wherever its one token stands, so there is no window to show.
    assert missing["score", "same_token"] >= 5
    stated = Counter()
    for unit in done:
        for shortfall in unit.shortfalls:
            stated[shortfall.role, shortfall.stratum] += shortfall.n_missing
    assert {k: n for k, n in missing.items() if n} == {
        k: n for k, n in stated.items() if k[1] in HARD
    }


def test_a_draw_depends_on_seed_latent_and_text_alone(planted, config, drawn, tmp_path):
    other = planted_lake(str(tmp_path), n_sequences=120, n_buckets=1, n_shards=3)
    neighbours.cooccurrence(other.lake, CAPTURE, HOOKPOINT, config)
    (unit,) = units(other.lake, CAPTURE)
    with open_session(other.lake, CAPTURE, config, hookpoint=HOOKPOINT) as session:
        session.con.execute("SET threads = 1")
        rows = draw(session, unit, [9, 1, 4]).to_pylist()
    names = ("latent", "role", "stratum", "start", "population", "neighbour", "similarity")
    again = sorted(tuple(str(row[name]) for name in names) for row in rows)
    first = [row for row in drawn[1] if row["latent"] in (1, 4, 9)]
    assert again == sorted(tuple(str(row[name]) for name in names) for row in first)


def test_neighbours_that_nobody_counted_are_asked_for(tmp_path):
    planted = planted_lake(str(tmp_path), n_sequences=20)
    config = settings_for(n_neighbour=3)
    unit = units(planted.lake, CAPTURE)[0]
    statistics_unit(planted.lake, unit, config)
    with pytest.raises(LakeError, match="no neighbours by cooccurrence"):
        examples_unit(planted.lake, unit, config)
    assert sample_unit(planted.lake, unit, config).n_drawn


# -- similar ----------------------------------------------------------------------------------


def test_similar_windows_are_the_nearest_silent_ones_of_the_role(planted, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(similar, "open_embedder", lambda *_: Words())
    config = settings_for(n_similar=4, n_explain_similar=3, similar_to=2)
    unit = units(planted.lake, CAPTURE)[1]
    tiles = truth.tiles(planted, config)
    flat = planted.tokens.ravel()
    vectors = Words()([" ".join(WORDS[flat[i]] for i in t.span) for t in tiles])
    found = candidates(planted, config, unit)
    assert set(found) == {
        (latent, role, "similar") for latent in range(4, 8) for role in ("explain", "score")
    }
    for (latent, role, _), rows in found.items():
        active = truth.windows(planted, tiles, latent)
        own = sorted((t for t in active if t.role == role), key=lambda t: (-active[t][0], t.number))
        near = vectors[[t.number for t in own[:2]]] @ vectors.T
        for row in rows:
            t = tiles[row["number"]]
            assert t.role == role
            assert t not in active
            assert min(abs(near[:, t.number] - row["similarity"])) < 2e-4
        best = max(near[:, t.number].max() for t in tiles if t.role == role and t not in active)
        assert max(row["similarity"] for row in rows) == pytest.approx(best, abs=2e-4)
        assert len(rows) == min(rows[0]["population"], 2 * rows[0]["n"] + 10)
    latents = list(latents_of(planted.lake, unit))
    with session_for(planted.lake, unit, config, None) as session:
        rows = draw(session, unit, latents).to_pylist()
    held = Counter((r["latent"], r["role"]) for r in rows if r["stratum"] == "similar")
    assert set(held.values()) == {3, 4}
