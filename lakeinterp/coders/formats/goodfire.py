"""Goodfire's SAEs: one `.pt` or `.pth` file, a state dictionary of two linear maps around a ReLU.

The layer, whose residual stream it reads, follows from the file's name, as in
`Llama-3.1-8B-Instruct-SAE-l19.pth`, or from `capture.reads`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import place
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles

LAYOUTS: tuple[tuple[str, ...], ...] = (("*.pt",), ("*.pth",))
OPTIONAL: tuple[str, ...] = ()
PLACES = {"resid_post": "blocks.{layer}.hook_resid_post"}
_NAMES = (
    "encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias",
)  # fmt: skip
_FILE = r"[\w.-]+-SAE-l(\d+)"


def claims(files: CoderFiles) -> bool:
    """Whether the file is a state dictionary with the tensors of this format."""
    try:
        return set(_NAMES) <= read.state(files.path).keys()
    except ConfigError:
        return False


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place from its name and its size from its state dictionary."""
    state = read.state(files.path)
    read.pick(files.path, state, _NAMES)
    named = re.fullmatch(_FILE, files.path.stem)
    reads = place(files, "resid_post" if named else None, int(named[1]) if named else None, PLACES)
    module, site = hooks.split_site(reads)
    n_latents, d_in = state["encoder_linear.weight"].shape
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="goodfire",
        architecture="relu-sae",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=None,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    import torch

    state = read.state(files.path)
    encoder_LD, bias_L, decoder_OL, b_dec_O = (
        state[name].to(device, torch.float32) for name in _NAMES
    )
    weights = Weights(
        encoder_LD=encoder_LD, bias_L=bias_L, decoder_LO=decoder_OL.T, b_dec_O=b_dec_O
    )
    return LinearCoder(spec, weights, Above(), chunk_bytes=chunk_bytes)
