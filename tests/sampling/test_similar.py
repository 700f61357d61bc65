"""Similar text: an index over the corpus's tiles, in files, with a small real model."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from lakeinterp.config import SamplingConfig
from lakeinterp.embedder import SentenceEmbedder
from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.lake.units import latents_of, units
from lakeinterp.sampling import similar
from lakeinterp.sampling.draws import draw_positives
from lakeinterp.sampling.embeddings import Index
from lakeinterp.sampling.session import open_session
from tests.planted import CAPTURE, HOOKPOINT, WORDS, planted_lake

CONFIG = SamplingConfig(window_tokens=16, min_windows=5)


class Words:
    """Counts the words of a text: texts of the same words are near."""

    identity = "words"

    def __init__(self):
        self.n_texts = 0

    def __call__(self, texts):
        self.n_texts += len(texts)
        vectors = np.array(
            [[text.split().count(word) for word in WORDS[1:]] for text in texts], np.float32
        )
        vectors += 0.01
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches(texts, size=3):
    return lambda first, stop: (texts[i : min(i + size, stop)] for i in range(first, stop, size))


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[1:], 8)) for _ in range(20)]


def test_an_index_in_several_files_finds_what_comparing_with_every_text_finds(tmp_path, texts):
    pytest.importorskip("faiss")
    embed = Words()
    index = Index(tmp_path, len(texts), texts_a_part=7)
    assert index.build(batches(texts), embed) == 3
    vectors = embed(texts)
    numbers = np.array([13, 2, 19])
    assert index.vectors(numbers) == pytest.approx(vectors[numbers])
    near, found = index.search(vectors[numbers], 9)
    product = vectors[numbers] @ vectors.T
    assert near == pytest.approx(-np.sort(-product, axis=1)[:, :9])
    assert np.take_along_axis(product, found, axis=1) == pytest.approx(near)
    near, found = index.search(vectors[numbers], 100)
    assert found.shape == (3, 20)


def test_more_texts_and_a_killed_build_make_only_the_files_that_lack(tmp_path, texts):
    pytest.importorskip("faiss")

    def stop_in_the_second(n_done, n_all):
        if n_done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index(tmp_path, 16, texts_a_part=7).build(batches(texts), Words(), stop_in_the_second)
    embed = Words()
    assert Index(tmp_path, 16, texts_a_part=7).build(batches(texts), embed) == 2
    assert embed.n_texts == 9
    embed = Words()
    assert Index(tmp_path, 20, texts_a_part=7).build(batches(texts), embed) == 1
    assert embed.n_texts == 6
    assert Index(tmp_path, 20, texts_a_part=7).build(batches(texts), embed) == 0
    assert len(list(tmp_path.glob("*.faiss"))) == 3


def test_the_index_of_a_lake_holds_the_text_of_every_tile_and_is_built_once(tmp_path):
    pytest.importorskip("faiss")
    planted = planted_lake(str(tmp_path), n_sequences=12)
    embed = Words()
    with open_session(planted.lake, CAPTURE, CONFIG, hookpoint=HOOKPOINT) as session:
        index = similar.build(session, embed)
        tiles = session.con.sql("SELECT tile, length FROM tiles ORDER BY number").fetchall()
        similar.build(session, embed)
    assert embed.n_texts == len(tiles) == index.n_texts
    flat = planted.tokens.ravel()
    spoken = [" ".join(WORDS[i] for i in flat[tile : tile + n]) for tile, n in tiles]
    assert index.vectors(np.arange(len(tiles))) == pytest.approx(Words()(spoken))


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("faiss", "sentence_transformers"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'lakeinterp\[embed\]'"):
        Index(tmp_path, 1).build(batches(["a"]), Words())
    with pytest.raises(MissingExtra, match="sentence-transformers"):
        SentenceEmbedder(str(tmp_path))(["a"])


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match="no such file or folder"):
        SentenceEmbedder(str(tmp_path / "nothing"))


def test_the_index_is_there_before_the_draws_if_similar_windows_are_asked_for(tmp_path):
    pytest.importorskip("faiss")
    lake = planted_lake(str(tmp_path), n_sequences=12).lake
    told = []

    def progress(n_done, n_all):
        told.append((n_done, n_all))

    similar.prepare(lake, None, CONFIG, embedder=Words(), progress=progress)
    assert told == []
    config = CONFIG.model_copy(update={"n_explain_similar": 2})
    embed = Words()
    similar.prepare(lake, None, config, embedder=embed, progress=progress)
    assert told[-1] == (embed.n_texts, embed.n_texts)
    similar.prepare(lake, CAPTURE, config, embedder=Words(), progress=progress)
    assert len(told) == 1


@pytest.mark.parametrize("at_once", [1, 200, 10**6])
def test_latents_with_few_silent_tiles_are_sought_further_whatever_fits_at_once(
    tmp_path, monkeypatch, at_once
):
    pytest.importorskip("faiss")
    planted = planted_lake(str(tmp_path), n_sequences=12)
    config = CONFIG.model_copy(update={"n_similar": 4})
    unit = units(planted.lake, CAPTURE)[0]
    monkeypatch.setattr(similar, "_FOUND_AT_ONCE", at_once)
    monkeypatch.setattr(similar, "_K", 3)
    found = []
    with open_session(planted.lake, CAPTURE, config, hookpoint=HOOKPOINT) as session:
        session.windows(unit, list(latents_of(planted.lake, unit)))
        draw_positives(session, list(latents_of(planted.lake, unit)))
        session.run("strata/candidates")
        similar.nearest(session, {"n_explain": 0, "n_score": 4}, Words())
        found = session.con.sql("SELECT latent, number, place FROM candidates").fetchall()
        silent = session.con.sql(
            "SELECT c.latent, count(*) FROM (SELECT DISTINCT latent FROM cells) AS c "
            "CROSS JOIN tiles AS t ANTI JOIN windows AS w "
            "ON w.latent = c.latent AND w.number = t.number WHERE t.role = 'score' GROUP BY 1"
        ).fetchall()
    assert found
    for latent, n_silent in silent:
        assert sum(row[0] == latent for row in found) == min(18, n_silent)


def sentence_model(folder):
    """Save a random BERT of two small layers; sentence-transformers pools what it gives."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[1:]]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    bert = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40,
    )  # fmt: skip
    BertModel(bert).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_folder_without_a_model_is_named(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="holds no embedding model: "):
        SentenceEmbedder(str(tmp_path))(["a"])


@pytest.mark.slow
def test_a_folder_of_sentence_transformers_gives_vectors_of_length_one(tmp_path):
    pytest.importorskip("sentence_transformers")
    embed = SentenceEmbedder(str(sentence_model(tmp_path / "bert")))
    vectors = embed(["the cat sat", "the cat sat", "red house"])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert vectors[0] @ vectors[2] < 0.9999
