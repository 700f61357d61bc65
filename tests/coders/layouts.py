"""Every coder layout written with random weights, and what it encodes and decodes to in float64.

The truths are written out per format, from the formats' definitions, one token at a time, and
share nothing with the package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

D, L, K, OUT = 12, 48, 6, 10
Array = np.ndarray
Encode = Callable[[Array], Array]
Decode = Callable[[Array, Array], Array]


@dataclass
class Truth:
    hookpoint: str
    format: str
    module: str
    encode: Encode
    """One token [D] to its dense code [L]."""
    decode: Decode
    """A dense code [L] and the token [D] it came from to what is predicted."""
    site: str = "output"
    target: str | None = None
    published_l0: float | None = None
    reads: str | None = None


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def top(pre: Array, k: int = K) -> Array:
    code = np.zeros_like(pre)
    kept = np.argsort(-pre)[:k]
    code[kept] = relu(pre[kept])
    return code


def jump(pre: Array, threshold: Array | float) -> Array:
    return np.where(pre > threshold, relu(pre), 0)


class Drawn:
    """Random float32 tensors, known as float64 arrays."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.tensors: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, *shape: int, scale: float = 1.0, positive: bool = False) -> Array:
        values = (self._rng.standard_normal(shape) * scale).astype(np.float32)
        values = np.abs(values) if positive else values
        self.tensors[name] = torch.from_numpy(values)
        return values.astype(np.float64)


def save(folder: Path, file: str, drawn: Drawn, config: dict, config_file: str) -> None:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    if file.endswith(".pt"):
        torch.save(drawn.tensors, folder / file)
    elif file.endswith(".npz"):
        np.savez(folder / file, **{n: t.numpy() for n, t in drawn.tensors.items()})
    else:
        save_file(drawn.tensors, folder / file)
    if config_file:
        (folder / config_file).write_text(json.dumps(config))


