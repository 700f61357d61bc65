"""The small statements of sampling and statistics against the same said over rows in Python."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.config import Config, SamplingConfig
from lakeinterp.lake import queries
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import sample_id
from lakeinterp.sampling import open_session, sample
from lakeinterp.sampling.arrays import mix
from lakeinterp.sampling.fired import read
from lakeinterp.sampling.session import Session
from tests.planted import CAPTURE, CORPUS, HOOKPOINT, Planted, planted_lake, spans
from tests.sampling import truth

CONFIG = SamplingConfig(
    window_tokens=16,
    n_explain=5,
    n_score=60,
    n_random=4,
    n_explain_negatives=3,
    min_windows=30,
    n_quantiles=5,
)
PLACE = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
UNIT = {**PLACE, "bucket": 1}
few = settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.generate,))
latents = st.lists(st.integers(-1, 13), max_size=14)


class Sampled(NamedTuple):
    planted: Planted
    session: Session
    sample: str
    rows: list
    """Of `latents`."""
    examples: list


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    planted = planted_lake(str(tmp_path_factory.mktemp("small")), n_sequences=60)
    chosen = CONFIG.model_copy(update={"latents": (1, 4, 6, 7, 9)})
    sample(planted.lake, Config(sampling=chosen))
    sample(planted.lake, Config(sampling=chosen.model_copy(update={"seed": 5, "latents": (5,)})))
    with open_session(planted.lake, CAPTURE, CONFIG) as session:
        name = sample_id(planted.lake, CAPTURE, CONFIG)
        lake = planted.lake
        yield Sampled(planted, session, name, lake.rows("latents"), lake.rows("examples"))


def answer(sampled, name, **values):
    return queries.load(name).table(sampled.session.con, **values).to_pylist()


def enough(sampled):
    return {r["latent"] for r in sampled.rows if r["n_windows"] >= CONFIG.min_windows}


def held(sampled, bucket=1):
    return [r for r in sampled.examples if (r["bucket"], r["sample"]) == (bucket, sampled.sample)]


@few
@given(seed=st.integers(0, 2**31 - 1), key=st.integers(-(2**63), 2**63 - 1))
def test_mix_is_the_same_in_sql_in_numpy_and_in_plain_integers(sampled, seed, key):
    sql = sampled.session.con.execute("SELECT mix($s::BIGINT, $k::BIGINT)", {"s": seed, "k": key})
    assert sql.fetchall() == [(truth.mix(seed, key),)]
    assert mix(seed, key).tolist() == [truth.mix(seed, key)]


@few
@given(
    among=st.none() | latents,
    n=st.integers(1, 13),
    min_windows=st.sampled_from([0, 20, 35]),
    seed=st.integers(0, 99),
)
def test_select(sampled, among, n, min_windows, seed):
    able = [r["latent"] for r in sampled.rows if r["n_windows"] >= min_windows]
    able = [i for i in able if among is None or i in among]
    chosen = sorted(sorted(able, key=lambda i: (truth.mix(seed, i), i))[:n])
    values = {"among": among, "min_windows": min_windows, "max_latents": n, "seed": seed}
    assert [r["latent"] for r in answer(sampled, "sampling/select", **PLACE, **values)] == chosen


@few
@given(wanted=latents)
def test_missing_and_undrawn(sampled, wanted):
    key = {**UNIT, "sample": sampled.sample, "latents": wanted, "min_windows": CONFIG.min_windows}
    without = set(wanted) - {r["latent"] for r in held(sampled)}
    found = answer(sampled, "sampling/missing", **key)
    assert [r["latent"] for r in found] == sorted(without & enough(sampled))
    undrawn = [(r["latent"], r["is_due"]) for r in answer(sampled, "sampling/undrawn", **key)]
    assert undrawn == [(i, i in enough(sampled)) for i in sorted(without)]


@few
@given(wanted=latents, role=st.sampled_from([None, "explain", "score"]))
def test_examples(sampled, wanted, role):
    values = {**UNIT, "sample": sampled.sample, "latents": wanted, "role": role}
    columns = queries.load("sampling/examples").columns
    mine = [r for r in held(sampled) if r["latent"] in wanted and role in (None, r["role"])]
    mine.sort(key=lambda r: (r["latent"], r["example"]))
    assert answer(sampled, "sampling/examples", **values) == [
        {column: r[column] for column in columns} for r in mine
    ]


@few
@given(wanted=latents, asked=st.lists(st.integers(0, 70), min_size=4, max_size=4))
def test_summary(sampled, wanted, asked):
    kinds = [(r, s) for r in ("explain", "score") for s in ("activating", "random")]
    values = {
        "roles": [role for role, _ in kinds],
        "strata": [stratum for _, stratum in kinds],
        "n_asked": asked,
    }
    n = Counter((r["latent"], r["role"], r["stratum"]) for r in held(sampled))
    drawn = {r["latent"] for r in held(sampled)} & set(wanted)
    expected = []
    for (role, stratum), wish in zip(kinds, asked, strict=True):
        counts = [n[i, role, stratum] for i in drawn]
        lacks = [wish - c for c in counts if c < wish]
        row = (role, stratum, len(counts), sum(counts), len(lacks), sum(lacks))
        expected += [row] if counts else []
    found = answer(
        sampled, "sampling/summary", **UNIT, sample=sampled.sample, latents=wanted, **values
    )
    assert [tuple(row.values()) for row in found] == expected


def activations(sampled, inside, n_tokens):
    token, latent = np.nonzero(sampled.planted.dense)
    value = sampled.planted.dense[token, latent]
    rows = zip(latent.tolist(), token.tolist(), value.tolist(), strict=True)
    return sorted(r for r in rows if r[0] in inside and r[1] < n_tokens)


@few
@given(first=st.integers(3, 9), n=st.integers(0, 6), n_tokens=st.integers(0, 4000))
def test_what_fired(sampled, first, n, n_tokens):
    ends = {"first": first, "last": first + n, "n_tokens": n_tokens}
    found = [tuple(r.values()) for r in answer(sampled, "sampling/fired", **UNIT, **ends)]
    inside = set(range(first, first + n + 1))
    assert sorted(found) == activations(sampled, inside & set(range(4, 8)), n_tokens)
    files = f"{where(**PLACE)} AND bucket >= 1 AND bucket <= 2"
    rows = read(sampled.planted.lake, files, **ends).to_pylist()
    found = [tuple(r.values()) for r in rows]
    assert found == activations(sampled, inside & set(range(4, 12)), n_tokens)


@few
@given(first=st.integers(0, 12), n=st.integers(0, 12), n_tokens=st.integers(0, 4000))
def test_rows_for_other_tools(sampled, first, n, n_tokens):
    ends = {"first": first, "stop": first + n, "n_tokens": n_tokens}
    mine = activations(sampled, range(first, first + n), n_tokens)
    found = [tuple(r.values()) for r in answer(sampled, "bridges/split_rows", **PLACE, **ends)]
    assert found == sorted((token, latent, value) for latent, token, value in mine)
    mine = defaultdict(list)
    for latent, token, value in activations(sampled, range(12), n_tokens):
        mine[latent].append((token, value > 0))
    found = answer(sampled, "bridges/latent_rows", **PLACE, n_tokens=n_tokens)
    assert [tuple(r.values()) for r in found] == [
        (i, len(rows), sum(p for _, p in rows), max(t for t, _ in rows))
        for i, rows in sorted(mine.items())
    ]


@few
@given(first=st.integers(0, 61), n=st.integers(0, 61))
def test_sequences(sampled, first, n):
    found = answer(sampled, "corpus/sequences", corpus=CORPUS, first=first, stop=first + n)
    tokens, documents = sampled.planted.tokens, sampled.planted.documents
    assert [(r["sequence"], r["tokens"], r["documents"]) for r in found] == [
        (i, tokens[i].tolist(), spans(documents[i])) for i in range(first, min(first + n, 60))
    ]


def test_extent_counts_what_lies_in_the_unit(sampled):
    (row,) = answer(sampled, "sampling/extent", **UNIT)
    assert row["n_rows"] == np.count_nonzero(sampled.planted.dense[:, 4:8])


def test_tiles_are_looked_up_by_token(sampled):
    tiles = truth.tiles(sampled.planted, CONFIG)
    table = sampled.session.con.sql("SELECT tile_of, text FROM lookup").to_arrow_table()
    number = {i: t.number for t in tiles for i in t.span}
    found = table["tile_of"][0].as_py()
    assert found == [number.get(i) for i in range(max(number) + 1)]
    assert pc.list_flatten(table["text"]).to_pylist() == sampled.planted.tokens.ravel().tolist()
    ring = truth.mix(CONFIG.seed, -1)
    assert [tuple(r.values()) for r in answer(sampled, "sampling/placed")] == [
        (t.tile, t.length, t.document, t.first, t.stop, truth.mix(ring, t.tile), t.role == "score")
        for t in tiles
    ]


@few
@given(width=st.integers(1, 13))
def test_statuses_are_counted(sampled, width):
    n = Counter((r["latent"] // width, r["status"]) for r in sampled.rows)
    found = answer(sampled, "stats/buckets", **PLACE, bucket_latents=width)
    assert [tuple(r.values()) for r in found] == sorted((*key, n[key]) for key in n)
    found = answer(sampled, "stats/windows", **PLACE)
    assert [tuple(r.values()) for r in found] == [
        (r["latent"], r["n_windows"]) for r in sampled.rows
    ]


@few
@given(min_windows=st.integers(0, 60), n=st.integers(1, 12))
def test_busiest(sampled, min_windows, n):
    rows = [r for r in sampled.rows if r["n_windows"] >= min_windows and r["status"] != "dense"]
    rows = sorted((-r["n_windows"], r["latent"]) for r in rows)[:n]
    found = answer(sampled, "stats/busiest", **PLACE, min_windows=min_windows, n=n)
    assert [tuple(r.values()) for r in found] == [(i, -windows) for windows, i in rows]


@few
@given(ratio=st.floats(0.1, 50), min_windows=st.integers(1, 500))
def test_outlook(sampled, ratio, min_windows):
    windows = [r["n_windows"] for r in sampled.rows]
    (found,) = answer(
        sampled, "stats/outlook", capture=CAPTURE, ratio=ratio, min_windows=min_windows
    )
    assert tuple(found.values()) == (
        HOOKPOINT,
        len(windows),
        sum(w > 0 for w in windows),
        sum((w - 2 * math.sqrt(w)) * ratio >= min_windows for w in windows),
        sum(w * ratio >= min_windows for w in windows),
        sum((w + 2 * math.sqrt(w) + 3) * ratio >= min_windows for w in windows),
    )


def test_peak_tokens_and_bits_of_the_strata(sampled):
    """What the same-token stratum is made of, before it is put together."""
    session, flat = sampled.session, sampled.planted.tokens.ravel()
    tiles = truth.tiles(sampled.planted, CONFIG)
    by_token = defaultdict(dict)
    for t in tiles:
        for i in reversed(t.span):
            by_token[int(flat[i])][t.number] = i
    session.once("strata/spelled")
    found = session.con.sql("SELECT token_id, role, number, token FROM spelled ORDER BY id")
    ring = truth.mix(CONFIG.seed, -1)
    expected = sorted(
        (i, tiles[n].role, truth.mix(ring, tiles[n].tile), n, token)
        for i, there in by_token.items()
        for n, token in there.items()
    )
    assert found.fetchall() == [(i, role, n, token) for i, role, _, n, token in expected]
    session.once("strata/spellings")
    n = Counter((i, role, place >> 24) for i, role, place, _, _ in expected)
    rows = session.con.sql("SELECT token_id, role, slot, n FROM spellings ORDER BY ALL").fetchall()
    assert rows == sorted((*key, count) for key, count in n.items())
    session.once("strata/role_bits", last=len(tiles) - 1)
    for role, bits in session.con.sql("SELECT role, bits::VARCHAR FROM role_bits").fetchall():
        assert bits == "".join(str(int(t.role == role)) for t in tiles)
