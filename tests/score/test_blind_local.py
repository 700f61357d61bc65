"""Blind solvers of the scorers that run a model: they too are at chance on what they are shown.

The models are small enough to read: vectors that count words, a language model that expects the
words it has seen, latents that fire on a word.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.config import ScoreConfig
from lakeinterp.score.embedding import EmbeddingScorer
from lakeinterp.score.example_embedding import ExampleEmbeddingScorer
from lakeinterp.score.intervention import InterventionScorer
from lakeinterp.score.sensitivity import SensitivityScorer
from lakeinterp.score.surprisal import SurprisalScorer
from lakeinterp.terms import digest
from tests.score.test_blind import N_TASKS, PIECES, areas, at_chance, task

OTHER = "the word dog, or a house"
"""A description of something else."""
N_SHORT = N_TASKS // 2
SPOILED = " dog house dog"
"""What gives a text away to whoever looks for that."""


def words(text):
    return re.findall(r"\w+", text)


def vectors(texts):
    """Return unit vectors that count words; shape [texts, words]."""
    known = [words(piece)[0] for piece in PIECES if words(piece)]
    counted = np.array(
        [[1e-3 + Counter(words(text))[word] for word in known] for text in texts], dtype=float
    )
    return counted / np.linalg.norm(counted, axis=1, keepdims=True)


@dataclass
class SeenWords:
    """A language model that expects the tokens that came before."""

    n_positions: int | None = None

    def start(self, text):
        """Return the tokens of a prompt."""
        return [i for i, piece in enumerate(PIECES) for word in words(text) if word in words(piece)]

    def losses(self, contexts, texts):
        """Return the nats of every token of every text."""
        found = []
        for context, text in zip(contexts, texts, strict=True):
            seen, nats = Counter(context), []
            for token in text:
                nats.append(-float(np.log((1 + seen[token]) / (len(PIECES) + seen.total()))))
                seen[token] += 1
            found.append(nats)
        return found


def described(made, text):
    explanation = replace(made.explanation, text=text)
    examples = tuple(
        replace(e, tokens=tuple(PIECES.index(piece) for piece in e.pieces)) for e in made.examples
    )
    return replace(made, explanation=explanation, examples=examples)


def spoil(made):
    """Give every activating text words of the other description."""
    pieces = [f" {word}" for word in words(SPOILED)]
    examples = tuple(
        replace(e, pieces=(*e.pieces[: -len(pieces)], *pieces)) if e.is_active else e
        for e in made.examples
    )
    return replace(made, examples=examples)


def embedding():
    scorer = EmbeddingScorer(ScoreConfig())
    scorer._embedder = vectors
    return scorer


def example_embedding():
    scorer = ExampleEmbeddingScorer(ScoreConfig())
    scorer._embedder = vectors
    for seed in range(N_SHORT):
        others = task(1000 + seed)[0].examples
        sides = ([e.text for e in others if e.is_active is side] for side in (True, False))
        scorer._known[seed] = tuple(sides)
    return scorer


def surprisal():
    scorer = SurprisalScorer(ScoreConfig())
    scorer._language = SeenWords()
    return scorer


def judged(scorer, text, change=lambda made: made):
    """Return the value of every window, and whether the latent fires in it."""
    return [
        ({"value": one.value}, one.truth)
        for seed in range(N_SHORT)
        for one in asyncio.run(scorer.judge(described(change(task(seed)[0]), text), None))
    ]


@pytest.mark.parametrize("made", [embedding, surprisal])
def test_a_description_of_something_else_ranks_windows_at_random(made):
    at_chance(judged(made(), OTHER))
    at_chance(judged(made(), "nothing that any text has"))
    found, reach = areas(judged(made(), OTHER, spoil))
    assert found["value"] > 0.5 + reach


def test_windows_without_anything_in_common_are_at_chance_whatever_they_look_like():
    at_chance(judged(example_embedding(), ""))


class Directions:
    """Directions that raise tokens of one kind of text, as many as are asked for."""

    def raised(self, latents, *, kl, n):
        """Return what each latent's direction raises."""
        found = []
        for latent in latents:
            rng = random.Random(f"raised {latent}")
            tokens = [SimpleNamespace(text=token) for token in rng.sample(PIECES, n)]
            strength = rng.random()
            found.append(SimpleNamespace(raised=tokens, strength=strength, kl=kl, is_reached=True))
        return found


def test_the_look_of_a_list_does_not_tell_whether_the_latent_raises_it():
    items = []
    scorer = InterventionScorer(ScoreConfig(n_raised=4))
    scorer._subject, scorer._others = Directions(), list(range(500, 521))
    for seed in range(3 * N_TASKS):
        _, pairs = scorer.pairs(task(seed)[0])
        assert len(pairs) == 10
        for place, pair in enumerate(pairs):
            user = scorer.request(OTHER, pair).messages[1].content
            shown = [re.search(rf"List {i}: (.*)", user)[1] for i in (1, 2)]
            for i, text in enumerate(shown):
                features = {
                    "place": i,
                    "letters": len(text),
                    "tokens": text.count(" | "),
                    "dog": text.count("dog"),
                    "first letter": ord(text.strip()[0]),
                    "pair": place,
                }
                items.append((features, (i == 0) == pair.is_first))
    at_chance(items)


def test_texts_written_without_reading_the_description_fire_a_latent_no_more_for_its_own():
    """What is asked holds the description alone: a writer who skips it knows nothing."""
    config = ScoreConfig(n_written=8, written_per_call=4)
    scorer = SensitivityScorer(config)
    fired = PIECES.index(" dog")

    def fires(texts, latents):
        # Latent i fires on token i of the vocabulary.
        said = [text.count(PIECES[latents[0] % len(PIECES)]) for text in texts]
        return [SimpleNamespace(peak=lambda n=n: float(n)) for n in said]

    def blind(request):
        asked = re.sub(r"Description: .*", "", request.messages[1].content)
        rng = random.Random(digest([asked, request.repeat, next(turn)]))
        texts = ["".join(rng.choices(PIECES, k=4)) for _ in range(4)]
        return json.dumps({"texts": texts})

    def told(request):
        assert OTHER in request.messages[1].content
        return json.dumps({"texts": [" a dog on the"] * 4})

    scorer._subject = SimpleNamespace(fires=fires)
    turn, items = iter(range(10**6)), []
    for seed in range(2 * N_TASKS):
        made = task(seed)[0]
        for text, is_own in ((f"token {PIECES[seed % len(PIECES)]}", True), (OTHER, False)):
            found = asyncio.run(scorer.judge(described(made, text), ScriptedChat(blind)))
            items += [({"fired": one.prediction, "peak": one.value}, is_own) for one in found]
    at_chance(items)
    made = described(task(fired)[0], OTHER)
    assert all(one.prediction for one in asyncio.run(scorer.judge(made, ScriptedChat(told))))
