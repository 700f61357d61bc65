"""Folders of dictionary_learning: `ae.pt` and `config.json`.

The configuration names the class. Gated and JumpReLU coders give activations multiplied by the
norm of the latent's decoder row and divide by it before they decode. Batch top-k coders, also
Matryoshka ones, are read with the threshold that was kept while they were trained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above, Activation, Gated, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import place
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lakeinterp.coders.base import CoderFiles

CONFIG, WEIGHTS, RESULTS = "config.json", "ae.pt", "eval_results.json"
LAYOUTS = ((WEIGHTS, CONFIG),)
OPTIONAL = (RESULTS,)
PLACES = {
    "resid_post": "blocks.{layer}.hook_resid_post",
    "resid_pre": "blocks.{layer}.hook_resid_pre",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
    "attn_out": "blocks.{layer}.hook_attn_out",
}
_LINEAR = ("encoder.weight", "decoder.weight")
_CLASSES = {
    "AutoEncoder": ("standard", (*_LINEAR, "encoder.bias", "bias")),
    "AutoEncoderNew": ("standard", (*_LINEAR, "encoder.bias", "decoder.bias")),
    "GatedAutoEncoder": (
        "gated", (*_LINEAR, "decoder_bias", "r_mag", "gate_bias", "mag_bias"),
    ),
    "AutoEncoderTopK": ("topk", (*_LINEAR, "encoder.bias", "b_dec")),
    "BatchTopKSAE": ("batchtopk", (*_LINEAR, "encoder.bias", "b_dec", "threshold")),
    "JumpReluAutoEncoder": ("jumprelu", ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")),
    "MatryoshkaBatchTopKSAE": (
        "matryoshka-batchtopk", ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    ),
}  # fmt: skip
_OPTIONAL = ("k", "threshold", "group_sizes")


def claims(files: CoderFiles) -> bool:
    """Whether the configuration is that of a trainer."""
    if not all((files.path / name).is_file() for name in LAYOUTS[0]):
        return False
    return isinstance(read.read_json(files.path / CONFIG).get("trainer"), dict)


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and size from its configuration and state dictionary."""
    trainer, kind, names = _trainer(files)
    state = read.state(files.path / WEIGHTS)
    read.pick(files.path / WEIGHTS, state, names, optional=_OPTIONAL)
    encoder = state["W_enc"].T if "W_enc" in state else state["encoder.weight"]
    module, site = hooks.split_site(_reads(files, trainer))
    results = files.path / RESULTS
    measured = read.read_json(results) if results.is_file() else {}
    n_latents, d_in = encoder.shape
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="dictionary_learning",
        architecture=kind,
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=_k(files, trainer, state) if kind == "topk" else None,
        published_l0=measured.get("l0"),
        published_explained_variance=measured.get("frac_variance_explained"),
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    import torch

    trainer, kind, names = _trainer(files)
    state = read.state(files.path / WEIGHTS)
    found = {name: state[name].to(device, torch.float32) for name in names}
    bias = found[next(n for n in ("b_dec", "bias", "decoder_bias", "decoder.bias") if n in found)]
    decoder_LO = found["W_dec"] if "W_dec" in found else found["decoder.weight"].T
    is_rescaled = kind in ("gated", "jumprelu")
    norm_L = decoder_LO.norm(dim=-1) if is_rescaled else None
    subtracts = kind != "jumprelu" and trainer["dict_class"] != "AutoEncoderNew"
    weights = Weights(
        encoder_LD=found["W_enc"].T if "W_enc" in found else found["encoder.weight"],
        bias_L=found[next(n for n in ("b_enc", "encoder.bias", "gate_bias") if n in found)],
        decoder_LO=decoder_LO,
        b_dec_O=bias,
        centre_D=bias if subtracts else None,
        value_scale_L=norm_L,
        decode_scale_L=None if norm_L is None else 1 / norm_L,
    )
    return LinearCoder(spec, weights, _activation(files, spec, found), chunk_bytes=chunk_bytes)


def _activation(files: CoderFiles, spec: CoderSpec, found: dict[str, Tensor]) -> Activation:
    if spec.architecture == "gated":
        factor_L = found["r_mag"].exp()
        return Gated(factor_L, found["mag_bias"] - found["gate_bias"] * factor_L)
    if spec.architecture == "topk":
        return TopK(spec.k or 1)
    if spec.architecture == "standard":
        return Above()
    threshold = found["threshold"]
    if spec.architecture != "jumprelu" and float(threshold) < 0:
        raise ConfigError(
            f"coder {files.hookpoint}: its threshold is {float(threshold):g}, never set; a batch "
            "top-k coder cannot be read without it: train it past its threshold_start_step"
        )
    return Above(threshold)


def _trainer(files: CoderFiles) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Return the trainer's settings, the kind of coder, and its tensors."""
    trainer: dict[str, Any] = read.read_json(files.path / CONFIG)["trainer"]
    name = trainer.get("dict_class")
    if name not in _CLASSES:
        raise ConfigError(
            f"coder {files.hookpoint}: unknown dict_class {name!r} in {CONFIG} "
            f"(known: {', '.join(_CLASSES)})"
        )
    return trainer, *_CLASSES[name]


def _k(files: CoderFiles, trainer: dict[str, Any], state: dict[str, Any]) -> int:
    k = state.get("k", trainer.get("k"))
    if k is None:
        raise ConfigError(f"coder {files.hookpoint}: neither {WEIGHTS} nor {CONFIG} holds k")
    return int(k)


def _reads(files: CoderFiles, trainer: dict[str, Any]) -> str:
    """Return what is read: the residual stream after the layer where nothing else is said."""
    layer, name = trainer.get("layer"), trainer.get("submodule_name") or "resid_post"
    words = re.fullmatch(rf"({'|'.join(PLACES)})(?:_layer_?(\d+))?", name)
    if words is None:
        side = read.read_json(files.path / CONFIG).get("buffer", {}).get("io", "out")
        name = f"{name}.input" if side == "in" else name
        return place(files, name, layer, PLACES)
    return place(files, words[1], int(words[2]) if words[2] else layer, PLACES)
