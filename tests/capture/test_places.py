"""Where coders read in built models of every family, proven by how a block adds up."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lakeinterp.capture.model import SubjectModel
from lakeinterp.coders.base import CoderSpec
from lakeinterp.config import CaptureConfig
from lakeinterp.errors import ConfigError, NotFound

LAYER, V, D = 1, 50, 16
_WIDE = {"hidden_size": D, "num_hidden_layers": 3, "intermediate_size": 24, "vocab_size": V}
_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6}
_GPT2 = {"n_embd": D, "n_layer": 3, "n_head": 2, "vocab_size": V, "n_positions": 32}
FAMILIES = {
    "gpt2": _GPT2,
    "gpt_neox": _WIDE | {"num_attention_heads": 2, "use_parallel_residual": True},
    "gpt_neox-sequential": _WIDE | {"num_attention_heads": 2, "use_parallel_residual": False},
    "llama": _WIDE | _HEADS,
    "gemma2": _WIDE | _HEADS,
    "gemma3_text": _WIDE | _HEADS | {"sliding_window": 8},
    "qwen2": _WIDE | {"num_attention_heads": 2, "num_key_value_heads": 1},
    "qwen3": _WIDE | _HEADS,
}
ENCODERS = {"bert": _WIDE | {"num_attention_heads": 2, "max_position_embeddings": 32}}
MODULES = {
    "gpt2": ("h.1", "h.1.attn", "h.1.mlp"),
    "gpt_neox": ("layers.1", "layers.1.attention", "layers.1.mlp"),
    "bert": (
        "encoder.layer.1", "encoder.layer.1.attention", "encoder.layer.1.intermediate",
        "encoder.layer.1.output",
    ),
}  # fmt: skip
"""Residual stream, attention and MLP of block 1; the families that are not here are alike."""
TOKENS = torch.arange(24).view(2, 12) % V
PARTS = (
    "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out",
    "attn.hook_z", "mlp.hook_in", "mlp.hook_out", "mlp.hook_post", "ln2.hook_normalized",
)  # fmt: skip


def spec(module, site="output", **more):
    values = {"hookpoint": "x", "format": "test", "architecture": "sae", "d_in": D, "k": None}
    return CoderSpec(**values, module=module, site=site, n_latents=4, **more)


@pytest.fixture(scope="module", params=FAMILIES)
def built(request, tmp_path_factory):
    """A small model whose norms have random gains, so that a gain left out or in shows."""
    return build(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return build("bert", tmp_path_factory)


def build(name, tmp_path_factory):
    config = CONFIG_MAPPING[name.partition("-")[0]](**(FAMILIES | ENCODERS)[name])
    model = AutoModel.from_config(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    folder = tmp_path_factory.mktemp(name)
    model.save_pretrained(folder)
    return name, SubjectModel(CaptureConfig(model=str(folder), device="cpu"))


def read(model, parts, layer=LAYER):
    reads = {part: model.resolve(spec(f"blocks.{layer}.{part}")) for part in parts}
    ordered = model.in_order(list(set(reads.values())), TOKENS[:1])
    hidden = model.hidden(TOKENS, ordered)
    return {part: hidden[place] for part, place in reads.items()}, reads


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-4)


def hooked(model, tokens_BT):
    """Return input and output of every module as plain forward hooks see them, and who ran."""
    seen = {}

    def note(name):
        def hook(_, given, named, result):
            first = given[0] if given else named.get("hidden_states")
            seen[name] = first, result[0] if isinstance(result, tuple) else result

        return hook

    hooks = [
        module.register_forward_hook(note(name), with_kwargs=True)
        for name, module in model.hf.named_modules()
    ]
    with torch.no_grad():
        model.hf(tokens_BT)
    for hook in hooks:
        hook.remove()
    return seen


def check_against_hooks(name, model):
    names = MODULES.get(name.partition("-")[0], ("layers.1", "layers.1.self_attn", "layers.1.mlp"))
    seen = hooked(model, TOKENS)
    places = [model.resolve(spec(n, site)) for n in names for site in ("output", "input")]
    hidden = model.hidden(TOKENS, model.in_order(places, TOKENS[:1]))
    assert len(hidden) == 2 * len(names)
    for place, x_BTD in hidden.items():
        assert x_BTD.shape[:2] == TOKENS.shape
        assert torch.equal(x_BTD, seen[place.module][place.site == "output"]), place


def test_states_are_those_that_plain_hooks_see(built):
    check_against_hooks(*built)


def test_states_of_an_encoder_are_those_that_plain_hooks_see(encoder):
    name, model = encoder
    check_against_hooks(name, model)
    with pytest.raises(NotFound, match=r"did you mean 'encoder\.layer\.[012]'"):
        model.resolve(spec("encoder.layer.7"))


def test_layers_after_the_last_place_do_not_run(built):
    _, model = built
    last = model.resolve(spec("blocks.1.hook_resid_post"))
    blocks = last.module.rpartition(".")[0]
    ran = []
    hooks = [
        model.hf.get_submodule(f"{blocks}.{i}").register_forward_hook(lambda *_, i=i: ran.append(i))
        for i in range(3)
    ]
    model.hidden(TOKENS, [last])
    for hook in hooks:
        hook.remove()
    assert ran == [0]  # the pass ends inside of block 1, before a hook that came later


def test_states_of_a_block_add_up(built):
    name, model = built
    parallel = name == "gpt_neox"
    parts = [p for p in PARTS if not (parallel and p == "hook_resid_mid")]
    h, reads = read(model, parts)
    if parallel:
        close(h["hook_resid_pre"] + h["hook_attn_out"] + h["hook_mlp_out"], h["hook_resid_post"])
    else:
        close(h["hook_resid_pre"] + h["hook_attn_out"], h["hook_resid_mid"])
        close(h["hook_resid_mid"] + h["hook_mlp_out"], h["hook_resid_post"])
    module = model.hf.get_submodule
    close(module(reads["mlp.hook_post"].module)(h["mlp.hook_post"]), h["mlp.hook_out"])
    attention = module(reads["attn.hook_z"].module)(h["attn.hook_z"])
    if name.startswith("gemma"):
        norms = (
            f"layers.{LAYER}.post_attention_layernorm",
            f"layers.{LAYER}.post_feedforward_layernorm",
        )
        attention = module(norms[0])(attention)
        close(module(norms[1])(h["mlp.hook_out"]), h["hook_mlp_out"])
    else:
        close(h["mlp.hook_out"], h["hook_mlp_out"])
    close(attention, h["hook_attn_out"])


def test_normalised_state_is_what_the_mlp_reads_without_gain_and_bias(built):
    name, model = built
    h, reads = read(model, ["ln2.hook_normalized", "mlp.hook_in"])
    norm = model.hf.get_submodule(reads["ln2.hook_normalized"].module)
    gain = 1 + norm.weight if name.startswith("gemma") else norm.weight
    bias = getattr(norm, "bias", None)
    close(h["ln2.hook_normalized"] * gain + (0 if bias is None else bias), h["mlp.hook_in"])


def test_next_block_reads_what_the_block_before_wrote(built):
    _, model = built
    after, _ = read(model, ["hook_resid_post"], layer=0)
    before, _ = read(model, ["hook_resid_pre"], layer=1)
    close(after["hook_resid_post"], before["hook_resid_pre"])


def test_centred_state_has_no_mean(built):
    _, model = built
    place = model.resolve(spec("blocks.1.hook_resid_post", centred=True))
    whole = model.resolve(spec("blocks.1.hook_resid_post"))
    hidden = model.hidden(TOKENS, model.in_order([place, whole], TOKENS[:1]))
    close(hidden[place], hidden[whole] - hidden[whole].mean(-1, keepdim=True))


def test_module_names_resolve_with_any_of_the_usual_prefixes(built):
    name, model = built
    block = "h" if name == "gpt2" else "layers"
    names = [f"{block}.1", f"model.{block}.1", f"model.language_model.{block}.1"]
    names.append(f"{model.hf.base_model_prefix}.{block}.1")
    assert {model.resolve(spec(n)).module for n in names} == {f"{block}.1"}
    with pytest.raises(NotFound, match=rf"did you mean '{block}\.[012]"):
        model.resolve(spec(f"{block}.7"))


def test_target_is_the_own_place_of_an_sae_and_the_output_of_a_transcoders_module(built):
    _, model = built
    sae = spec("blocks.1.attn.hook_z")
    assert model.target(sae) == model.resolve(sae)
    mlp = model.resolve(spec("blocks.1.mlp.hook_in")).module
    transcoder = {"architecture": "topk-transcoder", "hookpoint": "x", "format": "t", "d_in": D}
    plain = CoderSpec(module=mlp, site="input", n_latents=4, k=1, **transcoder)
    assert model.target(plain) == (mlp, "output", "whole")
    named = CoderSpec(
        module=mlp, site="input", n_latents=4, k=1, target="blocks.2.hook_mlp_out", **transcoder
    )
    assert model.target(named) == model.resolve(spec("blocks.2.hook_mlp_out"))


def test_every_mlp_gives_its_neurons(built):
    _, model = built
    down = model.down_projections()
    assert len(down) == 3
    h, reads = read(model, ["mlp.hook_post"])
    mlp = reads["mlp.hook_post"].module.rpartition(".")[0]
    assert down[mlp] == (reads["mlp.hook_post"].module, h["mlp.hook_post"].shape[-1])


def test_hook_that_no_family_has_names_the_known_ones(built):
    name, model = built
    with pytest.raises(NotFound, match=r"did you mean 'blocks\.N\.hook_resid_p"):
        model.resolve(spec("blocks.1.hook_resid_past"))
    if name == "gpt_neox":
        with pytest.raises(ConfigError, match="attention and MLP side by side"):
            model.resolve(spec("blocks.1.hook_resid_mid"))


def test_model_of_an_unknown_family_asks_for_a_module_path(built):
    _, model = built
    kind = model.hf.config.model_type
    model.hf.config.model_type = "mamba"
    try:
        with pytest.raises(ConfigError, match=r"type 'mamba' is not known .*set capture\.reads"):
            model.resolve(spec("blocks.1.hook_resid_post"))
    finally:
        model.hf.config.model_type = kind
