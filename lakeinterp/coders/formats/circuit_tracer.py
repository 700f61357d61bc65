"""Transcoders as circuit-tracer keeps them: `layer_12.safetensors` of a layer, `config.yaml`.

The configuration names the hooks that all layers read and write. The non-linearity follows from the
tensors: a threshold makes it JumpReLU, `k` top-k, neither ReLU. A skip connection adds
`W_skip x`. Transcoders across layers are another layout, which is not known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above, Activation, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import place
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lakeinterp.coders.base import CoderFiles

CONFIG = "config.yaml"
LAYOUTS: tuple[tuple[str, ...], ...] = (("layer_*.safetensors",),)
OPTIONAL = (CONFIG,)
PLACES = {
    "resid_mid": "blocks.{layer}.hook_resid_mid",
    "mlp_in": "blocks.{layer}.mlp.hook_in",
    "ln2": "blocks.{layer}.ln2.hook_normalized",
}
_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")
_THRESHOLD, _K, _SKIP = "activation_function.threshold", "k", "W_skip"
_FILE = r"layer_(\d+)\.safetensors"


def claims(files: CoderFiles) -> bool:
    """Whether the file is named after a layer and holds the tensors of this format."""
    if not re.fullmatch(_FILE, files.path.name):
        return False
    try:
        return set(_NAMES) <= read.shapes(files.path).keys()
    except ConfigError:
        return False


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place from the configuration and its size from the header of its weights."""
    shapes, config = read.shapes(files.path), _config(files)
    read.pick(files.path, shapes, _NAMES, optional=(_THRESHOLD, _K, _SKIP))
    named = re.fullmatch(_FILE, files.path.name)
    layer = int(named[1]) if named else None
    read_at, written_at = (_hook(config, f"feature_{end}_hook") for end in ("input", "output"))
    module, site = hooks.split_site(place(files, read_at, layer, PLACES))
    target = place_of(written_at or "blocks.{layer}.hook_mlp_out", layer)
    n_latents, d_in = shapes["W_enc"]
    kind = "jumprelu" if _THRESHOLD in shapes else "topk" if _K in shapes else "relu"
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="circuit_tracer",
        architecture=f"{kind}-{'skip-' if _SKIP in shapes else ''}transcoder",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=_k(files) if kind == "topk" else None,
        target=target,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    found = read.tensors(files.path, device)
    weights = Weights(
        encoder_LD=found["W_enc"],
        bias_L=found["b_enc"],
        decoder_LO=found["W_dec"],
        b_dec_O=found["b_dec"],
        skip_OD=found.get(_SKIP),
    )
    return LinearCoder(spec, weights, _activation(found, spec), chunk_bytes=chunk_bytes)


def place_of(template: str, layer: int | None) -> str:
    """Return the hook of a layer."""
    return template.replace("{layer}", str(layer))


def _activation(found: dict[str, Tensor], spec: CoderSpec) -> Activation:
    if spec.k is not None:
        return TopK(spec.k)
    threshold = found.get(_THRESHOLD)
    if threshold is None:
        return Above()
    return Above(threshold if threshold.numel() > 1 else float(threshold))


def _k(files: CoderFiles) -> int:
    import torch

    return int(read.tensors(files.path, torch.device("cpu"))[_K])


def _hook(config: dict[str, Any], name: str) -> str | None:
    """Return a hook of the configuration with its block in front, None if it names none."""
    return f"blocks.{{layer}}.{config[name]}" if name in config else None


def _config(files: CoderFiles) -> dict[str, Any]:
    import yaml

    path = files.path.parent / CONFIG
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as exc:
        line = " ".join(str(exc).split())
        raise ConfigError(f"coder {files.hookpoint}: cannot read {CONFIG}: {line}") from exc
    return found if isinstance(found, dict) else {}
