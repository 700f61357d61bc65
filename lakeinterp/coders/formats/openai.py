"""OpenAI's GPT-2 autoencoders (Gao et al. 2024, arXiv 2406.04093): one `.pt` file a layer.

A file is a state dictionary that also names its activation. Those of top-k read hidden states
that are normalised per token and give back the reconstruction in the units of the model. What
they read follows from the folder (`resid_post_mlp_v5_32k`) or `capture.reads`, the layer from the
file's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp.coders import files as read
from lakeinterp.coders import hooks
from lakeinterp.coders.activations import Above, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.formats.places import number, part, place
from lakeinterp.coders.inputs import Inputs
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lakeinterp.coders.base import CoderFiles

LAYOUTS: tuple[tuple[str, ...], ...] = (("*.pt",),)
OPTIONAL: tuple[str, ...] = ()
PLACES = {
    "mlp_post_act": "blocks.{layer}.mlp.hook_post",
    "resid_delta_attn": "blocks.{layer}.hook_attn_out",
    "resid_delta_mlp": "blocks.{layer}.hook_mlp_out",
    "resid_post_attn": "blocks.{layer}.hook_resid_mid",
    "resid_post_mlp": "blocks.{layer}.hook_resid_post",
}
_NAMES = ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight")
_LOCATION = rf"({'|'.join(PLACES)})(?:_v\d+(?:_\d+k)?)?"


def claims(files: CoderFiles) -> bool:
    """Whether the file is a state dictionary with the tensors of this format."""
    try:
        return set(_NAMES) <= read.state(files.path).keys()
    except ConfigError:
        return False


def read_spec(files: CoderFiles) -> CoderSpec:
    """Read a coder's place from its name, its size and activation from its state dictionary."""
    state = read.state(files.path)
    location = part(files, _LOCATION)
    reads = place(files, location[1] if location else None, number(files.path), PLACES)
    module, site = hooks.split_site(reads)
    activation, k = _activation(files, state)
    n_latents, d_in = state["encoder.weight"].shape
    return CoderSpec(
        hookpoint=files.hookpoint,
        format="openai",
        architecture=f"{activation.lower()}-sae",
        module=module,
        site=site,
        d_in=d_in,
        n_latents=n_latents,
        k=k,
    )


def load(files: CoderFiles, spec: CoderSpec, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Load a coder's weights."""
    import torch

    state = read.state(files.path)
    found = {name: state[name].to(device, torch.float32) for name in _NAMES}
    weights = Weights(
        encoder_LD=found["encoder.weight"],
        bias_L=found["latent_bias"],
        decoder_LO=found["decoder.weight"].T,
        b_dec_O=found["pre_bias"],
        centre_D=found["pre_bias"],
    )
    if spec.k is None:
        return LinearCoder(spec, weights, Above(), chunk_bytes=chunk_bytes)
    return LinearCoder(spec, weights, TopK(spec.k), inputs=Inputs("layer"), chunk_bytes=chunk_bytes)


def _activation(files: CoderFiles, state: dict[str, Any]) -> tuple[str, int | None]:
    name, settings = state.get("activation", "ReLU"), state.get("activation_state_dict") or {}
    after = settings.get("postact_fn", "ReLU")
    if name not in ("ReLU", "TopK") or after != "ReLU":
        raise ConfigError(
            f"coder {files.hookpoint}: unknown activation {name} with {after} after it "
            "(known: ReLU, TopK with ReLU)"
        )
    return name, int(settings["k"]) if name == "TopK" else None
