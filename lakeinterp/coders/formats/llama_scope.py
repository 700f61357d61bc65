"""Llama Scope (He et al. 2024, arXiv 2410.20526).

`hyperparams.json` and `checkpoints/final.safetensors`: JumpReLU SAEs of one threshold for all
latents, given in the units of the hidden state, while the weights expect hidden states scaled to
the mean norm sqrt(width). The later coders of DeepSeek-R1-Distill are `config.json` and
`sae_weights.safetensors` with a threshold a latent, stored as its logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.inputs import Inputs
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from lakeinterp.coders.base import CoderFiles

LAYOUTS = (
    ("checkpoints/final.safetensors", "hyperparams.json"),
    ("sae_weights.safetensors", "config.json"),
)
OPTIONAL: tuple[str, ...] = ()
_NAMES = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
_LOG_THRESHOLD = "log_jumprelu_threshold"


def claims(files: CoderFiles) -> bool:
    """Whether the configuration names a hook and the weights are those of a linear map."""
    found = _paths(files)
    return found is not None and "hook_point_in" in read.read_json(found[1])


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and size from its configuration and the header of its weights."""
    weights, config = _read(files)
    shapes = read.shapes(weights)
    read.pick(weights, shapes, _NAMES, optional=(_LOG_THRESHOLD,))
    n_latents, d_in = shapes["encoder.weight"]
    reads, out = config["hook_point_in"], config.get("hook_point_out", config["hook_point_in"])
    module, site = hooks.split_site(files.reads or reads)
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="llama_scope",
        architecture=f"jumprelu-{'sae' if out == reads else 'transcoder'}",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=None,
        target=None if out == reads else out,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    path, config = _read(files)
    found = read.tensors(path, device)
    average = (config.get("dataset_average_activation_norm") or {}).get("in")
    inputs = Inputs("scale", spec.d_in**0.5 / average if average else None)
    inputs.restore = spec.target is None
    weights = Weights(
        encoder_LD=found["encoder.weight"],
        bias_L=found["encoder.bias"],
        decoder_LO=found["decoder.weight"].T,
        b_dec_O=found["decoder.bias"],
    )
    activation = Above(_threshold(files, found, config, inputs.scale))
    return LinearCoder(spec, weights, activation, inputs=inputs, chunk_bytes=chunk_bytes)


def _threshold(
    files: CoderFiles, found: dict[str, Tensor], config: dict[str, Any], scale: float | None
) -> Tensor | float:
    if _LOG_THRESHOLD in found:
        return found[_LOG_THRESHOLD].exp()
    if "jump_relu_threshold" not in config or scale is None:
        raise ConfigError(
            f"coder {files.hookpoint}: hyperparams.json needs jump_relu_threshold and "
            "dataset_average_activation_norm"
        )
    return float(config["jump_relu_threshold"]) * scale


def _paths(files: CoderFiles) -> tuple[Path, Path] | None:
    for layout in LAYOUTS:
        weights, config = (files.path / name for name in layout)
        if weights.is_file() and config.is_file():
            return weights, config
    return None


def _read(files: CoderFiles) -> tuple[Path, dict[str, Any]]:
    found = _paths(files)
    if found is None:
        raise ConfigError(f"coder {files.hookpoint}: its files are gone from {files.path}")
    return found[0], read.read_json(found[1])
