"""Qwen Scope (arXiv 2605.11887): one `layer12.sae.pt` a layer, a top-k SAE of the residual stream.

A file holds four tensors and nothing else: the layer follows from its name, and k from that of its
repository or folder, as in `SAE-Res-Qwen3-8B-Base-W64K-L0_50`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import part, place
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles

LAYOUTS: tuple[tuple[str, ...], ...] = (("layer*.sae.pt",),)
OPTIONAL: tuple[str, ...] = ()
PLACES = {"resid_post": "blocks.{layer}.hook_resid_post"}
_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")
_FILE = r"layer(\d+)\.sae\.pt"
_RELEASE = r"SAE-Res-[\w.-]+-W\d+K-L0_(\d+)"


def claims(files: CoderFiles) -> bool:
    """Whether the file is named after a layer and holds the tensors of this format."""
    if not re.fullmatch(_FILE, files.path.name):
        return False
    try:
        return set(_NAMES) == read.state(files.path).keys()
    except ConfigError:
        return False


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place and k from its name and its size from its state dictionary."""
    state = read.state(files.path)
    named, release = re.fullmatch(_FILE, files.path.name), part(files, _RELEASE)
    if release is None:
        raise ConfigError(
            f"coder {files.hookpoint}: its file does not say its k; keep it in a folder with the "
            "name of its repository, for example SAE-Res-Qwen3-8B-Base-W64K-L0_50"
        )
    reads = place(files, "resid_post", int(named[1]) if named else None, PLACES)
    module, site = hooks.split_site(reads)
    n_latents, d_in = state["W_enc"].shape
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="qwen_scope",
        architecture="topk-sae",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=int(release[1]),
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    import torch

    state = read.state(files.path)
    found = {name: state[name].to(device, torch.float32) for name in _NAMES}
    weights = Weights(
        encoder_LD=found["W_enc"],
        bias_L=found["b_enc"],
        decoder_LO=found["W_dec"].T,
        b_dec_O=found["b_dec"],
    )
    return LinearCoder(spec, weights, TopK(spec.k or 1), chunk_bytes=chunk_bytes)
