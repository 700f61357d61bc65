"""EleutherAI sparsify folders: `<hookpoint>/cfg.json` and `<hookpoint>/sae.safetensors`.

Top-k and group-max coders, named after the module they read: SAEs its output, transcoders its
input. An SAE subtracts `b_dec` before encoding, a transcoder does not; a skip connection adds
`W_skip x` to what is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import GroupMax, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
LAYOUTS = ((WEIGHTS, CONFIG),)
OPTIONAL: tuple[str, ...] = ()
_ACTIVATIONS: dict[str, type[TopK] | type[GroupMax]] = {"topk": TopK, "groupmax": GroupMax}


def claims(files: CoderFiles) -> bool:
    """Whether the files are there; no other format has these names."""
    return all((files.path / name).is_file() for name in LAYOUTS[0])


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and size from its `cfg.json` and the header of its weights."""
    config = read.read_json(files.path / CONFIG)
    if "k" not in config:
        raise ConfigError(f"coder {files.hookpoint}: {CONFIG} has no k")
    shapes = read.shapes(files.path / WEIGHTS)
    if "encoder.weight" not in shapes:
        raise ConfigError(
            f"coder {files.hookpoint}: {WEIGHTS} holds {sorted(shapes)}, expected encoder.weight, "
            "encoder.bias, W_dec and b_dec"
        )
    n_latents, d_in = shapes["encoder.weight"]
    activation = config.get("activation", "topk")
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"coder {files.hookpoint}: unknown activation {activation!r} in {CONFIG}")
    reads_input = bool(config.get("transcode", False))
    kind = "transcoder" if reads_input else "sae"
    module, site = hooks.split_site(files.reads) if files.reads else (files.hookpoint, None)
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="sparsify",
        architecture=f"{activation}-{'skip-' if 'W_skip' in shapes else ''}{kind}",
        module=module,
        site=site or ("input" if reads_input else "output"),
        d_in=d_in,
        n_latents=n_latents,
        k=int(config["k"]),
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    path = files.path / WEIGHTS
    found = read.tensors(path, device)
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    read.pick(path, found, names, optional=("W_skip",))
    weights = Weights(
        encoder_LD=found["encoder.weight"],
        bias_L=found["encoder.bias"],
        decoder_LO=found["W_dec"],
        b_dec_O=found["b_dec"],
        centre_D=None if spec.architecture.endswith("transcoder") else found["b_dec"],
        skip_OD=found.get("W_skip"),
    )
    activation = _ACTIVATIONS[spec.architecture.partition("-")[0]](spec.k or 1)
    return LinearCoder(spec, weights, activation, chunk_bytes=chunk_bytes)
