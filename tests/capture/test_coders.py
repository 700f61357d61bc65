"""Coders of several formats and the controls, captured end to end on a model that is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Model

from lakeinterp import cli
from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from tests import tiny

ACCEPT = {"capture.min_explained_variance": float("-inf"), "capture.value_dtype": "float32"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A known model with a random MLP in its first block, so that its neurons fire."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = tiny.settings(folder, **{"capture.n_tokens": 2048, **ACCEPT})
    model = GPT2Model.from_pretrained(folder / "model")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weight in (model.h[0].mlp.c_fc.weight, model.h[0].mlp.c_proj.weight):
            weight.copy_(torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder / "model")
    return settings


@pytest.fixture(scope="module")
def states(built, tmp_path_factory):
    """Hidden states by place, computed by plain hooks: [tokens, width].

    `first` are those of the 4 096 tokens that coders are measured on, special ones left out.
    """
    lake = tmp_path_factory.mktemp("states")
    run(built, lake)
    rows = Lake(str(lake)).sql("SELECT tokens FROM sequences ORDER BY sequence").fetchall()
    tokens = torch.tensor([tokens for (tokens,) in rows])
    assert tokens.numel() == 4096
    model = GPT2Model.from_pretrained(built["capture.model"]).eval()
    kept = {}
    block = model.h[0]
    block.mlp.c_proj.register_forward_pre_hook(lambda _, a: kept.update(neurons=a[0]))
    block.register_forward_hook(
        lambda *a: kept.update(post=a[2][0] if isinstance(a[2], tuple) else a[2])
    )
    block.mlp.register_forward_hook(lambda *a: kept.update(mlp=a[2]))
    with torch.no_grad():
        model(tokens)
    all_tokens = tokens.flatten().numpy()
    flat = {name: x.flatten(0, 1).double().numpy() for name, x in kept.items()}
    first = flat["post"][all_tokens != 0]
    return {n: x[:2048] for n, x in flat.items()} | {"tokens": all_tokens[:2048], "first": first}


def run(built, lake, **more):
    config = load(values={**built, "lake": str(lake), **more})
    return capture(Lake(config.lake), config)


def dense(lake, n_latents, hookpoint=None):
    where = f"WHERE hookpoint = '{hookpoint}'" if hookpoint else ""
    found = np.zeros((2048, n_latents))
    for latent, token, value in (
        Lake(str(lake)).sql(f"SELECT latent, token, value FROM activations {where}").fetchall()
    ):
        found[token, latent] = value
    return found


def without_special(dense_code, states):
    dense_code[states["tokens"] == 0] = 0
    return dense_code


def weights(seed, n_latents=24):
    rng = np.random.default_rng(seed)
    return {
        "W_enc": rng.standard_normal((tiny.D, n_latents)),
        "b_enc": rng.standard_normal(n_latents) * 0.1,
        "W_dec": rng.standard_normal((n_latents, tiny.D)),
        "b_dec": rng.standard_normal(tiny.D) * 0.1,
    }


def write_saelens(folder, w, hook="blocks.0.hook_resid_post", **config):
    folder.mkdir(parents=True)
    config = {"architecture": "standard", "metadata": {"hook_name": hook}, **config}
    (folder / "cfg.json").write_text(json.dumps(config))
    tensors = {n: torch.from_numpy(a.astype(np.float32)) for n, a in w.items()}
    save_file(tensors, folder / "sae_weights.safetensors")


def write_dictionary(folder, w, k):
    folder.mkdir(parents=True)
    state = {
        "encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "decoder.weight": w["W_dec"].T,
        "b_dec": w["b_dec"],
    }  # fmt: skip
    tensors = {n: torch.from_numpy(a.astype(np.float32)) for n, a in state.items()}
    torch.save(tensors | {"k": torch.tensor(k)}, folder / "ae.pt")
    trainer = {"dict_class": "AutoEncoderTopK", "layer": 0, "submodule_name": "mlp_out_layer_0"}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))


def relu(x):
    return np.maximum(x, 0)


def test_two_formats_of_different_width_and_place_in_one_capture(built, states, tmp_path):
    first, second = weights(1), weights(2, 40)
    write_saelens(tmp_path / "coders" / "a", first)
    write_dictionary(tmp_path / "coders" / "b" / "trainer_0", second, k=5)
    lake = tmp_path / "lake"
    run(built, lake, **{"capture.coder": str(tmp_path / "coders")})

    expected = relu((states["post"] - first["b_dec"]) @ first["W_enc"] + first["b_enc"])
    np.testing.assert_allclose(
        dense(lake, 24, "a"), without_special(expected, states), rtol=1e-5, atol=2e-4
    )
    pre = relu((states["mlp"] - second["b_dec"]) @ second["W_enc"] + second["b_enc"])
    kept = np.sort(pre, axis=1)[:, -5]
    expected = np.where(pre >= kept[:, None], pre, 0)
    found = dense(lake, 40, "b/trainer_0")
    np.testing.assert_allclose(found, without_special(expected, states), rtol=1e-5, atol=2e-4)
    rows = Lake(str(lake)).sql(
        "SELECT hookpoint, format, architecture, site, module, n_latents, k FROM hookpoints "
        "ORDER BY hookpoint"
    )
    assert rows.fetchall() == [
        ("a", "saelens", "standard", "output", "h.0", 24, None),
        ("b/trainer_0", "dictionary_learning", "topk", "output", "h.0.mlp", 40, 5),
    ]


@pytest.mark.parametrize("k", [None, 2])
def test_neurons_are_what_the_down_projection_reads(built, states, tmp_path, k):
    settings = {"capture.format": "neurons", "capture.neurons_k": k, "capture.coder": ""}
    run(built, tmp_path, **settings, **{"capture.hookpoints": ["h.0.mlp"]})
    expected = relu(states["neurons"])
    if k:
        kept = np.sort(expected, axis=1)[:, -k]
        expected = np.where(expected >= kept[:, None], expected, 0)
    found = dense(tmp_path, 4)
    np.testing.assert_allclose(found, without_special(expected, states), atol=1e-4)
    row = Lake(str(tmp_path)).one("hookpoints", "hookpoint = 'h.0.mlp'")
    assert (row["module"], row["site"], row["k"]) == ("h.0.mlp.c_proj", "input", k)


def test_neurons_of_every_mlp_are_taken_unless_some_are_named(built, tmp_path):
    run(built, tmp_path, **{"capture.format": "neurons"})
    found = Lake(str(tmp_path)).sql("SELECT hookpoint FROM hookpoints ORDER BY 1").fetchall()
    assert found == [("h.0.mlp",), ("h.1.mlp",)]
    with pytest.raises(NotFound, match=r"unknown hookpoint 'h\.2\.mlp'; did you mean 'h\."):
        run(built, tmp_path, **{"capture.format": "neurons", "capture.hookpoints": ["h.2.mlp"]})


def test_random_coder_keeps_the_sparsity_and_width_of_the_one_it_is_compared_with(built, tmp_path):
    first = weights(1)
    write_saelens(tmp_path / "coders" / "relu", first)
    write_dictionary(tmp_path / "coders" / "topk", weights(2), k=5)
    settings = {"capture.coder": str(tmp_path / "coders")}
    plain = run(built, tmp_path / "lake", **settings)
    control = run(built, tmp_path / "lake", **settings, **{"capture.control": "random-coder"})
    again = run(built, tmp_path / "again", **settings, **{"capture.control": "random-coder"})

    assert len({plain.capture, control.capture}) == 2
    assert "random-coder" in control.capture
    lake = Lake(str(tmp_path / "lake"))
    rows = {(r["capture"], r["hookpoint"]): r for r in lake.rows("hookpoints", "true")}
    for name in ("relu", "topk"):
        real, drawn = rows[plain.capture, name], rows[control.capture, name]
        assert (drawn["format"], drawn["n_latents"]) == ("random", real["n_latents"])
        assert drawn["k"] == round(real["l0"]) if name == "relu" else 5
        assert drawn["module"] == real["module"]
    one, two = (
        Lake(str(tmp_path / folder)).sql(
            "SELECT hookpoint, latent, token, value FROM activations "
            f"WHERE capture = '{control.capture}' ORDER BY ALL"
        ).fetchall()
        for folder in ("lake", "again")
    )  # fmt: skip
    assert one == two
    assert again.n_rows > 0


def test_random_coder_continues_with_the_sparsity_it_began_with(built, tmp_path):
    write_saelens(tmp_path / "coders" / "relu", weights(1))
    settings = {"capture.coder": str(tmp_path / "coders"), "capture.control": "random-coder"}
    run(built, tmp_path / "grown", **settings)
    run(built, tmp_path / "grown", **settings, **{"capture.n_tokens": 8192})
    run(built, tmp_path / "whole", **settings, **{"capture.n_tokens": 8192})
    rows = "SELECT latent, token, value FROM activations ORDER BY ALL"
    k = Lake(str(tmp_path / "grown")).one("hookpoints", "true")["k"]
    grown, whole = (Lake(str(tmp_path / n)).sql(rows).fetchall() for n in ("grown", "whole"))
    assert grown == whole
    per_token = "SELECT max(n) FROM (SELECT count(*) AS n FROM activations GROUP BY token)"
    assert Lake(str(tmp_path / "grown")).sql(per_token).fetchall() == [(k,)]


def test_random_model_is_a_capture_of_its_own_and_the_same_on_every_run(built, tmp_path):
    first = run(built, tmp_path / "a")
    control = {"capture.control": "random-model", "capture.min_explained_variance": 0.9}
    drawn = run(built, tmp_path / "a", **control)
    run(built, tmp_path / "b", **control)
    assert "random-model" in drawn.capture
    query = "SELECT latent, token, value FROM activations WHERE capture = '{}' ORDER BY ALL"
    rows = [
        Lake(str(tmp_path / folder)).sql(query.format(name)).fetchall()
        for folder, name in (("a", first.capture), ("a", drawn.capture), ("b", drawn.capture))
    ]
    assert rows[0] != rows[1] == rows[2]


def test_control_under_the_name_of_the_real_capture_is_refused(built, tmp_path):
    run(built, tmp_path, **{"capture.name": "mine"})
    with pytest.raises(ConfigError, match="with another control; choose another name"):
        run(built, tmp_path, **{"capture.name": "mine", "capture.control": "random-model"})


def test_input_scale_that_no_file_holds_is_measured_once_and_kept(built, states, tmp_path):
    w = weights(1)
    write_saelens(tmp_path / "coders" / "a", w, normalize_activations="expected_average_only_in")
    settings = {"capture.coder": str(tmp_path / "coders"), "capture.shard_tokens": 512}
    lake = tmp_path / "lake"
    run(built, lake, **settings, **{"capture.n_tokens": 1024})
    run(built, lake, **settings)
    scale = tiny.D**0.5 / np.linalg.norm(states["first"], axis=1).mean()
    checks = json.loads(Lake(str(lake)).one("hookpoints", "true")["checks"])
    assert checks["input_scale"] == pytest.approx(scale, rel=1e-5)
    expected = relu((states["post"] * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    np.testing.assert_allclose(
        dense(lake, 24), without_special(expected, states), rtol=1e-5, atol=2e-4
    )


def test_l0_far_from_the_published_is_refused_and_written_beside_it_otherwise(built, tmp_path):
    write_saelens(tmp_path / "coders" / "a", weights(1))
    sparsity = tmp_path / "coders" / "a" / "sparsity.safetensors"
    save_file({"sparsity": torch.full((24,), 0.1).log10()}, sparsity)
    settings = {"capture.coder": str(tmp_path / "coders")}
    line = r"coder a: L0 is \d+\.\d at the output of h\.0 on \d+ tokens, published is 2\.4, more"
    with pytest.raises(ConfigError, match=line):
        run(built, tmp_path / "lake", **settings)
    run(built, tmp_path / "lake", **settings, **{"capture.max_l0_ratio": float("inf")})
    checks = json.loads(Lake(str(tmp_path / "lake")).one("hookpoints", "true")["checks"])
    assert checks["published_l0"] == pytest.approx(2.4)
    assert checks["l0"] > 4.8
    assert set(checks) >= {"explained_variance", "n_tokens", "silent_share"}


def test_sae_that_reads_an_input_is_measured_against_what_it_reads(built, states, tmp_path):
    identity = np.eye(tiny.D)
    w = {"W_enc": np.hstack([identity, -identity]), "b_enc": np.zeros(2 * tiny.D)}
    w |= {"W_dec": np.vstack([identity, -identity]), "b_dec": np.zeros(tiny.D)}
    write_saelens(tmp_path / "coders" / "z", w, hook="blocks.0.attn.hook_z")
    run(built, tmp_path / "lake", **{"capture.coder": str(tmp_path / "coders")})
    row = Lake(str(tmp_path / "lake")).one("hookpoints", "true")
    assert (row["module"], row["site"]) == ("h.0.attn.c_proj", "input")
    assert row["explained_variance"] == pytest.approx(1, abs=1e-5)


def test_nan_in_a_coder_stops_the_capture(built, tmp_path):
    coder = tiny.build_coder(tmp_path / "coder")
    path = coder / "h.0" / "sae.safetensors"
    w = load_file(path)
    w["encoder.bias"][2] = float("nan")
    save_file(w, path)
    with pytest.raises(Exception, match=r"nan"):
        run(built, tmp_path / "lake", **{"capture.coder": str(coder)})


def test_format_and_control_are_options_of_the_command(built, tmp_path, capsys):
    settings = {**built, "capture.hookpoints": ["h.0.mlp"], "lake": str(tmp_path)}
    given = [part for k, v in settings.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    given = [part.replace("-Infinity", "-inf") for part in given]
    assert cli.run(["capture", "--format", "neurons", "--control", "random-model", *given]) == 0
    assert "random-model" in capsys.readouterr().out
    row = Lake(str(tmp_path)).one("hookpoints", "true")
    assert (row["format"], row["hookpoint"]) == ("neurons", "h.0.mlp")
