"""Coders against an independent float64 encoder; folders found, chosen and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lakeinterp.coders import find
from lakeinterp.errors import ConfigError, NotFound

N, D, L, K = 50, 12, 96, 8


def write_coder(folder: Path, seed: int = 0, **config: object) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "encoder.weight": torch.randn(L, D, generator=generator),
        "encoder.bias": torch.randn(L, generator=generator) * 0.1,
        "W_dec": torch.randn(L, D, generator=generator),
        "b_dec": torch.randn(D, generator=generator),
    }
    if config.get("skip_connection"):
        weights["W_skip"] = torch.randn(D, D, generator=generator)
    folder.mkdir(parents=True)
    save_file(weights, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": K, "num_latents": L, **config}))
    return {name: w.double().numpy() for name, w in weights.items()}


def slow_encode(w: dict[str, np.ndarray], x: np.ndarray, *, transcode: bool, groups: bool):
    """Return the dense code [N, L] in float64, one token at a time."""
    dense = np.zeros((len(x), L))
    for n, row in enumerate(x if transcode else x - w["b_dec"]):
        pre = np.maximum(w["encoder.weight"] @ row + w["encoder.bias"], 0)
        if groups:
            kept = [g * (L // K) + int(part.argmax()) for g, part in enumerate(np.split(pre, K))]
        else:
            kept = list(np.argsort(-pre)[:K])
        dense[n, kept] = pre[kept]
    return dense


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize(("transcode", "skip"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("chunk_bytes", [1, 3 * 4 * L, 2**20])
def test_encoding_equals_the_float64_encoder(tmp_path, activation, transcode, skip, chunk_bytes):
    weights = write_coder(
        tmp_path / "layers.0.mlp", activation=activation, transcode=transcode, skip_connection=skip
    )
    folder = find(str(tmp_path))
    coder = folder.load(folder.specs[0], "cpu", chunk_bytes)
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))

    active = coder.encode(x)

    dense = np.zeros((N, L))
    dense[active.token_M.numpy(), active.latent_M.numpy()] = active.value_M.numpy()
    expected = slow_encode(
        weights, x.double().numpy(), transcode=transcode, groups=activation == "groupmax"
    )
    np.testing.assert_allclose(dense, expected, atol=1e-5)
    assert np.all(np.diff(active.token_M.numpy()) >= 0)
    assert bool((active.value_M > 0).all())
    decoded = expected @ weights["W_dec"] + weights["b_dec"]
    if skip:
        decoded = decoded + x.double().numpy() @ weights["W_skip"].T
    np.testing.assert_allclose(coder.decode(active, x).numpy(), decoded, atol=1e-4)


def test_spec_says_where_a_coder_reads(tmp_path):
    write_coder(tmp_path / "layers.0", transcode=False)
    write_coder(tmp_path / "layers.0.mlp", transcode=True, skip_connection=True)
    sae, transcoder = find(str(tmp_path)).specs
    assert (sae.hookpoint, sae.site, sae.architecture) == ("layers.0", "output", "topk-sae")
    assert (transcoder.site, transcoder.architecture) == ("input", "topk-skip-transcoder")
    assert (sae.n_latents, sae.d_in, sae.k) == (L, D, K)


def test_hookpoints_are_chosen_with_or_without_the_model_prefix(tmp_path):
    write_coder(tmp_path / "model.layers.0")
    write_coder(tmp_path / "model.layers.1")
    assert [s.hookpoint for s in find(str(tmp_path), ["layers.1"]).specs] == ["model.layers.1"]


def test_a_folder_that_is_itself_one_coder_is_found(tmp_path):
    write_coder(tmp_path / "layers.4")
    assert [s.hookpoint for s in find(str(tmp_path / "layers.4")).specs] == ["layers.4"]


def test_revision_depends_on_the_weights_and_not_on_the_place(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_coder(tmp_path / name / "layers.0", seed=seed)
    a, b, c = (find(str(tmp_path / name)).revision for name in "abc")
    assert a == b != c


def test_unknown_hookpoint_names_the_nearest(tmp_path):
    write_coder(tmp_path / "layers.10")
    with pytest.raises(NotFound, match=r"did you mean 'layers.10'"):
        find(str(tmp_path), ["layers.11"])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: (p / "cfg.json").write_text("{}"), "has no k"),
        (lambda p: (p / "cfg.json").write_text("{"), r"cannot read cfg\.json"),
        (lambda p: (p / "sae.safetensors").write_bytes(b"torn"), r"cannot read sae\.safetensors"),
        (lambda p: save_file({"W": torch.ones(1)}, p / "sae.safetensors"), r"expected encoder\.w"),
        (lambda p: (p / "sae.safetensors").unlink(), "holds no sparse coder"),
        (
            lambda p: (p / "cfg.json").write_text('{"k": 2, "activation": "relu"}'),
            "unknown activation 'relu'",
        ),
    ],
)
def test_broken_folder_is_refused_with_what_was_found(tmp_path, break_it, message):
    write_coder(tmp_path / "layers.0")
    break_it(tmp_path / "layers.0")
    with pytest.raises(ConfigError, match=message):
        find(str(tmp_path))


def test_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(NotFound, match="there is no such folder"):
        find(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"capture\.coder"):
        find("")
