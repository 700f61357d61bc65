"""Caches of delphi: into the lake and out again without a change, killed or not."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from lakeinterp import bridges
from lakeinterp.bridges import tensors
from lakeinterp.bridges.base import Export, Import
from lakeinterp.bridges.delphi import reading
from lakeinterp.cli import run
from lakeinterp.config import Config
from lakeinterp.errors import ConfigError, LakeError, NonFinite, NotFound
from lakeinterp.lake import Lake
from lakeinterp.lake.units import captured_sequences
from lakeinterp.sampling import sample
from tests import planted, tiny
from tests.bridges.caches import CONTEXT, N_SEQUENCES, write

read, export = bridges.importer("delphi"), bridges.exporter("delphi")


def textless(folder, **more):
    return Import(path=folder, without_text=True, **more)


def rows_of(lake, hookpoint="layers.3"):
    query = f"SELECT latent, token, value FROM activations WHERE hookpoint = '{hookpoint}'"
    found = lake.sql(query).fetchall()
    rows = {(latent, token): value for latent, token, value in found}
    assert len(rows) == len(found)
    return rows


@settings(max_examples=6, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_cache_comes_back_as_it_was(data):
    dtype = data.draw(st.sampled_from(["float16", "bfloat16", "float32"]))
    kinds = [np.uint16, np.int32, np.int64, np.uint32]
    how = {
        "seed": data.draw(st.integers(0, 99)),
        "hookpoints": data.draw(st.sampled_from([("layers.3",), ("layers.1.mlp", "layers.3")])),
        "width": data.draw(st.integers(3, 700)),
        "n_splits": data.draw(st.integers(1, 3)),
        "dtype": getattr(torch, dtype),
        "locations": data.draw(st.sampled_from(kinds)),
        "tokens": data.draw(st.sampled_from(["all", "last"])),
        "shuffled": data.draw(st.booleans()),
    }
    with tempfile.TemporaryDirectory() as folder:
        made = write(Path(folder) / "in", **how)
        lake = Lake(f"{folder}/lake")
        read(lake, textless(Path(folder) / "in"))
        assert {name: rows_of(lake, name) for name in made.rows} == made.rows
        assert lake.capture()["value_dtype"] == dtype
        options = Export(path=Path(folder) / "out", n_splits=how["n_splits"], dtype=dtype)
        assert export(lake, options).n_rounded == 0
        for path in (Path(folder) / "out" / "latents").rglob("*.safetensors"):
            written, source = load_tensors(path), load_tensors(str(path).replace("/out/", "/in/"))
            assert written["tokens"].tolist() == made.tokens.tolist()
            order = np.lexsort(source["locations"].numpy().astype(int).T[[2, 1, 0]])
            assert written["locations"].tolist() == source["locations"][order].tolist()
            assert torch.equal(written["activations"], source["activations"][order])


def test_a_float16_cache_is_written_byte_by_byte_as_it_was_read(tmp_path):
    write(tmp_path / "in", width=300)
    lake = Lake(str(tmp_path / "lake"))
    read(lake, textless(tmp_path / "in"))
    export(lake, Export(path=tmp_path / "out", n_splits=2))
    for path in (tmp_path / "in" / "latents" / "layers.3").iterdir():
        assert (tmp_path / "out" / "latents" / "layers.3" / path.name).read_bytes() == (
            path.read_bytes()
        )
    counts = torch.load(tmp_path / "out" / "log" / "hookpoint_firing_counts.pt")["layers.3"]
    rows = rows_of(lake)
    assert counts.tolist() == [
        sum(value > 0 for (latent, _), value in rows.items() if latent == n) for n in range(300)
    ]


def test_a_second_import_adds_nothing(tmp_path):
    made = write(tmp_path / "in")
    lake = Lake(str(tmp_path / "lake"))
    first = read(lake, textless(tmp_path / "in"))
    versions = {name: lake.version(name) for name in lake.tables()}
    shutil.move(tmp_path / "in", tmp_path / "moved")
    again = read(lake, textless(tmp_path / "moved"))
    assert (first.is_new, again.is_new, again.n_rows) == (True, False, 0)
    assert again.capture == first.capture
    assert {name: lake.version(name) for name in lake.tables()} == versions
    assert rows_of(lake) == made.rows["layers.3"]


@pytest.mark.parametrize("n_pieces", [1, 4])
def test_a_killed_import_is_no_capture_until_the_same_call_completes_it(
    tmp_path, monkeypatch, n_pieces
):
    monkeypatch.setattr(reading, "ROWS", 25)
    made = write(tmp_path / "in", hookpoints=("layers.1", "layers.3"))
    lake = Lake(str(tmp_path / "lake"))
    seen = []

    def killed(*, done, total):
        seen.append(done)
        if len(seen) == n_pieces:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(lake, textless(tmp_path / "in"), progress=killed)
    capture = lake.capture()["capture"]
    assert captured_sequences(lake, capture) == 0
    with pytest.raises(LakeError, match="nothing is captured yet"):
        export(lake, Export(path=tmp_path / "out"))
    done = read(lake, textless(tmp_path / "in"))
    assert 0 < done.n_rows < sum(len(rows) for rows in made.rows.values())
    assert {name: rows_of(lake, name) for name in made.rows} == made.rows
    assert captured_sequences(lake, capture) == N_SEQUENCES


def test_earlier_caches_have_no_tokens_other_keys_and_a_dot_in_front(tmp_path):
    made = write(tmp_path / "in", hookpoints=(".model.layers.3",), tokens="none")
    config = tmp_path / "in" / "latents" / ".model.layers.3" / "config.json"
    config.write_text(json.dumps({"ctx_len": CONTEXT, "dataset_row": "raw_content"}))
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match=r"holds no tokens: give --tokens, the sequences of 8"):
        read(lake, textless(tmp_path / "in"))
    np.save(tmp_path / "ids.npy", made.tokens)
    read(lake, textless(tmp_path / "in", tokens=str(tmp_path / "ids.npy")))
    assert rows_of(lake, "model.layers.3") == made.rows["model.layers.3"]
    assert lake.sql("SELECT tokens FROM sequences ORDER BY sequence").fetchall() == [
        (row,) for row in made.tokens.tolist()
    ]


def test_a_file_of_a_whole_hookpoint_needs_its_width(tmp_path):
    made = write(tmp_path / "in", n_splits=1)
    (tmp_path / "in" / "latents" / "layers.3" / "0_9.safetensors").rename(
        tmp_path / "in" / "layers.3.safetensors"
    )
    shutil.rmtree(tmp_path / "in" / "latents")
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match=r"does not say how many latents .* --n-latents"):
        read(lake, textless(tmp_path / "in"))
    read(lake, textless(tmp_path / "in", n_latents=10))
    assert rows_of(lake) == made.rows["layers.3"]
    assert len(lake.rows("sequences")) == N_SEQUENCES


def split(folder, name="0_4"):
    return folder / "latents" / "layers.3" / f"{name}.safetensors"


def changed(**changes):
    def change(folder):
        held = load_tensors(split(folder))
        held |= {key: function(held[key].clone()) for key, function in changes.items()}
        save_file(held, split(folder))

    return change


def put(place, value):
    def function(tensor):
        tensor[place] = value
        return tensor

    return function


def torn(folder):
    path = split(folder)
    path.write_bytes(path.read_bytes()[:-9])


BROKEN = {
    "no cache": (lambda f: shutil.rmtree(f / "latents"), ConfigError, "holds none; expected"),
    "no folder": (shutil.rmtree, NotFound, "there is no such folder"),
    "no split": (lambda f: split(f).unlink(), ConfigError, "begins with latent 0, found 5_9"),
    "torn": (torn, ConfigError, "is torn, or no safetensors file"),
    "lengths": (
        changed(activations=lambda t: t[1:]), ConfigError,
        r"locations are \[60, 3\], activations \[59\]",
    ),
    "kind": (changed(activations=lambda t: t.long()), ConfigError, "activations of I64"),
    "keys": (
        lambda f: save_file({"a": torch.ones(1)}, split(f)), ConfigError,
        "but no locations and no activations",
    ),
    "two runs": (changed(tokens=lambda t: t + 1), ConfigError, "hold different tokens"),
    "sequence": (
        changed(locations=put((7, 0), N_SEQUENCES)), ConfigError,
        rf"row 7 is at .* only \[{N_SEQUENCES}, {CONTEXT}, 5\]",
    ),
    "latent": (changed(locations=put((7, 2), 5)), ConfigError, "row 7 is at"),
    "twice": (changed(locations=lambda t: t[[0, *range(59)]]), ConfigError, r"is twice at seq"),
    "nan": (changed(activations=put(3, float("nan"))), NonFinite, "--allow-nonfinite"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cache_is_one_line_and_no_capture(tmp_path, name):
    breaks, error, match = BROKEN[name]
    write(tmp_path / "in")
    breaks(tmp_path / "in")
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(error, match=match) as caught:
        read(lake, textless(tmp_path / "in"))
    assert "\n" not in str(caught.value)
    assert not lake.rows("hookpoints")


def test_zeros_and_what_is_not_finite_are_left_out_and_counted(tmp_path):
    made = write(tmp_path / "in")
    changed(activations=put(slice(0, 4), torch.tensor([0, torch.inf, torch.nan, 0]).half()))(
        tmp_path / "in"
    )
    lake = Lake(str(tmp_path / "lake"))
    done = read(lake, textless(tmp_path / "in", allow_nonfinite=True))
    assert (done.n_rows, done.n_dropped) == (len(made.rows["layers.3"]) - 4, 4)


def test_unknown_names_are_refused_with_those_there_are(tmp_path):
    write(tmp_path / "in")
    with pytest.raises(NotFound, match=r"unknown hookpoint 'layers.4'; did you mean 'layers.3'"):
        read(Lake(str(tmp_path / "lake")), textless(tmp_path / "in", hookpoints=("layers.4",)))
    with pytest.raises(NotFound, match=r"unknown import format 'delfi'; did you mean 'delphi'"):
        bridges.importer("delfi")
    with pytest.raises(NotFound, match=r"unknown export format"):
        bridges.exporter("sae")
    read(Lake(str(tmp_path / "lake")), textless(tmp_path / "in", name="mine"))
    write(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match=r"another capture 'mine'; choose another"):
        read(Lake(str(tmp_path / "lake")), textless(tmp_path / "other", name="mine"))


def test_values_that_a_precision_does_not_hold_are_counted_or_refused(tmp_path):
    made = write(tmp_path / "in", dtype=torch.float32)
    lake = Lake(str(tmp_path / "lake"))
    read(lake, textless(tmp_path / "in"))
    done = export(lake, Export(path=tmp_path / "out", n_splits=2))
    values = np.array(list(made.rows["layers.3"].values()), np.float32)
    assert done.n_rounded == int((values.astype("f2").astype("f4") != values).sum()) > 0
    with pytest.raises(ConfigError, match=r"holds 0_4\.safetensors already"):
        export(lake, Export(path=tmp_path / "out", n_splits=3))
    changed(activations=put(0, 1e5))(tmp_path / "in")
    other = Lake(str(tmp_path / "other"))
    read(other, textless(tmp_path / "in"))
    with pytest.raises(ConfigError, match="activation 100000 is too large for float16"):
        export(other, Export(path=tmp_path / "large"))
    assert not list((tmp_path / "large").rglob("*.safetensors"))


def test_a_lake_that_was_captured_here_is_exported_whole(tmp_path):
    lake = planted.planted_lake(str(tmp_path / "lake"), n_sequences=60).lake
    export(lake, Export(path=tmp_path / "out", n_splits=3, dtype="float32"))
    again = Lake(str(tmp_path / "again"))
    read(again, textless(tmp_path / "out"))
    name = planted.HOOKPOINT
    assert rows_of(again, name) == rows_of(lake, name)
    files = sorted((tmp_path / "out" / "latents" / name).glob("*.safetensors"))
    assert len(load_file(files[0])["tokens"]) == len(lake.rows("sequences"))


def test_the_command_line_imports_samples_and_exports(tmp_path, capsys):
    tiny.build_model(tmp_path / "model")
    made = write(tmp_path / "in", n_rows=120, n_ids=tiny.V)
    lake = str(tmp_path / "lake")
    named = ["import", "delphi", str(tmp_path / "in"), "--lake", lake]
    assert run(named) == 2
    assert "give --model FOLDER, or --without-text" in capsys.readouterr().err
    for expected in ("imported 240 activations of layers.3 on 6 seq", "imported nothing new"):
        assert run([*named, "--model", str(tmp_path / "model"), "--name", "cache"]) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
    config = Config.model_validate({"sampling": {"window_tokens": 4, "min_windows": 1}})
    sample(Lake(lake), config)
    counted = Lake(lake).sql("SELECT latent, n_activations FROM latents").fetchall()
    in_text = made.tokens.ravel() != 0
    rows = made.rows["layers.3"]
    assert dict(counted) == {
        n: sum(bool(in_text[token]) for latent, token in rows if latent == n) for n in range(10)
    }
    assert run(["export", "delphi", str(tmp_path / "out"), "--lake", lake, "--n-splits", "2"]) == 0
    assert "exported 240 activations of layers.3" in " ".join(capsys.readouterr().out.split())


def test_tokens_of_another_tokenizer_are_refused(tmp_path):
    tiny.build_model(tmp_path / "model")
    write(tmp_path / "in", n_ids=tiny.V + 40)
    with pytest.raises(ConfigError, match=rf"but the tokenizer has {tiny.V}: give the model"):
        read(
            Lake(str(tmp_path / "lake")),
            Import(path=tmp_path / "in", model=str(tmp_path / "model")),
        )


def test_rounding_to_bfloat16_is_that_of_torch():
    dice = np.random.default_rng(0)
    bits = dice.integers(0, 2**32, size=20_000, dtype=np.uint32)
    bits[::2] = bits[::2] & 0xFFFF0000 | 0x8000
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    found = tensors.from_bfloat16(tensors.to_bfloat16(values))
    np.testing.assert_array_equal(found, torch.from_numpy(values).bfloat16().float().numpy())
