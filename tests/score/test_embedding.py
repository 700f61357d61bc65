"""Scorers that compare texts by vectors: a real model whose vectors count words."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lakeinterp import embedder
from lakeinterp.errors import MissingExtra, NotFound
from lakeinterp.explain import explain
from lakeinterp.score import score
from lakeinterp.score.scorer import load_scorer
from tests.planted import WORDS
from tests.score.planted_examples import planted_config, sampled_lake
from tests.score.test_means import jackknife

pytest.importorskip("sentence_transformers")
RUN = {"run": "test"}


def word_model(folder):
    """Save a sentence-transformers model: a text's vector is the mean of one-hot words."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate([*WORDS[1:], "[UNK]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = np.eye(len(words), dtype=np.float32) * (1 + np.arange(len(words))[:, None] % 3)
    static = StaticEmbedding(tokenizer, embedding_weights=rows)
    SentenceTransformer(modules=[static], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding")
    config = planted_config(
        sampling={"latents": [0, 1, 4, 5, 6, 7]},
        score={
            "scorers": ["embedding", "example_embedding"],
            "embedding_model": str(word_model(folder / "words")),
        },
    )
    made = sampled_lake(folder / "lake", config, n_buckets=1)
    asyncio.run(explain(made.lake, config, None, **RUN))
    asyncio.run(score(made.lake, config, None, **RUN))
    return made, config


def rows(lake, table, **wanted):
    condition = " AND ".join(f"{column} = '{value}'" for column, value in wanted.items())
    return lake.rows(table, condition)


def test_a_similarity_is_the_cosine_of_the_explanation_and_the_text(scored):
    made, config = scored
    embed = embedder.open_embedder(config.score.embedding_model)
    texts = {r["explanation"]: r["text"] for r in made.lake.rows("explanations")}
    judged = rows(made.lake, "judgements", scorer="embedding", latent=0)
    windows = {r["example"]: r for r in made.lake.rows("examples", "latent = 0")}
    assert {r["role"] for r in judged} == {"own", "borrowed"}
    for row in judged[::7]:
        window = windows[row["example"]]
        text = "".join(f" {WORDS[token]}" for token in window["tokens"])
        a, b = embed([texts[row["explanation"]]])[0], embed([text])[0]
        assert row["value"] == pytest.approx(float(a @ b), abs=1e-5)
        assert row["truth"] == (window["stratum"] == "activating")
        assert row["prediction"] is None


def naive_area(judged):
    active = [r["value"] for r in judged if r["truth"]]
    silent = [r["value"] for r in judged if not r["truth"]]
    pairs = [(a > s) + (a == s) / 2 for a in active for s in silent]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("scorer", ["embedding", "example_embedding"])
def test_the_area_is_the_share_of_pairs_in_the_right_order(scored, scorer):
    lake = scored[0].lake
    judged = rows(lake, "judgements", scorer=scorer, role="own")
    found = rows(lake, "scores", scorer=scorer, metric="auroc")
    assert len(found) == 6
    for row in found:
        own = [r for r in judged if r["explanation"] == row["explanation"]]
        assert row["value"] == pytest.approx(naive_area(own))
        assert row["ci_low"] < row["value"] <= row["ci_high"]
        assert row["n"] == len(own)
        assert row["status"] == "ok"


def test_the_word_that_is_explained_is_near_and_borrowed_words_are_not(scored):
    found = {
        r["latent"]: r for r in rows(scored[0].lake, "scores", scorer="embedding", metric="auroc")
    }
    assert found[0]["value"] > 0.9
    assert 0.2 < found[0]["null_value"] < 0.75
    assert found[0]["p_value"] == min(r["p_value"] for r in found.values())


def test_windows_of_one_word_are_nearer_to_each_other_without_any_explanation(scored):
    lake = scored[0].lake
    areas = rows(lake, "scores", scorer="example_embedding", metric="auroc")
    assert {r["role"] for r in rows(lake, "judgements", scorer="example_embedding")} == {"own"}
    by_latent = {r["latent"]: r for r in areas}
    assert by_latent[0]["ci_low"] > 0.5
    assert by_latent[0]["null_value"] == 0.5
    assert by_latent[0]["value"] == max(r["value"] for r in areas)
    (margin,) = rows(lake, "scores", scorer="example_embedding", metric="margin", latent=0)
    judged = rows(lake, "judgements", scorer="example_embedding", latent=0)
    sides = [[r for r in judged if r["truth"] is truth] for truth in (True, False)]
    values = [[r["value"] for r in side] for side in sides]
    assert margin["value"] == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    spread = [
        x for v, side in zip(values, sides, strict=True)
        for x in jackknife(v, [r["document"] for r in side])
    ]  # fmt: skip
    with lake.connect() as con:
        ((half,),) = con.execute("SELECT welch(?, ?, ?, ?)", spread).fetchall()
    assert margin["ci_high"] - margin["value"] == pytest.approx(half, rel=1e-5)


def test_without_silent_windows_to_compare_with_nothing_is_judged(scored, tmp_path):
    _, config = scored
    made = sampled_lake(tmp_path / "lake", config, n_buckets=1)
    silent = "role = 'explain' AND stratum = 'random'"
    made.lake.create("examples").delete(silent)
    asyncio.run(explain(made.lake, config, None, **RUN))
    counts = asyncio.run(score(made.lake, config, None, **RUN))
    judged = rows(made.lake, "judgements", scorer="example_embedding")
    assert {r["status"] for r in judged} == {"not_applicable"}
    assert counts["not_applicable"] == len(judged) > 0
    (area,) = rows(made.lake, "scores", scorer="example_embedding", metric="auroc", latent=0)
    assert area["value"] is None
    assert area["status"] == "not_applicable"


def test_a_missing_model_or_package_is_told_before_anything_is_judged(
    scored, tmp_path, monkeypatch
):
    _, config = scored
    absent = config.score.model_copy(
        update={"embedding_model": str(tmp_path / "none"), "scorers": ("pattern", "embedding")}
    )
    changed = config.model_copy(update={"score": absent})
    made = sampled_lake(tmp_path / "lake", changed, n_buckets=1)
    asyncio.run(explain(made.lake, changed, None, **RUN))
    with pytest.raises(NotFound, match="no such file or folder"):
        asyncio.run(score(made.lake, changed, None, **RUN))
    monkeypatch.setattr(embedder, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'lakeinterp\[embed\]'"):
        asyncio.run(score(made.lake, changed, None, **RUN))
    assert made.lake.table("judgements") is None


def test_other_weights_in_the_same_folder_are_another_model(scored, tmp_path):
    folder = word_model(tmp_path / "words")
    config = scored[1].score.model_copy(update={"embedding_model": str(folder)})
    names = ("embedding", "example_embedding")
    before = [load_scorer(name, config).settings for name in names]
    vector = embedder.open_embedder(str(folder))(["the cat"])
    assert [load_scorer(name, scored[1].score).settings for name in names] == before
    (weights,) = folder.rglob("*.safetensors")
    content = load_file(weights)
    save_file({k: v[::-1].copy() for k, v in content.items()}, weights)
    after = [load_scorer(name, config).settings for name in names]
    assert all(a != b for a, b in zip(after, before, strict=True))
    assert not np.allclose(embedder.open_embedder(str(folder))(["the cat"]), vector)


def test_no_text_is_near_to_nothing(scored):
    embed = embedder.open_embedder(scored[1].score.embedding_model)
    vectors = embed(["the cat", "", "cat"])
    assert not vectors[1].any()
    assert np.array_equal(vectors[[0, 2]], embed(["the cat", "cat"]))
    assert embed([]).shape == (0, vectors.shape[1])
