"""Nearest latents: by the tokens they fire on together, and by the cosine of a coder's rows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lakeinterp.capture.neighbours import write_neighbours
from lakeinterp.coders import find
from lakeinterp.coders.nearest import nearest as nearest_rows
from lakeinterp.config import SamplingConfig, load
from lakeinterp.errors import ConfigError
from lakeinterp.sampling import neighbours
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake, table_of

CONFIG = SamplingConfig(n_nearest=3, n_neighbour=5)
CONNECTION = duckdb.connect()
"""To no lake; opening one for every small lake of hypothesis would take longer than the rest."""


def jaccard(fired, n):
    """Return (latent, rank, neighbour, similarity) of dense [tokens, latents], one by one."""
    rows = []
    sets = [set(np.flatnonzero(column)) for column in fired.T]
    for i, own in enumerate(sets):
        found = [
            (-len(own & other) / len(own | other), j)
            for j, other in enumerate(sets)
            if j != i and own & other
        ]
        rows += [(i, r, j, -s) for r, (s, j) in enumerate(sorted(found)[:n], 1)]
    return rows


def rows_of(table):
    names = ("latent", "rank", "neighbour", "similarity")
    return sorted(zip(*(table[name].to_pylist() for name in names), strict=True))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    fired=st.lists(st.lists(st.booleans(), min_size=40, max_size=40), min_size=1, max_size=30),
    share=st.sampled_from([0.02, 0.2, 1]),
    n=st.integers(1, 6),
    at_once=st.sampled_from([1, 40, 10**6]),
    n_tokens=st.integers(1, 30),
)
def test_the_nearest_are_those_with_the_highest_jaccard_index_counted_one_by_one(
    fired, share, n, at_once, n_tokens
):
    fired = np.array(fired) & (np.random.default_rng(0).random((len(fired), 40)) < share)
    token, latent = np.nonzero(fired)
    rows = pa.table(
        {
            "capture": pa.repeat("c", len(token)),
            "hookpoint": pa.repeat("h", len(token)),
            "bucket": pa.array(latent // 20, pa.int32()),
            "latent": pa.array(latent, pa.int32()),
            "token": pa.array(token, pa.int64()),
        }
    )
    CONNECTION.register("activations", rows)
    units = [
        (Unit(capture="c", hookpoint="h", bucket=bucket), range(20 * bucket, 20 * bucket + 20))
        for bucket in (0, 1)
    ]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(neighbours, "_ROWS_AT_ONCE", at_once)
        patch.setattr(neighbours, "_SLOTS_AT_ONCE", at_once)
        together = neighbours.gather(CONNECTION, units, 40, n_tokens, Path(folder) / "latents")
        found = [
            row
            for unit, inside in units
            for row in rows_of(neighbours.nearest(CONNECTION, together, unit, inside, n))
        ]
    assert found == jaccard(fired[:n_tokens], n)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return planted_lake(str(tmp_path_factory.mktemp("lake")), n_sequences=40)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_rows_of_an_undisturbed_one(
    planted, tmp_path
):
    def stop_after_the_first(unit, n_done, n_all):
        assert (n_done, n_all) == (1, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        neighbours.cooccurrence(
            planted.lake, CAPTURE, HOOKPOINT, CONFIG, progress=stop_after_the_first
        )
    assert neighbours.cooccurrence(planted.lake, CAPTURE, HOOKPOINT, CONFIG).n_new == 2
    assert neighbours.cooccurrence(planted.lake, CAPTURE, HOOKPOINT, CONFIG).n_new == 0
    assert rows_of(table_of(planted.lake, "neighbours")) == jaccard(planted.dense != 0, 3)


def test_more_tokens_or_more_neighbours_are_counted_again(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=20).lake
    assert neighbours.cooccurrence(lake, CAPTURE, HOOKPOINT, CONFIG).n_new == 3
    more = CONFIG.model_copy(update={"n_nearest": 4})
    assert neighbours.cooccurrence(lake, CAPTURE, HOOKPOINT, more).n_new == 3
    ranks = table_of(lake, "neighbours")["rank"].to_pylist()
    assert max(ranks) == 4
    app = f"capture/{CAPTURE}/000002"
    lake.publish("activations", [], app=app, version=5)
    assert neighbours.cooccurrence(lake, CAPTURE, HOOKPOINT, more).n_new == 3


def test_nothing_is_counted_unless_windows_of_neighbours_are_asked_for(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=10).lake
    for config in (SamplingConfig(), CONFIG.model_copy(update={"neighbour_methods": ("decoder",)})):
        neighbours.prepare(lake, CAPTURE, HOOKPOINT, config)
        assert "neighbours" not in lake.tables()
    neighbours.prepare(lake, CAPTURE, HOOKPOINT, CONFIG)
    assert "neighbours" in lake.tables()


# -- cosine -----------------------------------------------------------------------------------


def cosines(weights, n):
    """Return (latent, rank, neighbour, similarity), one by one."""
    rows = []
    for i, own in enumerate(weights):
        found = [
            (-float(own @ other / np.linalg.norm(own) / np.linalg.norm(other)), j)
            for j, other in enumerate(weights)
            if j != i and own.any() and other.any()
        ]
        rows += [(i, r, j, -s) for r, (s, j) in enumerate(sorted(found)[:n], 1)]
    return rows


@pytest.mark.parametrize("chunk_bytes", [1, 200, 10**6])
def test_the_nearest_rows_are_those_of_the_highest_cosine_whatever_the_chunk(chunk_bytes):
    weights = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    weights[[3, 7]] = 0
    unit_LD = torch.nn.functional.normalize(torch.from_numpy(weights), dim=1)
    latent_BK, cosine_BK = nearest_rows(unit_LD, slice(2, 9), 20, chunk_bytes)
    found = [
        (i + 2, r + 1, int(latent_BK[i, r]), float(cosine_BK[i, r]))
        for i in range(7)
        for r in range(11)
        if torch.isfinite(cosine_BK[i, r])
    ]
    expected = [row for row in cosines(weights.astype(np.float64), 20) if 2 <= row[0] < 9]
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected], abs=1e-6)


def with_coder(planted, folder, weights, **capture):
    """Let a planted lake's capture name a coder of these rows."""
    path = folder / HOOKPOINT
    path.mkdir(parents=True)
    n, d = weights["encoder.weight"].shape
    (path / "cfg.json").write_text(
        json.dumps({"activation": "topk", "k": 2, "num_latents": n, "d_in": d})
    )
    save_file(weights, path / "sae.safetensors")
    row = planted.lake.capture()
    row["coder_revision"] = find(str(folder)).revision
    row["config"] = json.dumps({"capture": {"coder": str(folder), **capture}})
    planted.lake.upsert("captures", [row], scope={"capture": CAPTURE})


