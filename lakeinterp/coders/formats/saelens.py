"""SAELens folders: `cfg.json` and `sae_weights.safetensors`, of version 6 and before.

Before version 6 all keys lie flat in `cfg.json` and some have other names; they are translated
to those of version 6 first. Batch top-k and Matryoshka coders are saved as `jumprelu`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above, Activation, Gated, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.inputs import Inputs
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lakeinterp.coders.base import CoderFiles
    from lakeinterp.coders.inputs import Kind

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSITY, SCALER = "sparsity.safetensors", "activation_scaler.json"
LAYOUTS = ((WEIGHTS, CONFIG),)
OPTIONAL = (SPARSITY, SCALER)

_ENCODES = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_TENSORS = {
    "relu": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "r_mag", "b_mag"),
}
_NORMALIZE: dict[str, Kind] = {
    "none": "none",
    "expected_average_only_in": "scale",
    "constant_scalar_rescale": "scale",
    "constant_norm_rescale": "norm",
    "layer_norm": "layer",
}
_SCALINGS = ("scaling_factor", "finetuning_scaling_factor")


def claims(files: CoderFiles) -> bool:
    """Whether the files are there; no other format has these names."""
    return all((files.path / name).is_file() for name in LAYOUTS[0])


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and size from its `cfg.json` and the header of its weights."""
    config = _config(files)
    shapes = read.shapes(files.path / WEIGHTS)
    if "W_enc" not in shapes:
        raise ConfigError(f"coder {files.hookpoint}: {WEIGHTS} holds {sorted(shapes)}, no W_enc")
    d_in, n_latents = shapes["W_enc"]
    kind, meta = config["architecture"], config["metadata"]
    is_transcoder = kind.endswith("transcoder")
    reads = files.reads or meta.get("hf_hook_name") or meta["hook_name"]
    module, site = hooks.split_site(reads)
    out = meta.get("hf_hook_name_out") or meta.get("hook_name_out")
    target, target_site = hooks.split_target(out if is_transcoder else None)
    processing = meta.get("model_from_pretrained_kwargs") or {}
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="saelens",
        architecture=kind,
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=int(config["k"]) if kind == "topk" else None,
        target=target,
        target_site=target_site,
        centred=bool(processing.get("center_writing_weights")),
        published_l0=_published_l0(files, n_latents),
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    config, path = _config(files), files.path / WEIGHTS
    found = read.tensors(path, device)
    names = ("W_enc", "W_dec", "b_dec", *_TENSORS[_ENCODES[spec.architecture]])
    is_skip = "skip" in spec.architecture.split("_")
    names += ("W_skip",) if is_skip else ()
    read.pick(path, found, names, optional=_SCALINGS)
    weights, activation = _parts(found, config)
    inputs = _inputs(files, config)
    return LinearCoder(spec, weights, activation, inputs=inputs, chunk_bytes=chunk_bytes)


def _parts(found: dict[str, Tensor], config: dict[str, Any]) -> tuple[Weights, Activation]:
    """Return weights and activation of a coder."""
    encode, is_transcoder = _ENCODES[config["architecture"]], "transcoder" in config["architecture"]
    encoder_LD, decode_scale_L = found["W_enc"].T, _finetuned(found)
    bias_L = found["b_gate" if encode == "gated" else "b_enc"]
    if encode == "topk" and config.get("rescale_acts_by_decoder_norm"):
        norm_L = found["W_dec"].norm(dim=-1)
        encoder_LD, bias_L = encoder_LD * norm_L[:, None], bias_L * norm_L
        decode_scale_L = 1 / norm_L
    subtracts = config.get("apply_b_dec_to_input", True) and not is_transcoder
    weights = Weights(
        encoder_LD=encoder_LD,
        bias_L=bias_L,
        decoder_LO=found["W_dec"],
        b_dec_O=found["b_dec"],
        centre_D=found["b_dec"] if subtracts else None,
        skip_OD=found.get("W_skip"),
        decode_scale_L=decode_scale_L,
    )
    return weights, _activation(encode, found, config)


def _activation(encode: str, found: dict[str, Tensor], config: dict[str, Any]) -> Activation:
    if encode == "topk":
        return TopK(int(config["k"]))
    if encode == "gated":
        factor_L = found["r_mag"].exp()
        return Gated(factor_L, found["b_mag"] - found["b_gate"] * factor_L)
    return Above(found["threshold"] if encode == "jumprelu" else 0.0)


def _finetuned(found: dict[str, Tensor]) -> Tensor | None:
    """Return what old coders, fine-tuned after training, multiply activations by on decoding."""
    scalings = [found[name] for name in _SCALINGS if name in found]
    return scalings[0] if scalings else None


def _inputs(files: CoderFiles, config: dict[str, Any]) -> Inputs:
    """Return the input normalisation; its factor is open where no file holds it."""
    wanted = config["normalize_activations"]
    scale = config.get("norm_scaling_factor")
    if wanted == "constant_scalar_rescale":
        scale = config.get("activation_normalization_factor", scale)
    elif wanted == "expected_average_only_in" and (files.path / SCALER).is_file():
        scale = read.read_json(files.path / SCALER).get("scaling_factor", scale)
    restore = "transcoder" not in config["architecture"]
    return Inputs(_NORMALIZE[wanted], None if scale is None else float(scale), restore)


def _config(files: CoderFiles) -> dict[str, Any]:
    """Return `cfg.json` with the keys of version 6.

    Raises:
        ConfigError: it names an architecture or normalisation that is not known here.
    """
    config = read.read_json(files.path / CONFIG)
    if "metadata" not in config:
        config = _from_flat(config)
    wanted = config.get("normalize_activations") or "none"
    if isinstance(wanted, bool):
        wanted = "expected_average_only_in"
    config |= {"normalize_activations": wanted, "metadata": config["metadata"] or {}}
    for key, known in (("architecture", _ENCODES), ("normalize_activations", _NORMALIZE)):
        if config.get(key) not in known:
            raise ConfigError(
                f"coder {files.hookpoint}: unknown {key} {config.get(key)!r} in {CONFIG} "
                f"(known: {', '.join(known)})"
            )
    if config["architecture"] == "topk" and not config.get("k"):
        raise ConfigError(f"coder {files.hookpoint}: a topk coder, but {CONFIG} has no k")
    if not files.reads and not _hook(config["metadata"]):
        raise ConfigError(
            f"coder {files.hookpoint}: {CONFIG} has no hook_name; set capture.reads to where it "
            "reads, for example layers.5.mlp.output"
        )
    return config


def _from_flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of before version 6 in the form of version 6."""
    new = {k: v for k, v in config.items() if not k.startswith("hook_")}
    meta = {k: v for k, v in config.items() if k.startswith(("hook_", "hf_hook", "model_"))}
    meta["hook_name"] = config.get("hook_name", config.get("hook_point"))
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    new["architecture"] = config.get("architecture", "standard")
    if activation == "topk":
        new["architecture"] = "topk"
        new["k"] = (config.get("activation_fn_kwargs") or {}).get("k", config.get("k"))
    return new | {"metadata": meta}


def _hook(meta: dict[str, Any]) -> str | None:
    return meta.get("hf_hook_name") or meta.get("hook_name")


def _published_l0(files: CoderFiles, n_latents: int) -> float | None:
    """Return the sum of the firing rates, stored as their base-10 logarithms."""
    path = files.path / SPARSITY
    if not path.is_file():
        return None
    import torch

    found = read.tensors(path, torch.device("cpu")).get("sparsity")
    if found is None or len(found) != n_latents:
        return None
    total = float((10 ** found.double()).sum())
    return total if math.isfinite(total) else None
