"""Embedding: is the explanation nearer to texts in which the latent fires than to others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lakeinterp import prompts
from lakeinterp.embedder import open_embedder, require_embedder
from lakeinterp.fingerprint import identity
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.embedder import Embedder, Floats
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask

VERSION = 2
"""Of what is compared."""


class EmbeddingScorer(Scorer):
    """Ranks the examples by the cosine of their vectors and the explanation's.

    The embedding scorer of Paulo et al. 2024 (arXiv 2410.13928, section 4). A similarity is no
    label: the area under the ROC curve tells whether activating texts come first.
    """

    name = "embedding"
    needs_chat = False
    metrics = "score/ranking"
    headline = "auroc"

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompt that the explanation is put into."""
        self._config = config
        self._query = prompts.load("score/embedding", config.prompts)
        model = identity(config.embedding_model, config.embedding_revision)
        self.settings = digest([VERSION, model, self._query.text])
        self._embedder: Embedder | None = None
        self._kept: tuple[tuple[str, ...], Floats] | None = None

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
        """Load the embedding model, or take the one that is loaded."""
        self.check(bench)
        config = self._config
        self._embedder = open_embedder(config.embedding_model, config.embedding_revision)

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge every example by its cosine with the explanation."""
        del chat
        cosines = await asyncio.to_thread(self._cosines, task)
        return [
            Judgement(item=e.example, example=e, truth=e.is_active, value=round(cosine, 6))
            for e, cosine in zip(task.examples, cosines, strict=True)
        ]

    def _cosines(self, task: ScoringTask) -> list[float]:
        assert self._embedder is not None, "prepare was called"
        texts = tuple(example.text for example in task.examples)
        if self._kept is None or self._kept[0] != texts:
            # All explanations of a latent, its own and the borrowed ones, meet the same texts.
            self._kept = texts, self._embedder(texts)
        (query_D,) = self._embedder([self._query.fill(explanation=task.explanation.text)])
        found: list[float] = (self._kept[1] @ query_D).tolist()
        return found
