"""Coders saved by the packages that make them, encoded and decoded as those packages do.

Needs an environment of its own: `make test-parity`.
"""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from lakeinterp.coders import find

pytestmark = pytest.mark.parity
N, D, L, K = 64, 16, 96, 8


def states(seed=0):
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.2


def randomise(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim:
                drawn = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(drawn.abs() if "threshold" in name else drawn)


def ours(path):
    folder = find(str(path))
    (spec,) = folder.specs
    return folder.load(spec, "cpu", 13 * 4 * L)


def dense(active):
    code = torch.zeros(N, L)
    code[active.token_M, active.latent_M.long()] = active.value_M
    return code


def assert_equal(found, expected):
    assert torch.equal(found != 0, expected != 0)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize(("transcode", "skip"), [(False, False), (True, False), (True, True)])
def test_sparsify(tmp_path, activation, transcode, skip):
    sparsify = pytest.importorskip("sparsify")
    config = sparsify.SparseCoderConfig(
        num_latents=L, k=K, activation=activation, transcode=transcode, skip_connection=skip
    )
    real = sparsify.SparseCoder(D, config)
    randomise(real)
    real.save_to_disk(tmp_path / "layers.0.mlp")
    coder, x = ours(tmp_path), states()
    with torch.no_grad():
        top = real.encode(x)
        out = real(x).sae_out
    expected = torch.zeros(N, L).scatter_(1, top.top_indices, top.top_acts)
    active = coder.encode(x)
    assert_equal(dense(active), expected)
    torch.testing.assert_close(coder.decode(active, x), out, atol=1e-4, rtol=1e-4)


ARCHITECTURES = {
    "standard": {},
    "topk": {"k": K},
    "topk-rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
    "jumprelu": {},
    "gated": {},
    "transcoder": {"d_out": 10},
    "skip_transcoder": {"d_out": 10},
    "jumprelu_transcoder": {"d_out": 10},
    "jumprelu_skip_transcoder": {"d_out": 10},
}
NORMALISED = ("none", "constant_norm_rescale", "layer_norm")


def saelens_config(architecture, **more):
    metadata = {"hook_name": "blocks.1.hook_resid_pre", "sae_lens_version": "6.0.0"}
    config = {"architecture": architecture.partition("-")[0], "d_in": D, "d_sae": L}
    config |= {"dtype": "float32", "device": "cpu"}
    config["apply_b_dec_to_input"] = "transcoder" not in architecture
    return {**config, "metadata": metadata, "reshape_activations": "none", **more}


@pytest.mark.parametrize("normalize", NORMALISED)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens(tmp_path, architecture, normalize):
    lens = pytest.importorskip("sae_lens")
    config = saelens_config(
        architecture, normalize_activations=normalize, **ARCHITECTURES[architecture]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        real = lens.SAE.from_dict(config)
        randomise(real)
        real.save_model(tmp_path / "a")
    coder, x = ours(tmp_path), states()
    with torch.no_grad():
        expected, out = real.encode(x), real(x)
    active = coder.encode(x)
    assert_equal(dense(active), expected)
    torch.testing.assert_close(coder.decode(active, x), out, atol=2e-4, rtol=1e-4)


def test_saelens_folded_input_scale(tmp_path):
    lens = pytest.importorskip("sae_lens")
    real = lens.SAE.from_dict(
        saelens_config("jumprelu", normalize_activations="expected_average_only_in")
    )
    randomise(real)
    real.save_model(tmp_path / "a")
    (tmp_path / "a" / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.3}))
    coder, x = ours(tmp_path), states()
    real.fold_activation_norm_scaling_factor(0.3)
    with torch.no_grad():
        expected, out = real.encode(x), real(x)
    active = coder.encode(x)
    assert_equal(dense(active), expected)
    torch.testing.assert_close(coder.decode(active, x), out, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["BatchTopK", "MatryoshkaBatchTopK"])
def test_saelens_trained_with_batch_top_k_and_saved_for_inference(tmp_path, name):
    lens = pytest.importorskip("sae_lens")
    settings = {"k": K, "d_in": D, "d_sae": L}
    if name.startswith("Matryoshka"):
        settings["matryoshka_widths"] = [L // 2, L]
    trained = getattr(lens, f"{name}TrainingSAE")(
        getattr(lens, f"{name}TrainingSAEConfig")(**settings)
    )
    randomise(trained)
    trained.topk_threshold.fill_(1.5)
    trained.cfg.metadata.hook_name = "blocks.1.hook_resid_pre"
    trained.save_inference_model(tmp_path / "a")
    real = lens.SAE.load_from_disk(tmp_path / "a")
    coder, x = ours(tmp_path), states()
    with torch.no_grad():
        expected, out = real.encode(x), real(x)
    active = coder.encode(x)
    assert coder.spec.architecture == "jumprelu"
    assert_equal(dense(active), expected)
    torch.testing.assert_close(coder.decode(active, x), out, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_saelens_folder_of_before_version_6(tmp_path, activation):
    lens = pytest.importorskip("sae_lens")
    own = {"topk": saelens_config("topk", k=K), "relu": saelens_config("standard")}
    real = lens.SAE.from_dict(own[activation])
    randomise(real)
    real.save_model(tmp_path / "a")
    flat = {
        "d_in": D, "d_sae": L, "dtype": "float32", "device": "cpu", "model_name": "gpt2-small",
        "hook_point": "blocks.1.hook_resid_pre", "hook_point_layer": 1,
        "hook_point_head_index": None, "activation_fn_str": activation,
        "activation_fn_kwargs": {"k": K} if activation == "topk" else {},
        "normalize_activations": "none", "apply_b_dec_to_input": True,
    }  # fmt: skip
    (tmp_path / "a" / "cfg.json").write_text(json.dumps(flat))
    again = lens.SAE.load_from_disk(tmp_path / "a")
    coder, x = ours(tmp_path), states()
    with torch.no_grad():
        expected, out = again.encode(x), again(x)
    active = coder.encode(x)
    assert (coder.spec.module, coder.spec.site) == ("blocks.1.hook_resid_pre", "output")
    assert_equal(dense(active), expected)
    torch.testing.assert_close(coder.decode(active, x), out, atol=2e-4, rtol=1e-4)
