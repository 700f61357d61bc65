"""Rows read straight from files: the same as by SQL, in order, and none that a statement leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.config import Config, SamplingConfig
from lakeinterp.errors import DamagedFile
from lakeinterp.lake import direct
from lakeinterp.lake.activations import COLUMNS
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import examples, sample_id
from lakeinterp.sampling import fired, sample
from lakeinterp.sampling.arrays import pieces
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, TOKENIZER, planted_lake
from tests.sampling import truth

CONFIG = SamplingConfig(
    window_tokens=16, n_explain=6, n_explain_negatives=4, n_score=7, n_random=5, n_quantiles=5
)
PLACE = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
few = settings(max_examples=40, deadline=None, derandomize=True, phases=(Phase.generate,))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    planted = planted_lake(str(tmp_path_factory.mktemp("reading")), n_sequences=80, seed=2)
    sample(planted.lake, Config(sampling=CONFIG))
    return planted


@few
@given(
    seed=st.integers(0, 10**6),
    n_latents=st.sampled_from([1, 3, 40]),
    n_files=st.integers(1, 4),
    is_sorted=st.booleans(),
)
def test_activations_of_several_files_come_by_latent_and_token(seed, n_latents, n_files, is_sorted):
    rng = np.random.default_rng(seed)
    n_tokens = 400
    dense = rng.random((n_latents, n_tokens)) < rng.choice([0.02, 0.3, 0.9])
    latent, token = (
        column.astype(kind) for column, kind in zip(np.nonzero(dense), "il", strict=True)
    )
    value = rng.random(len(latent), dtype=np.float32)
    file_of = token * n_files // n_tokens if is_sorted else rng.integers(0, 9, len(token))
    parts = [
        pa.table([c[file_of == f] for c in (latent, token, value)], schema=COLUMNS)
        for f in rng.permutation(9)
    ]
    if not is_sorted:
        parts = [part.take(rng.permutation(part.num_rows)) for part in parts]
    found = fired.in_order(pa.concat_tables(parts))
    assert found.equals(pa.table([latent, token, value], schema=COLUMNS))


@few
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12))
def test_pieces_are_the_slices_side_by_side(ranges):
    values = np.arange(100, 131)
    ranges = [(first, min(n, len(values) - first)) for first, n in ranges]
    first, n = (np.array([r[i] for r in ranges], dtype=np.int64) for i in (0, 1))
    expected = [value for first, n in ranges for value in values[first : first + n]]
    assert pieces(values, first, n).tolist() == expected


@pytest.mark.parametrize(
    ("table", "held"),
    [
        ("captures", {}),
        ("hookpoints", {"capture": [CAPTURE], "hookpoint": [HOOKPOINT]}),
        ("hookpoints", {"capture": ["none"]}),
        ("vocabulary", {"tokenizer": [TOKENIZER], "token_id": [0, 3, 5, 10**6]}),
        ("latents", {**{k: [v] for k, v in PLACE.items()}, "latent": [4, 9, 99]}),
        ("activations", {"bucket": [0, 2], "latent": [1, 8]}),
        ("examples", {"role": ["score"], "stratum": ["random"], "latent": [0, 1]}),
        ("examples", {"latent": []}),
        ("judgements", {}),
    ],
)
def test_rows_straight_from_files_are_those_that_sql_finds(planted, table, held):
    listed = {c: ", ".join(repr(v) for v in values) or "NULL" for c, values in held.items()}
    condition = " AND ".join(f"{c} IN ({v})" for c, v in listed.items()) or "true"
    found = direct.read(planted.lake, table, held)
    expected = planted.lake.sql(f"SELECT * FROM {table} WHERE {condition}").to_arrow_table()
    assert found.schema.names == expected.schema.names
    assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, expected.to_pylist()))


@pytest.mark.parametrize("role", [None, "explain", "score"])
def test_examples_of_a_few_latents_are_those_of_the_whole_unit(planted, role):
    lake, unit = planted.lake, Unit(**PLACE, bucket=1)
    vocabulary, name = lake.vocabulary(TOKENIZER), sample_id(planted.lake, CAPTURE, CONFIG)
    every = dict(examples(lake, unit, name, vocabulary, role))
    assert every
    chosen = [*every][::2]
    some = list(examples(lake, unit, name, vocabulary, role, latents=[*chosen[::-1], 10**6]))
    assert some == [(latent, every[latent]) for latent in chosen]


def test_a_cut_off_file_is_named(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=10).lake
    files = sorted(Path(tmp_path, "activations").rglob("*.parquet"))
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DamagedFile, match="cut off, changed or gone"):
        fired.read(lake, where(**PLACE), first=0, last=11, n_tokens=640)
    with pytest.raises(DamagedFile, match="cut off, changed or gone"):
        direct.read(lake, "activations", {"latent": [1]})


def test_document_role_and_text_of_examples_are_those_of_the_corpus(planted):
    text = planted.tokens.ravel()
    document_of = planted.documents.ravel()
    rows = planted.lake.rows("examples", where(**PLACE))
    for row in rows:
        at = slice(row["start"], row["start"] + len(row["tokens"]))
        share = truth.mix(CONFIG.seed, row["document"]) / 2**32
        assert row["role"] == ("explain" if share < CONFIG.explain_share else "score")
        assert set(document_of[at].tolist()) == {row["document"]}
        assert row["tokens"] == text[at].tolist()
        assert row["values"] == planted.dense[at, row["latent"]].tolist()
        assert row["start"] // planted.tokens.shape[1] == (at.stop - 1) // planted.tokens.shape[1]
    assert {row["role"] for row in rows} == {"explain", "score"}
