"""What a capture does about memory, numbers that are none, and a `forget` while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lakeinterp import cli
from lakeinterp.capture import capture, model, shard
from lakeinterp.config import CaptureConfig, load
from lakeinterp.errors import ConfigError, LakeError, MissingExtra, NonFinite
from lakeinterp.lake import Lake, upkeep
from tests import tiny

ALL_ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return tiny.settings(folder) | {"capture.name": "c", "capture.batch_sequences": 4}


@pytest.fixture(scope="module")
def truth(built, tmp_path_factory):
    lake = tmp_path_factory.mktemp("truth")
    run(built, lake)
    return rows(lake)


def run(built, lake: Path, **more):
    config = load(values={**built, "lake": str(lake), **more})
    return capture(Lake(config.lake), config)


def rows(lake: Path):
    return Lake(str(lake)).sql(ALL_ROWS).fetchall()


# -- forget beside capture --------------------------------------------------------------------


@pytest.mark.parametrize("n_before", [0, 2])
def test_run_whose_capture_is_forgotten_ends_and_adds_nothing(
    built, truth, tmp_path, monkeypatch, n_before
):
    """Forgotten after some of its commits, before the next one, whose files are written."""
    real, seen = shard.lake_shards.publish, []

    def publish(lake, *arguments, **named):
        if len(seen) == n_before:
            upkeep.forget(Lake(str(tmp_path)), "c")
        seen.append(arguments)
        return real(lake, *arguments, **named)

    monkeypatch.setattr(shard.lake_shards, "publish", publish)
    with pytest.raises(LakeError, match="capture c: it was forgotten while it ran"):
        run(built, tmp_path)
    assert upkeep.captures(Lake(str(tmp_path))) == []
    assert rows(tmp_path) == []
    monkeypatch.setattr(shard.lake_shards, "publish", real)
    assert run(built, tmp_path).n_shards == 4
    assert rows(tmp_path) == truth


def test_late_files_of_a_forgotten_capture_do_not_replace_those_of_the_next(
    built, truth, tmp_path, monkeypatch
):
    real, other = shard.lake_shards.publish, {}

    def publish(lake, *arguments, **named):
        if not other:
            other.update(built)
            upkeep.forget(Lake(str(tmp_path)), "c")
            assert run(built, tmp_path).n_shards == 4
        return real(lake, *arguments, **named)

    monkeypatch.setattr(shard.lake_shards, "publish", publish)
    with pytest.raises(LakeError, match="forgotten while it ran"):
        run(built, tmp_path, **{"capture.value_dtype": "float32"})
    assert rows(tmp_path) == truth


# -- numbers that are none --------------------------------------------------------------------


@pytest.fixture
def overflowing(tmp_path):
    """A coder whose latent 0 is too large for float16 at every `cat`."""
    coder = tiny.build_coder(tmp_path / "coder")
    weights = load_file(coder / "h.0" / "sae.safetensors")
    weights["encoder.weight"][0, tiny.CAT] = 1e30
    weights["W_dec"][0] = 0
    save_file(weights, coder / "h.0" / "sae.safetensors")
    return {"capture.coder": str(coder), "capture.value_dtype": "float16"}


def test_activations_that_are_no_numbers_are_left_out_and_counted_in_the_lake(
    built, truth, tmp_path, overflowing, capsys
):
    lake, allowed = tmp_path / "lake", overflowing | {"capture.allow_nonfinite": True}
    few = run(built, lake, **allowed, **{"capture.n_tokens": 1024})
    done = run(built, lake, **allowed)
    lost = [row for row in truth if row[1] == tiny.CAT_LATENT]
    kept = [(latent, token) for _, latent, token, _ in rows(lake)]
    assert kept == [row[1:3] for row in truth if row[1] != tiny.CAT_LATENT]
    assert 0 < few.n_nonfinite < done.n_nonfinite == len(lost)
    checks = json.loads(Lake(str(lake)).one("hookpoints", "capture = 'c'")["checks"])
    assert checks["n_nonfinite"] == len(lost)
    given = [f"{k}={json.dumps(v)}" for k, v in (built | overflowing).items() if k != "lake"]
    said = ["capture", "--lake", str(lake), "--allow-nonfinite"]
    assert cli.run([*said, *[part for text in given for part in ("--set", text)]]) == 0
    assert f"left out {len(lost)} activations that are NaN or infinite" in capsys.readouterr().out
    upkeep.forget(Lake(str(lake)), "c")
    assert run(built, lake, **allowed, **{"capture.n_tokens": 1024}).n_nonfinite == few.n_nonfinite


def test_state_of_the_model_that_is_no_number_is_named_before_a_coder_is_blamed(
    built, tmp_path, monkeypatch
):
    hidden = model.SubjectModel.hidden

    def broken(self, tokens_BT, reads, **options):
        states = hidden(self, tokens_BT, reads, **options)
        for x_BTD in states.values():
            x_BTD[1:2, 7, 3] = float("nan")
        return states

    monkeypatch.setattr(model.SubjectModel, "hidden", broken)
    with pytest.raises(NonFinite, match=r"h\.0: the hidden state at sequence 1, position 7 is NaN"):
        run(built, tmp_path)
    done = run(built, tmp_path, **{"capture.allow_nonfinite": True})
    assert done.n_nonfinite > 0
    assert done.n_rows == len(rows(tmp_path)) > 0


# -- memory -----------------------------------------------------------------------------------


def test_batch_that_does_not_fit_is_halved_and_decides_no_row(built, truth, tmp_path, monkeypatch):
    hidden, sizes = model.SubjectModel.hidden, []

    def full(self, tokens_BT, reads, **options):
        sizes.append(len(tokens_BT))
        if len(tokens_BT) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return hidden(self, tokens_BT, reads, **options)

    run(built, tmp_path, **{"capture.n_tokens": 2048})  # coders are measured with all at once
    monkeypatch.setattr(model.SubjectModel, "hidden", full)
    done = run(built, tmp_path, **{"capture.batch_sequences": 11})
    assert rows(tmp_path) == truth
    assert done.n_tokens == 8192 - 2048
    assert sizes[:3] == [11, 6, 3]
    assert set(sizes[3:]) == {3, 2}


def test_one_sequence_that_does_not_fit_is_one_line(built, tmp_path, monkeypatch):
    run(built, tmp_path, **{"capture.n_tokens": 2048})

    def full(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model.SubjectModel, "hidden", full)
    with pytest.raises(ConfigError, match="not even one sequence fits the memory; lower corpus"):
        run(built, tmp_path)


_GROWTH = """
import sys
from pathlib import Path
from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.lake import Lake

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