def sparsify(root: Path, *, transcode: bool, skip: bool, groups: bool) -> Truth:
    t = Drawn(1)
    enc, b = t("encoder.weight", L, D), t("encoder.bias", L, scale=0.1)
    dec, b_dec = t("W_dec", L, D), t("b_dec", D)
    w_skip = t("W_skip", D, D) if skip else np.zeros((D, D))
    config = {"activation": "groupmax" if groups else "topk", "k": K, "d_in": D}
    config |= {"transcode": transcode, "skip_connection": skip, "num_latents": L}
    save(root / "layers.1.mlp", "sae.safetensors", t, config, "cfg.json")

    def encode(x: Array) -> Array:
        pre = relu(enc @ (x if transcode else x - b_dec) + b)
        if not groups:
            return top(pre)
        code = np.zeros(L)
        for group in np.arange(L).reshape(K, L // K):
            best = group[pre[group].argmax()]
            code[best] = pre[best]
        return code

    site = "input" if transcode else "output"
    return Truth(
        "layers.1.mlp", "sparsify", "layers.1.mlp", encode,
        lambda code, x: code @ dec + b_dec + w_skip @ x, site=site,
    )  # fmt: skip


def saelens(
    root: Path, architecture: str, *, normalize: str | bool = "none", flat: bool = False,
    subtract: bool = True, rescale: bool = False, finetuned: bool = False, hf: bool = False,
) -> Truth:  # fmt: skip
    t = Drawn(2)
    is_transcoder, is_skip = "transcoder" in architecture, "skip" in architecture
    out = OUT if is_transcoder else D
    enc, dec, b_dec = t("W_enc", D, L), t("W_dec", L, out), t("b_dec", out)
    b = t("b_gate" if architecture == "gated" else "b_enc", L, scale=0.5)
    theta = t("threshold", L, positive=True) if "jumprelu" in architecture else 0.0
    r, b_mag = (t("r_mag", L, scale=0.3), t("b_mag", L)) if architecture == "gated" else (0, 0)
    w_skip = t("W_skip", OUT, D) if is_skip else np.zeros((out, D))
    tuned = t("scaling_factor", L, positive=True) if finetuned else np.ones(L)
    config: dict = {"d_in": D, "d_sae": L, "dtype": "float32", "architecture": architecture}
    config |= {"apply_b_dec_to_input": subtract, "normalize_activations": normalize}
    hook, folder = "blocks.1.hook_resid_pre", root / "blocks.1.hook_resid_pre"
    meta = {"hook_name": hook, "model_name": "gpt2"}
    meta |= {"hook_name_out": "blocks.1.hook_mlp_out"} if is_transcoder else {}
    meta |= {"hf_hook_name": "model.layers.1.output"} if hf else {}
    config |= {"k": K, "rescale_acts_by_decoder_norm": rescale} if architecture == "topk" else {}
    scale = 0.4
    if normalize == "constant_scalar_rescale":
        config["activation_normalization_factor"] = scale
    if flat:
        config |= {"hook_point": hook, "hook_point_layer": 1, "activation_fn_str": "relu"}
        if architecture == "topk":
            config |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
            config |= {"architecture": "standard"}
            del config["k"]
    else:
        config["metadata"] = meta
    save(folder, "sae_weights.safetensors", t, config, "cfg.json")
    if normalize in ("expected_average_only_in", True):
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    rates = torch.full((L,), 1 / 8).log10()
    save_file({"sparsity": rates}, folder / "sparsity.safetensors")

    def scaled(x: Array) -> tuple[Array, float, float]:
        if normalize in ("expected_average_only_in", "constant_scalar_rescale", True):
            return x * scale, 0, 1 / scale
        if normalize == "constant_norm_rescale":
            factor = D**0.5 / np.linalg.norm(x)
            return x * factor, 0, 1 / factor
        if normalize == "layer_norm":
            spread = (x - x.mean()).std(ddof=1)
            return (x - x.mean()) / (spread + 1e-5), x.mean(), spread
        return x, 0, 1

    norms = np.linalg.norm(dec, axis=1) if rescale else np.ones(L)

    def encode(x: Array) -> Array:
        x = scaled(x)[0]
        x = x - b_dec if subtract and not is_transcoder else x
        if architecture == "gated":
            return (x @ enc + b > 0) * relu(x @ (enc * np.exp(r)) + b_mag)
        pre = (x @ enc + b) * norms
        return top(pre) if architecture == "topk" else jump(pre, theta)

    def decode(code: Array, x: Array) -> Array:
        y = (code * tuned / norms) @ dec + b_dec
        _, shift, spread = (x, 0, 1) if is_transcoder else scaled(x)
        return y * spread + shift + w_skip @ x

    return Truth(
        folder.name, "saelens", "model.layers.1" if hf else hook, encode, decode,
        target="blocks.1.hook_mlp_out" if is_transcoder else None, published_l0=L / 8,
    )  # fmt: skip


GEMMA_PLACES = {
    "res": "blocks.1.hook_resid_post",
    "mlp": "blocks.1.hook_mlp_out",
    "att": "blocks.1.attn.hook_z",
    "transcoders": "blocks.1.ln2.hook_normalized",
}


def gemma_scope(root: Path, kind: str, *, lower: bool = False, embedding: bool = False) -> Truth:
    t = Drawn(3)
    enc, dec = t("W_enc", D, L), t("W_dec", L, D)
    b, b_dec, theta = t("b_enc", L), t("b_dec", D), t("threshold", L, positive=True)
    if lower:
        t.tensors = {name.lower(): tensor for name, tensor in t.tensors.items()}
    layer = "embedding" if embedding else "layer_1"
    hookpoint = f"{layer}/width_16k/average_l0_71"
    save(root / f"gemma-scope-2b-pt-{kind}" / hookpoint, "params.npz", t, {}, "")
    scale = D**-0.5 if embedding else 1
    return Truth(
        hookpoint, "gemma_scope", "hook_embed" if embedding else GEMMA_PLACES[kind],
        lambda x: jump((x * scale) @ enc + b, theta),
        lambda code, x: (code @ dec + b_dec) / scale,
        target="blocks.1.hook_mlp_out" if kind == "transcoders" else None, published_l0=71,
    )  # fmt: skip


def gemma_scope_2(root: Path, *, transcoder: bool, skip: bool) -> Truth:
    t = Drawn(4)
    enc, dec = t("w_enc", D, L), t("w_dec", L, OUT if transcoder else D)
    b, theta = t("b_enc", L), t("threshold", L, positive=True)
    b_dec = t("b_dec", OUT if transcoder else D)
    affine = t("affine_skip_connection", D, OUT) if skip else np.zeros((D, len(b_dec)))
    before = "model.layers.1.pre_feedforward_layernorm"
    after = "model.layers.1.post_feedforward_layernorm"
    place, out = (before, after) if transcoder else ("model.layers.1", "model.layers.1")
    config = {"architecture": "jump_relu", "l0": 20, "affine_connection": skip}
    config |= {"hf_hook_point_in": f"{place}.output", "hf_hook_point_out": f"{out}.output"}
    folder = "resid_post/layer_1_width_16k_l0_medium"
    save(root / folder, "params.safetensors", t, config, "config.json")
    return Truth(
        folder, "gemma_scope_2", place, lambda x: jump(x @ enc + b, theta),
        lambda code, x: code @ dec + b_dec + x @ affine,
        target=after if transcoder else None, published_l0=20,
    )  # fmt: skip


def openai(root: Path, activation: str) -> Truth:
    t = Drawn(5)
    pre_bias, enc = t("pre_bias", D), t("encoder.weight", L, D)
    b, dec = t("latent_bias", L), t("decoder.weight", D, L)
    state: dict = {**t.tensors, "stats_last_nonzero": torch.zeros(L, dtype=torch.long)}
    state["activation"] = activation
    if activation == "TopK":
        state["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"}
    folder = root / "resid_post_mlp_v5_32k" / "autoencoders"
    folder.mkdir(parents=True)
    torch.save(state, folder / "1.pt")
    torch.save({"optimizer": 1}, folder / "state.pt")

    def normal(x: Array) -> tuple[Array, float, float]:
        if activation == "ReLU":
            return x, 0, 1
        spread = (x - x.mean()).std(ddof=1)
        return (x - x.mean()) / (spread + 1e-5), x.mean(), spread

    def encode(x: Array) -> Array:
        pre = enc @ (normal(x)[0] - pre_bias) + b
        return top(pre) if activation == "TopK" else relu(pre)

    def decode(code: Array, x: Array) -> Array:
        _, shift, spread = normal(x)
        return (dec @ code + pre_bias) * spread + shift

    hookpoint = "resid_post_mlp_v5_32k/autoencoders/1"
    return Truth(hookpoint, "openai", "blocks.1.hook_resid_post", encode, decode)


def dictionary_learning(root: Path, dict_class: str, submodule: str | None = None) -> Truth:
    t = Drawn(6)
    is_flat = dict_class in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")
    if is_flat:
        enc, dec = t("W_enc", D, L).T, t("W_dec", L, D)
    else:
        enc, dec = t("encoder.weight", L, D), t("decoder.weight", D, L).T
    biases = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}
    name = biases.get(dict_class, "decoder_bias" if dict_class == "GatedAutoEncoder" else "b_dec")
    b_dec = t(name, D)
    b = 0 if dict_class == "GatedAutoEncoder" else t("b_enc" if is_flat else "encoder.bias", L)
    theta = 0.0
    if dict_class == "GatedAutoEncoder":
        r, gate, mag = t("r_mag", L, scale=0.3), t("gate_bias", L), t("mag_bias", L)
    if dict_class == "JumpReluAutoEncoder":
        theta = t("threshold", L, positive=True)
    if "TopK" in dict_class:
        theta = 1.25
        t.tensors |= {"k": torch.tensor(K), "threshold": torch.tensor(theta)}
    if dict_class.startswith("Matryoshka"):
        t.tensors["group_sizes"] = torch.tensor([L // 4, 3 * L // 4])
    trainer = {"dict_class": dict_class, "activation_dim": D, "dict_size": L, "k": K, "layer": 1}
    trainer |= {"submodule_name": submodule} if submodule else {}
    save(
        root / "trainer_0", "ae.pt", t, {"trainer": trainer, "buffer": {"io": "out"}}, "config.json"
    )
    results = {"l0": 5.5, "frac_variance_explained": 0.8}
    (root / "trainer_0" / "eval_results.json").write_text(json.dumps(results))
    is_scaled = dict_class in ("GatedAutoEncoder", "JumpReluAutoEncoder")
    norms = np.linalg.norm(dec, axis=1) if is_scaled else np.ones(L)
    subtract = dict_class not in ("AutoEncoderNew", "JumpReluAutoEncoder")

    def encode(x: Array) -> Array:
        pre = enc @ (x - b_dec if subtract else x) + b
        if dict_class == "GatedAutoEncoder":
            return (pre + gate > 0) * relu(np.exp(r) * pre + mag) * norms
        return (top(pre) if dict_class == "AutoEncoderTopK" else jump(pre, theta)) * norms

    place = "layers.1.mlp" if submodule == "layers.1.mlp" else "blocks.1.hook_resid_post"
    return Truth(
        "trainer_0", "dictionary_learning", place, encode,
        lambda code, x: (code / norms) @ dec + b_dec, published_l0=5.5,
    )  # fmt: skip


def llama_scope(root: Path, *, distilled: bool) -> Truth:
    t = Drawn(7)
    enc, dec = t("encoder.weight", L, D), t("decoder.weight", D, L)
    b, b_dec = t("encoder.bias", L), t("decoder.bias", D)
    log = t("log_jumprelu_threshold", L, scale=0.3) if distilled else None
    average = 9.0
    factor = D**0.5 / average
    config = {"d_model": D, "d_sae": L, "hook_point_in": "blocks.1.hook_resid_post"}
    config |= {"hook_point_out": "blocks.1.hook_resid_post"}
    config["dataset_average_activation_norm"] = {"in": average, "out": average}
    if distilled:
        save(root / "L1R", "sae_weights.safetensors", t, config, "config.json")
    else:
        config["jump_relu_threshold"] = 1.5
        save(root / "L1R", "checkpoints/final.safetensors", t, config, "hyperparams.json")
    theta = 1.5 * factor if log is None else np.exp(log)
    return Truth(
        "L1R", "llama_scope", "blocks.1.hook_resid_post",
        lambda x: jump(enc @ (x * factor) + b, theta),
        lambda code, x: (dec @ code + b_dec) / factor,
    )  # fmt: skip


def goodfire(root: Path, file: str) -> Truth:
    t = Drawn(8)
    enc, b = t("encoder_linear.weight", L, D), t("encoder_linear.bias", L)
    dec, b_dec = t("decoder_linear.weight", D, L), t("decoder_linear.bias", D)
    root.mkdir(exist_ok=True)
    torch.save(t.tensors, root / file)
    return Truth(
        file.rpartition(".")[0], "goodfire", "blocks.1.hook_resid_post",
        lambda x: relu(enc @ x + b), lambda code, x: dec @ code + b_dec,
    )  # fmt: skip


def qwen_scope(root: Path) -> Truth:
    t = Drawn(9)
    enc, dec = t("W_enc", L, D), t("W_dec", D, L)
    b, b_dec = t("b_enc", L), t("b_dec", D)
    folder = root / f"SAE-Res-Qwen3-8B-Base-W64K-L0_{K}"
    folder.mkdir(parents=True)
    torch.save(t.tensors, folder / "layer1.sae.pt")
    return Truth(
        f"{folder.name}/layer1.sae", "qwen_scope", "blocks.1.hook_resid_post",
        lambda x: top(enc @ x + b), lambda code, x: dec @ code + b_dec,
    )  # fmt: skip


def circuit_tracer(root: Path, kind: str) -> Truth:
    t = Drawn(10)
    enc, dec = t("W_enc", L, D), t("W_dec", L, D)
    b, b_dec = t("b_enc", L), t("b_dec", D)
    theta = 0.0
    if kind == "jumprelu":
        theta = t("activation_function.threshold", L, positive=True)
    if kind == "topk":
        t.tensors["k"] = torch.tensor(K)
    w_skip = t("W_skip", D, D) if kind == "skip" else np.zeros((D, D))
    save(root / "set", "layer_1.safetensors", t, {}, "")
    lines = ("model_name: a", "feature_input_hook: ln2.hook_normalized")
    (root / "set" / "config.yaml").write_text(
        "\n".join([*lines, "feature_output_hook: hook_mlp_out"])
    )
    return Truth(
        "set/layer_1", "circuit_tracer", "blocks.1.ln2.hook_normalized",
        lambda x: top(enc @ x + b) if kind == "topk" else jump(enc @ x + b, theta),
        lambda code, x: code @ dec + b_dec + w_skip @ x, target="blocks.1.hook_mlp_out",
    )  # fmt: skip


def _all() -> dict[str, Callable[[Path], Truth]]:
    found: dict[str, Callable[[Path], Truth]] = {}
    for transcode, skip in ((False, False), (True, False), (True, True)):
        for groups in (False, True):
            found[f"sparsify-{transcode}-{skip}-{groups}"] = (
                lambda p, a=transcode, b=skip, c=groups: sparsify(p, transcode=a, skip=b, groups=c)
            )
    kinds = ["standard", "topk", "jumprelu", "gated", "transcoder", "skip_transcoder"]
    for kind in [*kinds, "jumprelu_transcoder", "jumprelu_skip_transcoder"]:
        found[f"saelens-{kind}"] = lambda p, k=kind: saelens(p, k)
    for how in ("expected_average_only_in", "constant_norm_rescale", "layer_norm"):
        for kind in ("topk", "jumprelu"):
            found[f"saelens-{kind}-{how}"] = lambda p, k=kind, n=how: saelens(p, k, normalize=n)
    found |= {
        "saelens-scalar": lambda p: saelens(p, "standard", normalize="constant_scalar_rescale"),
        "saelens-transcoder-norm": lambda p: saelens(p, "transcoder", normalize="layer_norm"),
        "saelens-no-subtract": lambda p: saelens(p, "standard", subtract=False),
        "saelens-rescale": lambda p: saelens(p, "topk", rescale=True),
        "saelens-finetuned": lambda p: saelens(p, "standard", finetuned=True),
        "saelens-hf-hook": lambda p: saelens(p, "standard", hf=True),
        "saelens-5-standard": lambda p: saelens(p, "standard", flat=True),
        "saelens-5-topk": lambda p: saelens(p, "topk", flat=True),
        "saelens-5-scaled": lambda p: saelens(p, "standard", flat=True, normalize=True),
        "gemma_scope-lower": lambda p: gemma_scope(p, "res", lower=True),
        "gemma_scope-embedding": lambda p: gemma_scope(p, "res", embedding=True),
        "gemma_scope_2-sae": lambda p: gemma_scope_2(p, transcoder=False, skip=False),
        "gemma_scope_2-transcoder": lambda p: gemma_scope_2(p, transcoder=True, skip=False),
        "gemma_scope_2-affine": lambda p: gemma_scope_2(p, transcoder=True, skip=True),
        "openai-relu": lambda p: openai(p, "ReLU"),
        "openai-topk": lambda p: openai(p, "TopK"),
        "dictionary_learning-module": lambda p: dictionary_learning(
            p, "AutoEncoder", "layers.1.mlp"
        ),
        "dictionary_learning-named": lambda p: dictionary_learning(
            p, "AutoEncoder", "resid_post_layer_1"
        ),
        "llama_scope": lambda p: llama_scope(p, distilled=False),
        "llama_scope-r1": lambda p: llama_scope(p, distilled=True),
        "goodfire": lambda p: goodfire(p, "Llama-3.1-8B-Instruct-SAE-l1.pth"),
        "goodfire-pt": lambda p: goodfire(p, "Llama-3.3-70B-Instruct-SAE-l1.pt"),
        "qwen_scope": qwen_scope,
    }
    for kind in ("relu", "jumprelu", "topk", "skip"):
        found[f"circuit_tracer-{kind}"] = lambda p, k=kind: circuit_tracer(p, k)
    for kind in GEMMA_PLACES:
        found[f"gemma_scope-{kind}"] = lambda p, k=kind: gemma_scope(p, k)
    for name in (
        "AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE",
        "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE",
    ):  # fmt: skip
        found[f"dictionary_learning-{name}"] = lambda p, n=name: dictionary_learning(p, n)
    return found


LAYOUTS = _all()
