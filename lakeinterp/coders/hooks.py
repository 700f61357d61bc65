"""Hook names of TransformerLens as places in Hugging Face models, in one table.

A name such as `blocks.5.hook_resid_pre` says what of a block is read; where that is found depends
on the family of the model. Names whose last part does not start with `hook_` are module paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from lakeinterp.coders.base import Site


class Located(NamedTuple):
    """A place in a model of a known family."""

    module: str
    """Path below the model without its head; empty parts left out."""
    site: Site
    unit: bool = False
    """Take the normalised state of this norm before its gain and bias are applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Names of a model family's modules; those of a block are relative to it."""

    blocks: str = "layers"
    embedding: str = "embed_tokens"
    final_norm: str = "norm"
    norm1: str = "input_layernorm"
    norm2: str = "post_attention_layernorm"
    """The norm in front of the MLP."""
    attention: str = "self_attn"
    attention_result: str = "self_attn"
    """The module whose output is added to the residual stream."""
    attention_projection: str = "self_attn.o_proj"
    mlp: str = "mlp"
    mlp_result: str = "mlp"
    mlp_up: str = "mlp.gate_proj"
    """The map in front of the non-linearity."""
    mlp_down: str = "mlp.down_proj"


_LLAMA = Family()
_GEMMA = Family(
    norm2="pre_feedforward_layernorm",
    attention_result="post_attention_layernorm",
    mlp_result="post_feedforward_layernorm",
)
_GPT2 = Family(
    blocks="h", embedding="wte", final_norm="ln_f", norm1="ln_1", norm2="ln_2", attention="attn",
    attention_result="attn", attention_projection="attn.c_proj", mlp_up="mlp.c_fc",
    mlp_down="mlp.c_proj",
)  # fmt: skip
_GPT_NEO = Family(
    blocks="h", embedding="wte", final_norm="ln_f", norm1="ln_1", norm2="ln_2", attention="attn",
    attention_result="attn", attention_projection="attn.attention.out_proj", mlp_up="mlp.c_fc",
    mlp_down="mlp.c_proj",
)  # fmt: skip
_GPT_NEOX = Family(
    embedding="embed_in", final_norm="final_layer_norm", attention="attention",
    attention_result="attention", attention_projection="attention.dense",
    mlp_up="mlp.dense_h_to_4h", mlp_down="mlp.dense_4h_to_h",
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "mistral", "gemma", "qwen2", "qwen3"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3", "gemma3_text"), _GEMMA),
    "gpt2": _GPT2,
    "gpt_neo": _GPT_NEO,
    "gpt_neox": _GPT_NEOX,
}
"""By the `model_type` of the model's configuration."""

_OF_A_BLOCK: dict[str, tuple[str, Site, bool]] = {
    "hook_resid_pre": ("", "input", False),
    "hook_in": ("", "input", False),
    "hook_resid_mid": ("norm2", "input", False),
    "hook_mlp_in": ("norm2", "input", False),
    "hook_resid_post": ("", "output", False),
    "hook_out": ("", "output", False),
    "hook_attn_out": ("attention_result", "output", False),
    "hook_mlp_out": ("mlp_result", "output", False),
    "attn.hook_z": ("attention_projection", "input", False),
    "attn.hook_out": ("attention", "output", False),
    "mlp.hook_in": ("mlp", "input", False),
    "mlp.hook_out": ("mlp", "output", False),
    "mlp.hook_pre": ("mlp_up", "output", False),
    "mlp.hook_post": ("mlp_down", "input", False),
    "ln1.hook_normalized": ("norm1", "input", True),
    "ln2.hook_normalized": ("norm2", "input", True),
}
_OF_THE_MODEL: dict[str, tuple[str, Site, bool]] = {
    "hook_embed": ("embedding", "output", False),
    "ln_final.hook_normalized": ("final_norm", "input", True),
}
_BEFORE_THE_MLP = frozenset({"hook_resid_mid", "hook_mlp_in"})


def is_hook(name: str) -> bool:
    """Whether a name is a hook of TransformerLens rather than a module path."""
    return name.rpartition(".")[2].startswith("hook_")


def locate(name: str, config: Any) -> Located:
    """Return where a hook of TransformerLens is in a Hugging Face model.

    Args:
        name: For example `blocks.5.attn.hook_z`.
        config: The model's configuration, for its `model_type`.

    Raises:
        NotFound: there is no such hook; the message names those that are known.
        ConfigError: the model is of a family that the table does not hold, or computes attention
            and MLP side by side and has no state between them.
    """
    start, _, rest = name.partition(".")
    layer, _, part = rest.partition(".")
    in_block = start == "blocks" and layer.isdigit()
    known = _OF_A_BLOCK if in_block else _OF_THE_MODEL
    key = part if in_block else name
    if key not in known:
        names = [f"blocks.N.{k}" for k in _OF_A_BLOCK] + list(_OF_THE_MODEL)
        raise NotFound("hook of TransformerLens", name, names)
    if key in _BEFORE_THE_MLP and _is_parallel(config):
        raise ConfigError(
            f"coder: {name} is not there in a model that computes attention and MLP side by side"
        )
    family = _family(name, config)
    attribute, site, unit = known[key]
    inner = getattr(family, attribute) if attribute else ""
    parts = [family.blocks, layer, inner] if in_block else [inner]
    return Located(".".join(filter(None, parts)), site, unit)


def split_site(name: str) -> tuple[str, Site]:
    """Split `layers.3.mlp.input` into module and site; without an ending it is the output."""
    if is_hook(name):
        return name, "output"
    if name.endswith(".input"):
        return name.removesuffix(".input"), "input"
    return name.removesuffix(".output"), "output"


def split_target(name: str | None) -> tuple[str | None, Site]:
    """Split as `split_site` does; None, for a coder that predicts what it reads, stays None."""
    return (None, "output") if name is None else split_site(name)


def _is_parallel(config: Any) -> bool:
    return bool(getattr(config, "use_parallel_residual", False))


def _family(name: str, config: Any) -> Family:
    kind = str(getattr(config, "model_type", ""))
    if kind not in FAMILIES:
        raise ConfigError(
            f"coder: it reads at {name}, and where that is in a model of type {kind!r} is not "
            f"known (known: {', '.join(sorted(FAMILIES))}); set capture.reads to a module path, "
            "for example layers.5.mlp.output"
        )
    return FAMILIES[kind]
