"""Surprisal: does the explanation make texts in which the latent fires easier to predict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lakeinterp import hub, prompts
from lakeinterp.fingerprint import identity
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.subject.check import check_subject, require_torch
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.terms import Example

VERSION = 2
"""Of what is measured."""


class SurprisalScorer(Scorer):
    """Ranks the examples by what a causal language model gains from the explanation.

    The surprisal scorer of Paulo et al. 2024 (arXiv 2410.13928, section 4): a text's loss after a
    prompt with a description that fits anything, less its loss after the same prompt with the
    explanation, in nats a token. The model is the captured one, unless the settings name another.
    """

    name = "surprisal"
    needs_chat = False
    metrics = "score/surprisal"
    headline = "auroc"

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompt and the description that fits anything."""
        self._config = config
        self._prompt = prompts.load("score/surprisal", config.prompts)
        self._anything = prompts.load("score/surprisal_anything", config.prompts).fill()
        model = config.surprisal_model and identity(
            config.surprisal_model, config.surprisal_revision
        )
        self.settings = digest([VERSION, model, self._prompt.text, self._anything])
        self._language: Any = None
        self._is_captured = not config.surprisal_model
        self._kept: tuple[tuple[int, ...], list[list[float] | None]] | None = None

    def check(self, bench: Bench) -> None:
        """Refuse a model that is not there.

        Raises:
            MissingExtra: torch or transformers is not installed.
            NotFound: there is no such model.
            ConfigError: the capture does not say which model it was made with.
        """
        require_torch("the surprisal scorer")
        if self._is_captured:
            check_subject(bench)
        else:
            hub.require("model", self._config.surprisal_model)

    def prepare(self, bench: Bench) -> None:
        """Load the language model, or take the one that is loaded.

        Raises:
            ConfigError: it predicts no next token, or is not what was captured.
        """
        from lakeinterp.subject import opening

        if self._is_captured:
            self._language = opening.open_subject(bench).language
        else:
            name, revision = self._config.surprisal_model, self._config.surprisal_revision
            self._language = opening.open_language(name, revision, bench.config.capture)

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Judge every example by the nats that the explanation saves for each of its tokens."""
        del chat
        return await asyncio.to_thread(self._judge, task)

    def _judge(self, task: ScoringTask) -> list[Judgement]:
        texts = [self._ids(example) for example in task.examples]
        place = (task.latent.latent, *(example.example for example in task.examples))
        if self._kept is None or self._kept[0] != place:
            # All explanations of a latent, its own and the borrowed ones, meet the same texts.
            self._kept = place, self._losses(self._anything, texts)
        told = self._losses(task.explanation.text, texts)
        pairs = zip(task.examples, self._kept[1], told, strict=True)
        return [self._judgement(example, plain, own) for example, plain, own in pairs]

    def _judgement(
        self, example: Example, plain: list[float] | None, told: list[float] | None
    ) -> Judgement:
        if not plain or not told:
            return Judgement(
                item=example.example, example=example, truth=example.is_active, status="truncated",
                reason="prompt and text are longer than the language model reads",
            )  # fmt: skip
        n = len(plain)
        return Judgement(
            item=example.example,
            example=example,
            truth=example.is_active,
            value=round((sum(plain) - sum(told)) / n, 6),
            detail={"loss": round(sum(told), 4), "plain": round(sum(plain), 4), "tokens": n},
        )

    def _losses(self, description: str, texts: Sequence[Sequence[int]]) -> list[list[float] | None]:
        """Return each text's losses after a description; None if they do not fit the model."""
        words = " ".join(description.split())
        context = self._language.start(f"{self._prompt.fill(explanation=words)}\n")
        limit = self._language.n_positions
        fits = [text and (limit is None or len(context) + len(text) <= limit) for text in texts]
        short = [text for text, is_short in zip(texts, fits, strict=True) if is_short]
        found = iter(self._language.losses([context] * len(short), short))
        return [next(found) if is_short else None for is_short in fits]

    def _ids(self, example: Example) -> Sequence[int]:
        """Return the example's tokens, those that were captured if it is the captured model."""
        if self._is_captured:
            return example.tokens
        ids: Sequence[int] = self._language.tokenizer.encode([example.text])[0]
        return ids