def settings_for(planted, methods):
    own = {
        "lake": planted.lake.root,
        "capture.device": "cpu",
        "sampling.n_neighbour": 5,
        "sampling.n_nearest": 3,
        "sampling.neighbour_methods": methods,
    }
    return load(None, (), own)


def test_decoder_and_encoder_rows_of_the_captured_coder_give_neighbours(tmp_path):
    planted = planted_lake(str(tmp_path / "lake"), n_sequences=10)
    drawn = torch.Generator().manual_seed(1)
    weights = {
        "encoder.weight": torch.randn(12, 8, generator=drawn),
        "encoder.bias": torch.zeros(12),
        "W_dec": torch.randn(12, 8, generator=drawn),
        "b_dec": torch.zeros(8),
    }
    with_coder(planted, tmp_path / "coder", weights)
    config = settings_for(planted, ("decoder", "encoder"))
    assert write_neighbours(planted.lake, config) == 6
    assert write_neighbours(planted.lake, config) == 0
    found = table_of(planted.lake, "neighbours").to_pylist()
    for method, name in (("decoder", "W_dec"), ("encoder", "encoder.weight")):
        got = sorted(
            (r["latent"], r["rank"], r["neighbour"], r["similarity"])
            for r in found
            if r["method"] == method
        )
        expected = cosines(weights[name].double().numpy(), 3)
        assert [row[:3] for row in got] == [row[:3] for row in expected]
        assert [row[3] for row in got] == pytest.approx([row[3] for row in expected], abs=1e-6)


def test_other_coder_files_than_were_captured_are_refused(tmp_path):
    planted = planted_lake(str(tmp_path / "lake"), n_sequences=10)
    rows = torch.eye(12)[:, :8].contiguous()
    weights = {
        "encoder.weight": rows,
        "encoder.bias": torch.zeros(12),
        "W_dec": rows.clone(),
        "b_dec": torch.zeros(8),
    }
    with_coder(planted, tmp_path / "coder", weights)
    save_file({**weights, "W_dec": rows + 1}, tmp_path / "coder" / HOOKPOINT / "sae.safetensors")
    config = settings_for(planted, ("decoder",))
    with pytest.raises(ConfigError, match="other coders than were captured"):
        write_neighbours(planted.lake, config)


@pytest.mark.parametrize("capture", [{"control": "random-coder"}, {"format": "neurons"}, {}])
def test_a_capture_without_coder_files_says_what_to_take_instead(tmp_path, capture):
    planted = planted_lake(str(tmp_path / "lake"), n_sequences=10)
    row = planted.lake.capture()
    row["config"] = json.dumps({"capture": capture})
    planted.lake.upsert("captures", [row], scope={"capture": CAPTURE})
    with pytest.raises(ConfigError, match="take cooccurrence"):
        write_neighbours(planted.lake, settings_for(planted, ("encoder",)))
