"""Draws depend on seed, latent and window alone: more tokens move few, other machinery none."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import pytest

from lakeinterp.config import Config, SamplingConfig
from lakeinterp.lake import Lake
from lakeinterp.lake.units import units
from lakeinterp.sampling import neighbours, open_session, sample
from lakeinterp.sampling import session as sessions
from lakeinterp.sampling.examples import draw
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

N_BEFORE, N_AFTER, CONTEXT = 170, 200, 64
PAIRS = [("top", "random"), ("importance", "mix"), ("quantiles", "quantiles")]
"""The draws of both roles, each draw once or more."""


def config_for(pair, **more):
    settings = {
        "window_tokens": 16,
        "n_explain": 12,
        "n_explain_negatives": 9,
        "n_score": 13,
        "n_random": 11,
        "n_quantiles": 5,
        "explain_draw": pair[0],
        "score_draw": pair[1],
    }
    return SamplingConfig(**{**settings, **more})


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    found = planted_lake(str(tmp_path_factory.mktemp("stable")), n_sequences=N_AFTER)
    neighbours.cooccurrence(found.lake, CAPTURE, HOOKPOINT, config_for(PAIRS[0]))
    return found


class Over(NamedTuple):
    """What is drawn over a part of the corpus."""

    roles: dict
    """Role by document."""
    drawn: dict
    """Start to row, by latent, role and stratum."""
    quantile_of: dict
    """Quantile by (latent, start of the tile)."""


def over(lake, config, n_sequences):
    with open_session(lake, CAPTURE, config) as session:
        session.n_sequences = n_sequences
        session.run(
            "sampling/tiles",
            n_sequences=n_sequences,
            window_tokens=config.window_tokens,
            seed=config.seed,
            explain_share=config.explain_share,
            **session.text,
        )
        session.run("sampling/lookup", n_sequences=n_sequences, **session.text)
        roles = dict(session.con.execute("SELECT document, role FROM tiles").fetchall())
        drawn, quantile_of = defaultdict(dict), {}
        for unit in units(lake, CAPTURE):
            for row in draw(session, unit, range(unit.bucket * 4, unit.bucket * 4 + 4)).to_pylist():
                drawn[row["latent"], row["role"], row["stratum"]][row["start"]] = row
            found = session.found
            keys = zip(
                found.latent.tolist(), session.tiles.tile[found.number].tolist(), strict=True
            )
            quantile_of.update(zip(keys, found.quantile.tolist(), strict=True))
    return Over(roles, dict(drawn), quantile_of)


@pytest.mark.parametrize("placement", ["peak", "aligned"])
@pytest.mark.parametrize("pair", PAIRS[:2])
def test_more_tokens_let_no_old_window_in_that_was_not_drawn_before(planted, pair, placement):
    """For draws that order all windows once and for all: a new one may only push others out."""
    config = config_for(pair, placement=placement)
    before, after = (over(planted.lake, config, n) for n in (N_BEFORE, N_AFTER))
    assert before.roles.items() <= after.roles.items()
    assert len(after.roles) > len(before.roles)
    n_new = 0
    for key, rows in after.drawn.items():
        if key[2] == "activating" and pair[key[1] == "score"] == "mix":
            continue
        old = {start for start in rows if start < N_BEFORE * CONTEXT}
        assert old <= before.drawn[key].keys()
        n_new += len(rows) - len(old)
        assert len(rows) == len(before.drawn[key])
    assert n_new


@pytest.mark.parametrize("pair", [("mix", "mix"), ("quantiles", "quantiles")])
def test_more_tokens_move_windows_of_a_quantile_only_where_quantiles_moved(planted, pair):
    """Of the windows that keep their quantile, the drawn ones before and after are nested."""
    config = config_for(pair, placement="aligned", mix_top=0.0)
    before, after = (over(planted.lake, config, n) for n in (N_BEFORE, N_AFTER))
    n_kept = n_all = 0
    for (latent, role, stratum), rows in before.drawn.items():
        if stratum != "activating":
            continue
        later = after.drawn[latent, role, stratum]
        stay = {
            tile
            for (mine, tile), q in before.quantile_of.items()
            if mine == latent and after.quantile_of[latent, tile] == q
        }
        for q in range(1, config.n_quantiles + 1):
            one, other = (
                {s for s, row in some.items() if row["quantile"] == q} & stay
                for some in (rows, later)
            )
            assert one <= other or other <= one
        n_kept += len(rows.keys() & later.keys())
        n_all += len(rows)
    assert n_kept > 0.6 * n_all


def test_more_tokens_keep_most_windows_of_every_draw_and_stratum(planted):
    more = {"n_same_token": 6, "n_neighbour": 6}
    kept, n = defaultdict(int), defaultdict(int)
    for pair in PAIRS:
        before, after = (
            over(planted.lake, config_for(pair, **more), n) for n in (N_BEFORE, N_AFTER)
        )
        for (latent, role, stratum), rows in before.drawn.items():
            how = f"draw {pair[role == 'score']}" if stratum == "activating" else stratum
            n[how] += len(rows)
            kept[how] += len(rows.keys() & after.drawn[latent, role, stratum].keys())
    assert {how for how, total in n.items() if kept[how] < 0.55 * total} == set()
    assert len(n) == 8


def rows_of(lake):
    return sorted(lake.rows("examples"), key=lambda r: (r["sample"], r["latent"], r["example"]))


def test_rows_are_the_same_whatever_the_units_files_threads_and_memory(tmp_path, monkeypatch):
    more = {"n_same_token": 4, "n_neighbour": 4, "min_windows": 10}
    one, other = (
        planted_lake(str(tmp_path / name), n_sequences=50, n_buckets=n, n_shards=n).lake
        for name, n in (("one", 1), ("other", 4))
    )
    for pair in PAIRS[:2]:
        sample(one, Config(sampling=config_for(pair, workers=1, **more)))
    connect = Lake.connect

    def small(lake, **where):
        con = connect(lake, **where)
        con.execute("SET threads = 3")
        con.execute("SET memory_limit = '300MB'")
        con.execute("SET preserve_insertion_order = true")
        return con

    monkeypatch.setattr(Lake, "connect", small)
    monkeypatch.setattr(sessions, "_ROWS_AT_ONCE", 1000)
    for pair in reversed(PAIRS[:2]):
        sample(other, Config(sampling=config_for(pair, workers=3, **more)))
    first, second = ([{**r, "bucket": 0} for r in rows_of(lake)] for lake in (one, other))
    assert {r["stratum"] for r in first} == {"activating", "random", "same_token", "neighbour"}
    assert first == second
    assert one.rows("latents") == other.rows("latents")