seen = []
def progress(*, tokens=0, total=0, rows=0, n_bytes=0):
    if rows:
        seen.append(resident())

config = load(sys.argv[1])
done = capture(Lake(config.lake), config, progress=progress)
print(done.n_shards, done.n_rows, *seen)
"""


def dense_coder(folder: Path, k: int = 32) -> Path:
    """Save random directions of which k are active at every token."""
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(4 * k, tiny.D, generator=generator)
    weights = {
        "encoder.weight": encoder, "encoder.bias": torch.full((4 * k,), 10.0),
        "W_dec": encoder.clone(), "b_dec": torch.zeros(tiny.D),
    }  # fmt: skip
    (folder / "h.0").mkdir(parents=True)
    (folder / "h.0" / "cfg.json").write_text(json.dumps({"activation": "topk", "k": k}))
    save_file(weights, folder / "h.0" / "sae.safetensors")
    return folder


@pytest.mark.slow
def test_resident_memory_does_not_grow_with_shards(built, tmp_path):
    """Twenty shards of 4 MB of rows each: kept rows would show as 76 MB.

    The first few fill the pools of the libraries that sort and write; how much the allocator then
    keeps differs by some 30 MB from run to run, and rows kept from shard 5 on would be 57 MB.
    """
    tiny.write_corpus(tmp_path / "long.jsonl", n_documents=5000)
    more = {
        "lake": str(tmp_path / "lake"), "corpus.dataset": str(tmp_path / "long.jsonl"),
        "capture.n_tokens": 20 * 8192, "capture.shard_tokens": 8192, "capture.batch_sequences": 32,
        "capture.coder": str(dense_coder(tmp_path / "coder")),
        "capture.min_explained_variance": float("-inf"),
    }  # fmt: skip
    lines = [f"{k} = {json.dumps(v)}" for k, v in (built | more).items()]
    text = "\n".join(lines).replace("-Infinity", "-inf")
    (tmp_path / "settings.toml").write_text(text)
    out = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(tmp_path / "settings.toml")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_shards, n_rows, *seen = (int(text) for text in out.stdout.split())
    assert (n_shards, len(seen)) == (20, 20)
    assert n_rows > 20 * 200_000
    assert seen[-1] - seen[0] < 64 * 2**20, [s // 2**20 for s in seen]
    assert seen[-1] - seen[4] < 44 * 2**20, [s // 2**20 for s in seen]


# -- options of the model ---------------------------------------------------------------------


def test_options_of_the_model_reach_it(built, truth, tmp_path):
    run(built, tmp_path, **{"capture.device_map": "auto", "capture.attention": "eager"})
    assert rows(tmp_path) == truth
    eager = CaptureConfig(model=str(built["capture.model"]), device="cpu", attention="eager")
    assert model.SubjectModel(eager).hf.config._attn_implementation == "eager"


def test_quantization_without_its_package_names_the_extra(built):
    settings = CaptureConfig(model=str(built["capture.model"]), device="cpu", quantization="8bit")
    with pytest.raises(MissingExtra, match=r"pip install 'lakeinterp\[quantized\]'"):
        model.SubjectModel(settings)
    drawn = settings.model_copy(update={"control": "random-model"})
    with pytest.raises(ConfigError, match=r"capture\.quantization: .* random-model"):
        model.SubjectModel(drawn)


def test_attention_that_is_not_installed_is_one_line(built):
    settings = CaptureConfig(
        model=str(built["capture.model"]), device="cpu", attention="flash_attention_2"
    )
    with pytest.raises(ConfigError, match=r"^capture\.(attention|model): "):
        model.SubjectModel(settings)
