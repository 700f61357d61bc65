"""Where decoder rows go: through projections and norms of several kinds, on random models."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from lakeinterp.capture import points as points_of
from lakeinterp.capture.model import Read, SubjectModel
from lakeinterp.config import CaptureConfig
from lakeinterp.errors import ConfigError
from lakeinterp.subject import outputs
from lakeinterp.subject.language import LanguageModel
from lakeinterp.subject.steering import Steering, added
from tests import tiny

WIDTH, VOCABULARY = 16, 20


class Words:
    """What of a tokenizer steering looks at."""

    special = (0,)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A random Llama of two blocks, with an unembedding of its own."""
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
        tie_word_embeddings=False, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return SubjectModel(CaptureConfig(model=str(folder), device="cpu"), head=True)


@pytest.mark.parametrize("width", [5, 16])
def test_a_norm_gives_its_gain_however_it_keeps_it(width):
    layer = torch.nn.LayerNorm(width)
    torch.nn.init.uniform_(layer.weight)
    torch.nn.init.uniform_(layer.bias)
    assert outputs.gain(layer, width).tolist() == pytest.approx(layer.weight.tolist(), rel=1e-3)
    rms = torch.nn.RMSNorm(width, eps=1e-6)
    torch.nn.init.uniform_(rms.weight)
    assert outputs.gain(rms, width).tolist() == pytest.approx(rms.weight.tolist(), rel=1e-3)


def test_an_rms_norm_takes_no_mean_off(llama):
    rows = torch.randn(3, WIDTH) + 2
    torch.nn.init.uniform_(llama.hf.norm.weight)
    expected = (rows * llama.hf.norm.weight) @ llama.causal.lm_head.weight.T
    assert outputs.final_norm(llama) is llama.hf.norm
    found = outputs.direct_logits(llama, rows)
    assert found.flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-4)


def test_neurons_write_what_their_down_projection_makes_of_them(llama):
    settings = CaptureConfig(format="neurons", device="cpu")
    point = points_of.load(points_of.of_neurons(llama, settings), llama, settings)[1]
    rows = outputs.in_residual(llama, point, outputs.decoder_rows(point, [3, 7]))
    expected = llama.hf.layers[1].mlp.down_proj.weight[:, [3, 7]].T
    assert rows.flatten().tolist() == pytest.approx(expected.flatten().tolist())


def test_a_coder_of_another_width_writes_to_no_residual_stream(llama):
    settings = CaptureConfig(format="neurons", device="cpu")
    point = points_of.load(points_of.of_neurons(llama, settings), llama, settings)[0]
    elsewhere = point._replace(target=Read("layers.0.mlp.gate_proj", "output"))
    with pytest.raises(ConfigError, match="width 24, the residual stream 16"):
        outputs.in_residual(llama, elsewhere, torch.zeros(1, 24))


def test_what_is_added_before_a_block_is_added_after_the_one_before(llama):
    language = LanguageModel(llama, Words(), 0)
    tokens = torch.tensor([[0, 4, 5, 6], [0, 7, 8, 9]])
    delta, keep = torch.randn(2, WIDTH), tokens > 0
    mask = torch.ones_like(tokens)
    with added(language, Read("layers.1", "input"), delta, keep):
        before = language.logits(tokens, mask)
    with added(language, Read("layers.0", "output"), delta, keep):
        after = language.logits(tokens, mask)
    plain = language.logits(tokens, mask)
    assert before.flatten().tolist() == pytest.approx(after.flatten().tolist(), abs=1e-5)
    assert not torch.allclose(before, plain, atol=1e-2)
    assert before[:, 0].tolist() == plain[:, 0].tolist()


def test_a_random_direction_reaches_every_divergence_in_a_random_model(llama):
    steering = Steering(
        LanguageModel(llama, Words(), 0), Read("layers.0", "output"), [[0, 4, 5], [0, 7, 8, 9]]
    )
    unit = torch.nn.functional.normalize(torch.randn(4, WIDTH), dim=1)
    for kl in (0.01, 0.1):
        tuned = steering.tune(unit, kl)
        assert tuned.kl_K.tolist() == pytest.approx([kl] * 4, rel=0.02)


def test_a_normalised_place_is_no_place_to_steer(llama):
    with pytest.raises(ConfigError, match="normalised"):
        Steering(LanguageModel(llama, Words(), 0), Read("norm", "input", "unit"), [[0, 1]])


def test_a_model_that_reads_both_ways_predicts_no_next_token(tmp_path):
    bert = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(bert).save_pretrained(tmp_path)
    model = SubjectModel(CaptureConfig(model=str(tmp_path), device="cpu"), head=True)
    with pytest.raises(ConfigError, match="no output layer"):
        LanguageModel(model, Words(), None)
    tiny.build_model(tmp_path / "gpt2")
    model = SubjectModel(CaptureConfig(model=str(tmp_path / "gpt2"), device="cpu"), head=True)
    assert LanguageModel(model, Words(), 0).n_positions == tiny.P


def test_a_head_that_looks_ahead_is_found_out(llama, monkeypatch):
    def both_ways(tokens, **_):
        from types import SimpleNamespace

        return SimpleNamespace(logits=tokens.float().sum(1)[:, None, None].expand(-1, 3, 4))

    monkeypatch.setattr(llama, "causal", both_ways, raising=True)
    both_ways.get_output_embeddings = lambda: torch.nn.Linear(2, 4)
    with pytest.raises(ConfigError, match="reads both ways"):
        LanguageModel(llama, Words(), 0)
