"""Capture on a model whose hidden state is known: every row right, once, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.errors import ConfigError, NonFinite, NotFound
from lakeinterp.lake import Lake
from lakeinterp.lake.units import captured_sequences
from tests import tiny

ALL_ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Settings of a built model, coder and corpus; tests give each its own lake."""
    return tiny.settings(tmp_path_factory.mktemp("tiny"))


def run(built, lake: Path, **more):
    config = load(values={**built, "lake": str(lake), **more})
    return capture(Lake(config.lake), config)


def rows(lake: Path):
    return Lake(str(lake)).sql(ALL_ROWS).fetchall()


def tokens_of(lake: Path) -> np.ndarray:
    found = Lake(str(lake)).sql("SELECT tokens FROM sequences ORDER BY sequence").fetchall()
    return np.array([tokens for (tokens,) in found])


def test_every_row_is_what_the_hidden_state_says(built, tmp_path):
    done = run(built, tmp_path)
    tokens = tokens_of(tmp_path)
    before = np.roll(tokens, 1, axis=1)
    before[:, 0] = tokens[:, 0]
    dense = np.zeros((tokens.size, tiny.N_LATENTS))
    dense[:, tiny.CAT_LATENT] = 0.5 * (tokens == tiny.CAT).ravel()
    dense[:, tiny.AFTER_THE_LATENT] = 0.5 * (before == tiny.THE).ravel()
    both = (tokens == tiny.DOG) & (before == tiny.THE)
    dense[:, tiny.DOG_AFTER_THE_LATENT] = 0.5 * both.ravel()
    for latent in range(4, tiny.N_LATENTS):
        dense[:, latent] = 0.5 * (tokens == latent + 3).ravel()
    dense[(tokens == 0).ravel()] = 0

    found = np.zeros_like(dense)
    for _, latent, token, value in rows(tmp_path):
        found[token, latent] = value

    np.testing.assert_allclose(found, dense, atol=0.01)
    assert done.n_rows == np.count_nonzero(dense) == len(rows(tmp_path))
    assert not found[:, tiny.DEAD_LATENT].any()


def test_values_are_rounded_to_the_capture_dtype(built, tmp_path):
    run(built, tmp_path, **{"capture.n_tokens": 2048})
    values = torch.tensor([value for *_, value in rows(tmp_path)])
    assert torch.equal(values.bfloat16().float(), values)


def test_rerun_does_nothing_and_more_tokens_add_to_it(built, tmp_path):
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    run(built, whole)
    first = run(built, grown, **{"capture.n_tokens": 3000})
    again = run(built, grown, **{"capture.n_tokens": 3000})
    assert (first.n_shards, again.n_shards, again.n_skipped) == (2, 0, 2)
    assert captured_sequences(Lake(str(grown)), first.capture) == 3000 // tiny.P
    run(built, grown)
    assert rows(grown) == rows(whole)
    assert captured_sequences(Lake(str(grown)), first.capture) == 8192 // tiny.P


def test_batch_size_decides_no_row(built, tmp_path):
    run(built, tmp_path / "a", **{"capture.batch_sequences": 3})
    run(built, tmp_path / "b", **{"capture.batch_sequences": 16})
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_corpus_that_ends_early_is_captured_to_its_end(built, tmp_path):
    done = run(built, tmp_path, **{"capture.n_tokens": 10**6})
    n_sequences = len(tokens_of(tmp_path))
    assert done.n_tokens == n_sequences * tiny.P < 10**6
    assert captured_sequences(Lake(str(tmp_path)), done.capture) == n_sequences
    assert run(built, tmp_path, **{"capture.n_tokens": 10**6}).n_rows == 0


def test_two_coders_are_captured_in_one_pass_and_one_commit_a_shard(built, tmp_path):
    coder = tmp_path / "coders"
    tiny.build_coder(coder)
    weights = load_file(coder / "h.0" / "sae.safetensors")
    (coder / "h.1.mlp").mkdir()
    config = json.loads((coder / "h.0" / "cfg.json").read_text())
    (coder / "h.1.mlp" / "cfg.json").write_text(json.dumps({**config, "transcode": True}))
    save_file(weights, coder / "h.1.mlp" / "sae.safetensors")
    accept = {"capture.min_explained_variance": float("-inf")}
    run(built, tmp_path / "lake", **{"capture.coder": str(coder)}, **accept)
    lake = Lake(str(tmp_path / "lake"))
    sites = lake.sql("SELECT hookpoint, site FROM hookpoints ORDER BY 1").fetchall()
    assert sites == [("h.0", "output"), ("h.1.mlp", "input")]
    assert {hookpoint for hookpoint, *_ in rows(tmp_path / "lake")} == {"h.0", "h.1.mlp"}
    delta = lake.table("activations")
    assert delta is not None
    assert delta.version() == 8192 // 2048


def test_hookpoint_row_says_what_was_measured(built, tmp_path):
    run(built, tmp_path)
    row = Lake(str(tmp_path)).one("hookpoints", "hookpoint = 'h.0'")
    assert (row["module"], row["d_in"], row["n_latents"]) == ("h.0", tiny.D, tiny.N_LATENTS)
    assert 0 < row["l0"] < 4
    assert json.loads(row["checks"])["n_tokens"] > 1900


def test_coder_that_does_not_fit_is_refused_and_writes_no_row(built, tmp_path):
    with pytest.raises(ConfigError, match=r"less than capture.min_explained_variance = 0.9"):
        run(built, tmp_path, **{"capture.min_explained_variance": 0.9})
    assert rows(tmp_path) == []


