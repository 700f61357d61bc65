"""The captured model opened again: what it does to texts, alone and in batches."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lakeinterp.commands.outputs import run_if_possible
from lakeinterp.config import Config
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.subject import opening, projected
from lakeinterp.subject.batching import batches
from lakeinterp.subject.projected import write_outputs
from tests import tiny
from tests.planted import HOOKPOINT, planted_lake
from tests.subject import built

TEXTS = [" the cat sat", " a dog", "", " the dog and the cat ran under the red house", " cat"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    lake, config = built.captured(tmp_path_factory.mktemp("subject"))
    yield lake, config
    opening.close()


@pytest.fixture(scope="module")
def subject(made):
    return opening.open_subject(built.bench(*made))


def test_a_capture_is_opened_once_until_it_is_closed(made):
    opened = opening.open_subject(built.bench(*made))
    assert opening.open_subject(built.bench(*made)) is opened
    opening.close()
    again = opening.open_subject(built.bench(*made))
    assert again is not opened
    assert again.model is not opened.model


def test_a_text_fires_what_the_capture_of_it_holds(made, subject):
    lake, _ = made
    query = "SELECT tokens FROM sequences WHERE sequence = 0"
    ((tokens,),) = lake.sql(query).fetchall()
    end = tokens.index(0, 1)
    text = subject.vocabulary.text(tokens[1:end])
    rows = lake.sql(f"SELECT token - 1, latent, value FROM activations WHERE token < {end}")
    expected = np.zeros((end - 1, tiny.N_LATENTS))
    for token, latent, value in rows.fetchall():
        expected[token, latent] = value
    (fired,) = subject.fires([text], range(tiny.N_LATENTS))
    assert "".join(fired.pieces) == text
    assert expected.any()
    assert np.array(fired.values_TK) == pytest.approx(expected)


def test_texts_of_other_lengths_fire_alone_as_in_a_batch(subject):
    latents = [tiny.AFTER_THE_LATENT, tiny.CAT_LATENT]
    together = subject.fires(TEXTS, latents)
    for text, fired in zip(TEXTS, together, strict=True):
        (alone,) = subject.fires([text], latents)
        assert alone.pieces == fired.pieces
        assert np.array(alone.values_TK) == pytest.approx(np.array(fired.values_TK), abs=1e-6)
    assert [fired.peak(1) for fired in together] == pytest.approx([0.5, 0, 0, 0.5, 0.5])
    assert [fired.peak() for fired in together] == pytest.approx([0.5, 0, 0, 0.5, 0])


def test_an_unknown_word_is_a_special_token_and_fires_nothing(subject):
    (fired,) = subject.fires([" the zebra cat"], [tiny.AFTER_THE_LATENT])
    assert len(fired.pieces) == 3
    assert fired.peak() == 0


def naive_losses(model, context, text):
    tokens = torch.tensor([[*context, *text]])
    with torch.no_grad():
        logits = model(tokens).logits[0].double()
    losses = -logits.log_softmax(-1)
    return [
        float(losses[position, token])
        for position, token in enumerate(text, start=len(context) - 1)
    ]


def test_losses_in_batches_are_those_of_each_text_alone(subject, monkeypatch):
    language = subject.language
    rng = np.random.default_rng(0)
    contexts = [rng.integers(1, tiny.V, size=n).tolist() for n in (1, 5, 2, 9, 1, 3)]
    texts = [rng.integers(1, tiny.V, size=n).tolist() for n in (7, 1, 0, 12, 3, 30)]
    model = subject.model.causal.double()
    expected = [naive_losses(model, c, t) for c, t in zip(contexts, texts, strict=True)]
    subject.model.causal.float()
    for chunk in (2**28, 2_000):
        monkeypatch.setattr("lakeinterp.subject.batching.CHUNK_BYTES", chunk)
        found = language.losses(contexts, texts)
        assert [len(row) for row in found] == [len(text) for text in texts]
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(ValueError, match="empty"):
        language.losses([[]], [[1]])
    with pytest.raises(ValueError, match="longer than the 64"):
        language.losses([[1]], [[1] * tiny.P])


def test_batches_hold_every_list_once_and_stay_below_the_ceiling(monkeypatch):
    rng = np.random.default_rng(1)
    lists = [[1] * int(n) for n in rng.integers(1, 40, size=50)]
    monkeypatch.setattr("lakeinterp.subject.batching.CHUNK_BYTES", 1000)
    found = list(batches(lists, 8))
    assert sorted(i for batch in found for i in batch.place_B) == list(range(50))
    assert len(found) < 25
    for batch in found:
        assert batch.tokens_BT.numel() * 8 <= 1000 or len(batch.place_B) == 1
        assert batch.mask_BT.sum(1).tolist() == [len(lists[i]) for i in batch.place_B]


def by_hand(subject, prefix, delta_D):
    """Return the log-probabilities after a prefix with something added after block 0."""
    hf = subject.model.hf
    tokens = torch.tensor([prefix])
    with torch.no_grad():
        x = hf.wte(tokens) + hf.wpe(torch.arange(len(prefix))[None])
        x = hf.h[0](x)
        x = x[0] if isinstance(x, tuple) else x
        x[:, 1:] += delta_D
        x = hf.h[1](x)
        x = x[0] if isinstance(x, tuple) else x
        logits = subject.model.causal.lm_head(hf.ln_f(x))[0, -1]
    return logits.double().log_softmax(-1)


@pytest.mark.parametrize("kl", [0.05, 0.5])
def test_strengths_are_tuned_to_the_divergence_asked_for(subject, kl):
    prefixes = [[0, 1, 5, 3], [0, 2], [0, 9, 9, 9, 4, 1]]
    latents = [tiny.CAT_LATENT, tiny.AFTER_THE_LATENT, 5]
    raised = subject.raised(latents, kl=kl, prefixes=prefixes)
    for latent, one in zip(latents, raised, strict=True):
        delta = one.strength * subject.directions([latent])[0]
        total = 0.0
        for prefix in prefixes:
            steered, plain = by_hand(subject, prefix, delta), by_hand(subject, prefix, 0 * delta)
            total += float((steered.exp() * (steered - plain)).sum()) / len(prefixes)
        assert one.is_reached
        assert one.kl == pytest.approx(total, rel=1e-3)
        assert total == pytest.approx(kl, rel=0.02)
    assert raised[0].raised[0].text == " cat"


def test_a_direction_that_does_nothing_is_never_strong_enough(subject):
    (found,) = subject.steered(torch.zeros(1, tiny.D), kl=0.5)
    assert not found.is_reached
    assert found.kl == pytest.approx(0)


def test_many_directions_together_get_the_strengths_they_get_alone(subject):
    latents = [tiny.CAT_LATENT, 4, 6]
    together = subject.raised(latents, kl=0.3)
    alone = [subject.raised([latent], kl=0.3)[0] for latent in latents]
    assert subject.raised([]) == subject.output_logits([]) == []
    assert [x.strength for x in together] == pytest.approx([x.strength for x in alone], rel=1e-3)


def test_what_is_added_is_gone_afterwards_and_moves_what_is_written(subject):
    before = subject.fires(TEXTS, [tiny.CAT_LATENT])
    unit = subject.directions([tiny.CAT_LATENT])[0]
    plain = subject.continued(unit, 0.0, 2)
    steered = subject.continued(unit, 50.0, 2)
    assert set(steered) == {" cat cat"}
    assert plain != steered
    assert subject.continued(unit, 0.0, 2) == plain
    assert subject.fires(TEXTS, [tiny.CAT_LATENT]) == before


def test_output_logits_are_the_decoder_row_through_norm_and_unembedding(subject):
    hf = subject.model.hf
    row = subject.point.coder.weights.decoder_LO[tiny.DOG_AFTER_THE_LATENT].double()
    logits = hf.wte.weight.double() @ (hf.ln_f.weight.double() * (row - row.mean()))
    logits = logits[1:] - logits[1:].mean()
    order = logits.argsort(descending=True)
    _, found = subject.output_logits([tiny.CAT_LATENT, tiny.DOG_AFTER_THE_LATENT], n=3)
    assert [t.text for t in found.raised] == [f" {tiny.WORDS[1 + i]}" for i in order[:3]]
    assert [t.value for t in found.raised] == pytest.approx(logits[order[:3]].tolist(), abs=1e-5)
    assert [t.text for t in found.lowered] == [f" {tiny.WORDS[1 + i]}" for i in order.flip(0)[:3]]
    assert found.raised[0].text == " dog"


def test_output_tokens_of_all_latents_are_written_once(made, subject, monkeypatch):
    lake, config = made
    monkeypatch.setattr(projected, "_AT_ONCE", 3)
    assert write_outputs(lake, config, n_tokens=3) == tiny.N_LATENTS
    assert write_outputs(lake, config, n_tokens=3) == 0
    rows = lake.sql("SELECT latent, raised, lowered FROM outputs ORDER BY latent").fetchall()
    expected = subject.output_logits(range(tiny.N_LATENTS), 3)
    for (latent, *sides), one in zip(rows, expected, strict=True):
        assert one is expected[latent]
        for found, tokens in zip(sides, one, strict=True):
            assert [t["text"] for t in found] == [t.text for t in tokens]
            assert [t["logit"] for t in found] == pytest.approx([t.value for t in tokens])
    assert write_outputs(lake, config, n_tokens=2) == tiny.N_LATENTS
    assert lake.sql("SELECT DISTINCT len(raised) FROM outputs").fetchall() == [(2,)]


def test_of_equal_logits_the_first_tokens_are_taken(subject):
    values = torch.tensor([1.0, 2.0, 2.0, 0.5, 2.0, 1.0])
    found = subject._tops(values, 4)
    first = [subject.vocabulary.text([int(subject._text_V[i])]) for i in (1, 2, 4, 0)]
    assert [t.text for t in found] == first


def test_own_prefixes_are_drawn_alike_and_are_no_special_tokens(subject):
    found = subject.own_prefixes(4, 6)
    assert found == subject.own_prefixes(4, 6)
    assert found != subject.own_prefixes(4, 6, seed=1)
    assert [prefix[0] for prefix in found] == [0] * 4
    assert all(0 not in prefix[1:] and len(prefix) == 7 for prefix in found)


def test_files_that_moved_are_found_and_others_are_refused(made, tmp_path):
    lake, config = made
    opening.close()
    moved = tmp_path / "model"
    origin = config.capture.model
    shutil.move(origin, moved)
    try:
        nowhere = config.capture.model_copy(update={"model": ""})
        gone = config.model_copy(update={"capture": nowhere})
        with pytest.raises(NotFound, match="no such file or folder"):
            opening.open_subject(built.bench(lake, gone))
        here = config.capture.model_copy(update={"model": str(moved)})
        assert opening.open_subject(
            built.bench(lake, config.model_copy(update={"capture": here}))
        ).fires([" cat"], [tiny.CAT_LATENT])[0].peak() == pytest.approx(0.5)
    finally:
        shutil.copytree(moved, origin)
    opening.close()
    weights = load_file(f"{origin}/model.safetensors")
    changed = {**weights, "h.1.ln_1.weight": weights["h.1.ln_1.weight"] * 2}
    try:
        save_file(changed, f"{origin}/model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigError, match="is not what was captured"):
            opening.open_subject(built.bench(lake, config))
    finally:
        shutil.rmtree(origin)
        shutil.copytree(moved, origin)
    assert opening.open_subject(built.bench(lake, config)).bos == 0


def test_another_coder_is_refused_before_a_latent_is_read(made, capsys):
    lake, config = made
    opening.close()
    file = f"{config.capture.coder}/{tiny.HOOKPOINT}/sae.safetensors"
    weights = load_file(file)
    try:
        save_file({**weights, "b_dec": weights["b_dec"] + 1}, file)
        with pytest.raises(ConfigError, match=r"capture\.coder: .* is not what was captured"):
            opening.open_subject(built.bench(lake, config))
        run_if_possible(config, str(lake.capture(None)["capture"]))
        assert capsys.readouterr().out.startswith("output tokens: capture.coder: ")
    finally:
        save_file(weights, file)


def test_a_capture_of_another_tool_says_that_it_names_no_model(tmp_path):
    lake, config = planted_lake(str(tmp_path)).lake, Config(lake=str(tmp_path))
    with pytest.raises(ConfigError, match="does not say which model"):
        opening.open_subject(built.bench(lake, config, HOOKPOINT))
    assert json.loads(lake.capture(None)["config"]) == {}
