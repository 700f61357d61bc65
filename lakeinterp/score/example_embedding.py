"""Example embedding: are a latent's windows near to each other, whatever the explanation says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lakeinterp.embedder import open_embedder, require_embedder
from lakeinterp.fingerprint import identity
from lakeinterp.lake import units, where
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.terms import Unit, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.embedder import Embedder
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 2
"""Of what is compared."""


class ExampleEmbeddingScorer(Scorer):
    """Ranks the examples by how much nearer they are to activating than to silent windows.

    The example-embedding score of Paulo and Belrose 2025 (arXiv 2507.08473). The windows compared
    with are those of the explain role: other documents, so that no window is compared with itself
    or with what stands beside it, and chance is exactly one half.
    """

    name = "example_embedding"
    needs_chat = False
    uses_explanation = False
    metrics = "score/example_embedding"
    headline = "auroc"

    def __init__(self, config: ScoreConfig) -> None:
        """Find out which model it is."""
        self._config = config
        model = identity(config.embedding_model, config.embedding_revision)
        self.settings = digest([VERSION, model])
        self._embedder: Embedder | None = None
        self._known: dict[int, tuple[list[str], list[str]]] = {}

    def check(self, bench: Bench) -> None:
        """Refuse a model that is not there.

        Raises:
            MissingExtra: sentence-transformers is not installed.
            NotFound: there is no such model.
        """
        del bench
        require_embedder()
        open_embedder(self._config.embedding_model, self._config.embedding_revision)

    def prepare(self, bench: Bench) -> None:
        """Load the embedding model, and the texts of the explain role."""
        self.check(bench)
        config = self._config
        self._embedder = open_embedder(config.embedding_model, config.embedding_revision)
        self._known = _texts(bench)

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge every example by its margin of mean cosines."""
        del chat
        active, silent = self._known.get(task.latent.latent, ([], []))
        if not active or not silent:
            return [_unjudged(example) for example in task.examples]
        margins = await asyncio.to_thread(self._margins, task, active, silent)
        return [
            Judgement(item=e.example, example=e, truth=e.is_active, value=round(margin, 6))
            for e, margin in zip(task.examples, margins, strict=True)
        ]

    def _margins(self, task: ScoringTask, active: list[str], silent: list[str]) -> list[float]:
        """Return mean cosine with the activating less mean cosine with the silent windows."""
        assert self._embedder is not None, "prepare was called"
        own = [example.text for example in task.examples]
        vectors_ND = self._embedder([*own, *active, *silent])
        split = len(own), len(own) + len(active)
        towards_D = vectors_ND[split[0] : split[1]].mean(0) - vectors_ND[split[1] :].mean(0)
        found: list[float] = (vectors_ND[: split[0]] @ towards_D).tolist()
        return found


def _texts(bench: Bench) -> dict[int, tuple[list[str], list[str]]]:
    """Return the activating and the silent windows of the explain role, by latent."""
    place = where(capture=bench.capture, hookpoint=bench.hookpoint)
    size = bench.lake.one("hookpoints", place)["bucket_latents"]
    vocabulary = bench.lake.vocabulary(bench.lake.capture(bench.capture)["tokenizer"])
    found: dict[int, tuple[list[str], list[str]]] = {}
    for bucket in sorted({latent // size for latent in bench.latents}):
        unit = Unit(capture=bench.capture, hookpoint=bench.hookpoint, bucket=bucket)
        mine = [latent for latent in bench.latents if latent // size == bucket]
        for latent, examples in units.examples(
            bench.lake, unit, bench.sample, vocabulary, "explain", mine
        ):
            active = [example.text for example in examples if example.is_active]
            found[latent] = active, [e.text for e in examples if not e.is_active]
    return found


def _unjudged(example: Example) -> Judgement:
    return Judgement(
        item=example.example,
        example=example,
        truth=example.is_active,
        status="not_applicable",
        reason="the explainer's documents give no activating or no silent windows to compare with",
    )
