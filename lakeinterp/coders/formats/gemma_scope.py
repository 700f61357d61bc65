"""Gemma Scope (Lieberum et al. 2024, arXiv 2408.05147): `.../average_l0_82/params.npz`.

JumpReLU coders that subtract no `b_dec`. Their files hold weights only; what they read follows
from the repository's name (`gemma-scope-2b-pt-res`) or `capture.reads`, the layer from the folder
`layer_12`. Transcoders read the state in front of the MLP divided by its root mean square: the
output of `pre_feedforward_layernorm` without its gain. Coders of the embedding were trained
without the factor sqrt(width) that Gemma multiplies its embedding by.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import part, place
from lakeinterp.coders.inputs import Inputs
from lakeinterp.coders.linear import LinearCoder, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from lakeinterp.coders.base import CoderFiles

WEIGHTS = "params.npz"
LAYOUTS: tuple[tuple[str, ...], ...] = ((WEIGHTS,),)
OPTIONAL: tuple[str, ...] = ()
PLACES = {
    "res": "blocks.{layer}.hook_resid_post",
    "mlp": "blocks.{layer}.hook_mlp_out",
    "att": "blocks.{layer}.attn.hook_z",
    "transcoders": "blocks.{layer}.ln2.hook_normalized",
}
_EMBEDDING = "hook_embed"
_NAMES = ("w_enc", "w_dec", "b_enc", "b_dec", "threshold")
_RELEASE = r"gemma-scope-\w+-(?:pt|it)-(res|mlp|att|transcoders)(?:-canonical)?"
_L0 = r"average_l0_(\d+)"
_CANONICAL_L0 = 100


def claims(files: CoderFiles) -> bool:
    """Whether the arrays are those of this format."""
    path = files.path / WEIGHTS
    return path.is_file() and set(_NAMES) <= {name.lower() for name in read.arrays(path)}


def canonical(found: Iterable[str], wanted: str) -> str | None:
    """Return the coder that `layer_12/width_16k/canonical` stands for.

    It is the one whose average L0 is nearest to 100, the smaller on a tie; None if the name does
    not end in `canonical` or there is none.
    """
    folder, _, last = wanted.rpartition("/")
    if last != "canonical":
        return None
    pattern = re.compile(rf"{re.escape(folder)}/{_L0}" if folder else _L0)
    matches = [match for match in map(pattern.fullmatch, found) if match]
    near = min(matches, key=lambda m: (abs(int(m[1]) - _CANONICAL_L0), int(m[1])), default=None)
    return near[0] if near else None


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place from its name and its size from the headers of its arrays."""
    shapes = {name.lower(): shape for name, shape in read.arrays(files.path / WEIGHTS).items()}
    read.pick(files.path / WEIGHTS, shapes, _NAMES)
    d_in, n_latents = shapes["w_enc"]
    reads = _reads(files)
    module, site = hooks.split_site(reads)
    is_transcoder = reads.endswith("ln2.hook_normalized")
    l0 = part(files, _L0)
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="gemma_scope",
        architecture=f"jumprelu-{'transcoder' if is_transcoder else 'sae'}",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=None,
        target=module.replace("ln2.hook_normalized", "hook_mlp_out") if is_transcoder else None,
        published_l0=float(l0[1]) if l0 else None,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    path = files.path / WEIGHTS
    found = {name.lower(): read.array(path, name, device) for name in read.arrays(path)}
    weights = Weights(
        encoder_LD=found["w_enc"].T,
        bias_L=found["b_enc"],
        decoder_LO=found["w_dec"],
        b_dec_O=found["b_dec"],
    )
    inputs = Inputs("scale", spec.d_in**-0.5) if spec.module == _EMBEDDING else Inputs()
    activation = Above(found["threshold"])
    return LinearCoder(spec, weights, activation, inputs=inputs, chunk_bytes=chunk_bytes)


def _reads(files: CoderFiles) -> str:
    if part(files, "embedding") and not files.reads:
        return _EMBEDDING
    release, layer = part(files, _RELEASE), part(files, r"layer_(\d+)")
    return place(files, release[1] if release else None, int(layer[1]) if layer else None, PLACES)
