"""The demo's shipped files: they load, are small, and do what their card says."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lakeinterp.demo import CARD, CODER_DIR, DEMO_DIR, FIGURES, MODEL_DIR
from lakeinterp.demo.corpus import documents

HOOKPOINTS = ["layers.3", "layers.3.mlp"]
CONTEXT_TOKENS = 256
N_CONTEXTS = 8


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def contexts_BT(tokenizer):
    """One context from the middle of each of a few held-out modules."""
    rows = []
    for name, text in documents("heldout"):
        ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        if ":" not in name and len(ids) > 2 * CONTEXT_TOKENS:
            middle = len(ids) // 2
            rows.append([tokenizer.bos_token_id, *ids[middle : middle + CONTEXT_TOKENS - 1]])
        if len(rows) == N_CONTEXTS:
            break
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def figures():
    return json.loads(FIGURES.read_text())


def encode(inputs_ND, tensors, config):
    """Encode as the format says, in ten plain lines."""
    if not config["transcode"]:
        inputs_ND = inputs_ND - tensors["b_dec"]
    pre_NL = (inputs_ND @ tensors["encoder.weight"].T + tensors["encoder.bias"]).relu()
    top = pre_NL.topk(config["k"], dim=-1)
    return torch.zeros_like(pre_NL).scatter(1, top.indices, top.values)


def read_coder(hookpoint):
    folder = CODER_DIR / hookpoint
    tensors = {name: each.float() for name, each in load_file(folder / "sae.safetensors").items()}
    return tensors, json.loads((folder / "cfg.json").read_text())


@torch.inference_mode()
def inputs_and_outputs(model, hookpoint, contexts_BT):
    """Run the model; return the module's input and output `[N, D]` without the first position."""
    seen = []
    module = model.model.get_submodule(hookpoint)
    handle = module.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    model(contexts_BT)
    handle.remove()
    return [each[:, 1:].flatten(0, 1) for each in seen[0]]


def test_assets_take_at_most_16_megabytes():
    files = [each for each in DEMO_DIR.rglob("*") if each.is_file() and each.suffix != ".pyc"]
    assert sum(each.stat().st_size for each in files) <= 16e6


def test_any_text_round_trips_through_the_tokenizer(tokenizer):
    text = "def f(x):\n\n\treturn '\N{SNOWMAN} é中' + x  \r\n  \x00"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_tokenizer_adds_no_special_token_but_has_one_for_both_ends(tokenizer):
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert 0 not in tokenizer("import os\n").input_ids


def test_model_beats_the_unigram_figure_on_held_out_text(model, contexts_BT, figures):
    rows = contexts_BT[:4]
    with torch.inference_mode():
        loss = model(rows, labels=rows).loss.item()
    assert 0 < loss < figures["model"]["unigram_loss"]


def test_card_figures_rank_the_model_above_both_baselines(figures):
    model = figures["model"]
    assert model["heldout_loss"] < model["bigram_loss"] - 0.5 < model["unigram_loss"]


@pytest.mark.parametrize("hookpoint", HOOKPOINTS)
def test_coder_tensors_have_the_shapes_of_the_config(hookpoint):
    tensors, config = read_coder(hookpoint)
    n_latents, width = config["num_latents"], config["d_in"]
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {
        "encoder.weight": (n_latents, width),
        "encoder.bias": (n_latents,),
        "W_dec": (n_latents, width),
        "b_dec": (width,),
    }
    torch.testing.assert_close(
        tensors["W_dec"].norm(dim=1), torch.ones(n_latents), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("hookpoint", HOOKPOINTS)
def test_coder_reconstructs_held_out_activations_as_the_card_says(model, contexts_BT, hookpoint):
    tensors, config = read_coder(hookpoint)
    inputs_ND, outputs_ND = inputs_and_outputs(model, hookpoint, contexts_BT)
    code_NL = encode(inputs_ND if config["transcode"] else outputs_ND, tensors, config)
    error_ND = outputs_ND - code_NL @ tensors["W_dec"] - tensors["b_dec"]
    unexplained = error_ND.square().sum() / (outputs_ND - outputs_ND.mean(0)).square().sum()
    report = json.loads((CODER_DIR / hookpoint / "report.json").read_text())
    assert (code_NL > 0).sum(1).float().mean().item() == pytest.approx(config["k"], abs=0.1)
    assert 1 - unexplained.item() == pytest.approx(report["explained_variance"], abs=0.06)


@pytest.mark.parametrize("hookpoint", HOOKPOINTS)
def test_card_states_the_figures_of_the_reports(hookpoint, figures):
    report = json.loads((CODER_DIR / hookpoint / "report.json").read_text())
    card = CARD.read_text()
    assert f"{report['fvu']:.3f}" in card
    assert f"{figures['model']['heldout_loss']:.3f}" in card


def test_nothing_shipped_names_a_folder_of_the_machine_it_was_made_on():
    texts = [each for each in DEMO_DIR.rglob("*") if each.suffix in {".json", ".md"}]
    assert len(texts) >= 8
    roots = ("/home/", "/root/", "/tmp/", "/work/")
    # The tokenizer's merges are pieces of the corpus, which may hold any short path.
    written = [each for each in texts if each.name != "tokenizer.json"]
    assert [each for each in written if any(root in each.read_text() for root in roots)] == []
