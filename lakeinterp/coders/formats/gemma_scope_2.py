"""Gemma Scope 2: `config.json` and `params.safetensors`.

JumpReLU SAEs and transcoders, the latter perhaps with an affine skip connection. The configuration
says which side of which module of the Hugging Face model is read and predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles

CONFIG, WEIGHTS = "config.json", "params.safetensors"
LAYOUTS = ((WEIGHTS, CONFIG),)
OPTIONAL: tuple[str, ...] = ()
_NAMES = ("w_enc", "w_dec", "b_enc", "b_dec", "threshold")
_SKIP = "affine_skip_connection"


def claims(files: CoderFiles) -> bool:
    """Whether the configuration names a hook of a Hugging Face model."""
    names = LAYOUTS[0]
    if not all((files.path / name).is_file() for name in names):
        return False
    return "hf_hook_point_in" in read.read_json(files.path / CONFIG)


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and size from its configuration and the header of its weights."""
    config = read.read_json(files.path / CONFIG)
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise ConfigError(
            f"coder {files.hookpoint}: unknown architecture {config['architecture']!r} in {CONFIG} "
            "(known: jump_relu)"
        )
    shapes = read.shapes(files.path / WEIGHTS)
    read.pick(files.path / WEIGHTS, shapes, _NAMES, optional=(_SKIP,))
    if len(shapes["w_dec"]) != 2:
        raise ConfigError(
            f"coder {files.hookpoint}: decodes to {shapes['w_dec'][1]} layers, and coders across "
            "layers are not supported"
        )
    reads, out = config["hf_hook_point_in"], config.get("hf_hook_point_out")
    is_transcoder = out is not None and out != reads
    module, site = hooks.split_site(files.reads or reads)
    target, target_site = hooks.split_target(out if is_transcoder else None)
    l0, (d_in, n_latents) = config.get("l0"), shapes["w_enc"]
    kind = ("skip-" if _SKIP in shapes else "") + ("transcoder" if is_transcoder else "sae")
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="gemma_scope_2",
        architecture=f"jumprelu-{kind}",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=None,
        target=target,
        target_site=target_site,
        published_l0=float(l0) if l0 else None,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights; the skip connection is stored as [input, output]."""
    found = read.tensors(files.path / WEIGHTS, device)
    weights = Weights(
        encoder_LD=found["w_enc"].T,
        bias_L=found["b_enc"],
        decoder_LO=found["w_dec"],
        b_dec_O=found["b_dec"],
        skip_OD=found[_SKIP].T if _SKIP in found else None,
    )
    return LinearCoder(spec, weights, Above(found["threshold"]), chunk_bytes=chunk_bytes)