def test_coder_of_another_width_is_refused(built, tmp_path):
    coder = tiny.build_coder(tmp_path / "coder")
    weights = {
        name: w[..., :7].contiguous()
        for name, w in load_file(coder / "h.0" / "sae.safetensors").items()
    }
    weights["encoder.bias"] = torch.zeros(tiny.N_LATENTS)
    save_file(weights, coder / "h.0" / "sae.safetensors")
    with pytest.raises(ConfigError, match=rf"reads width 7, but the output of h.0 has {tiny.D}"):
        run(built, tmp_path / "lake", **{"capture.coder": str(coder)})


def test_hookpoint_the_model_lacks_names_the_nearest_modules(built, tmp_path):
    coder = tiny.build_coder(tmp_path / "coder")
    (coder / "h.0").rename(coder / "h.7")
    with pytest.raises(NotFound, match=r"unknown hookpoint 'h.7'; did you mean 'h\.[01]'"):
        run(built, tmp_path / "lake", **{"capture.coder": str(coder)})


def test_capture_of_one_name_with_other_settings_is_refused(built, tmp_path):
    run(built, tmp_path, **{"capture.name": "mine"})
    with pytest.raises(ConfigError, match="another value_dtype; choose another name"):
        run(built, tmp_path, **{"capture.name": "mine", "capture.value_dtype": "float32"})


def test_infinite_activation_stops_with_its_place(built, tmp_path):
    coder = tiny.build_coder(tmp_path / "coder")
    weights = load_file(coder / "h.0" / "sae.safetensors")
    weights["encoder.weight"][0, tiny.CAT] = 1e30
    weights["W_dec"][0] = 0
    save_file(weights, coder / "h.0" / "sae.safetensors")
    with pytest.raises(
        NonFinite, match=r"h\.0: activation 1e\+30 of latent 0 at sequence \d+, pos"
    ):
        run(
            built,
            tmp_path / "lake",
            **{"capture.coder": str(coder), "capture.value_dtype": "float16"},
        )
    assert rows(tmp_path / "lake") == []


def test_missing_model_is_one_line(built, tmp_path):
    with pytest.raises(NotFound, match=r"unknown model .*no such file or folder"):
        run(built, tmp_path, **{"capture.model": str(tmp_path / "nowhere")})


def test_what_stops_a_capture_before_its_first_row_leaves_no_capture_behind(built, tmp_path):
    (tmp_path / "short.jsonl").write_text('{"text": "the cat"}\n')
    wrong = (
        {"corpus.dataset": str(tmp_path / "gone.jsonl")},
        {"corpus.dataset": str(tmp_path / "short.jsonl")},
        {"capture.min_explained_variance": 0.9},
    )
    for more in wrong:
        with pytest.raises(ConfigError):
            run(built, tmp_path / "lake", **more)
    with pytest.raises(ConfigError, match="less text than one sequence of 64 tokens"):
        run(built, tmp_path / "lake", **{"corpus.dataset": str(tmp_path / "short.jsonl")})
    lake = Lake(str(tmp_path / "lake"))
    assert lake.rows("captures") == lake.rows("hookpoints") == []


def test_part_of_a_shard_that_another_run_committed_leaves_no_hole(built, tmp_path, monkeypatch):
    from lakeinterp.capture import shard as loop

    commit, other = loop.commit, {"capture.n_tokens": 1024}

    def late(*arguments):
        if other:
            more = dict(other)
            other.clear()
            run(built, tmp_path / "both", **more)
        return commit(*arguments)

    monkeypatch.setattr(loop, "commit", late)
    done = run(built, tmp_path / "both")
    assert captured_sequences(Lake(str(tmp_path / "both")), done.capture) == 8192 // tiny.P
    run(built, tmp_path / "alone")
    assert rows(tmp_path / "both") == rows(tmp_path / "alone")


def start(built, lake: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `lakeinterp capture` as a user would."""
    settings = [f"{k}={json.dumps(v)}" for k, v in built.items() if k != "lake"]
    return subprocess.Popen(
        [sys.executable, "-m", "lakeinterp", "capture", "--lake", str(lake), *arguments]
        + [part for text in settings for part in ("--set", text)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def commits(lake: Path) -> int:
    return len(list((lake / "activations" / "_delta_log").glob("*.json")))


def wait_for(condition, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_capture_killed_twice_and_run_again_gives_the_rows_of_an_undisturbed_one(built, tmp_path):
    settings = {**built, "capture.shard_tokens": 512, "capture.batch_sequences": 1}
    killed = tmp_path / "killed"
    for n_commits in (2, 6):
        process = start(settings, killed)
        wait_for(lambda n=n_commits: commits(killed) >= n, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(rows(killed)) > 0
    process = start(settings, killed)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run(settings, tmp_path / "whole")
    assert rows(killed) == rows(tmp_path / "whole")
    assert not list(killed.rglob("*.partial")) or commits(killed) == 8192 // 512 + 1


@pytest.mark.slow
def test_two_processes_on_the_same_capture_write_each_row_once(built, tmp_path):
    processes = [start(built, tmp_path / "both") for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    run(built, tmp_path / "one")
    assert rows(tmp_path / "both") == rows(tmp_path / "one")
    both = Lake(str(tmp_path / "both"))
    assert both.sql("SELECT count(*) FROM sequences").fetchall() == [
        (len(tokens_of(tmp_path / "one")),)
    ]
