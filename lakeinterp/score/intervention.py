"""Intervention: does the explanation tell what adding the latent makes the model say."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.lake import where
from lakeinterp.prompts import cited, quote
from lakeinterp.score.scorer import Judgement, Scorer
from lakeinterp.subject.check import check_subject, require_torch
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.lake.bench import Bench
    from lakeinterp.score.scorer import ScoringTask

VERSION = 2
"""Of the pairs; grows when the same latents lead to other ones."""
_POOL = 2
"""Other latents run at first, as many times those that one latent is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one direction does."""

    latent: int
    tokens: tuple[str, ...]
    """Raised most by it, farthest first."""
    strength: float
    kl: float
    is_reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two lists of raised tokens, one of which is the latent's."""

    item: int
    own: Effect
    other: Effect
    is_first: bool
    """Whether the latent's list is shown first."""


class InterventionScorer(Scorer):
    """Shows the tokens that two latents' directions raise; the explanation should tell whose.

    Intervention scoring after Paulo et al. 2024 (arXiv 2410.13928, section 4), as a choice: both
    directions are added to the same texts, each as strongly as it takes to move the next token by
    the same divergence, so that size gives nothing away and a judge without a clue is right half of
    the time.
    """

    name = "intervention"
    needs_chat = True
    metrics = "score/intervention"
    headline = "accuracy"
    is_natural = False

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._config = config
        self._system = prompts.load("score/intervention_system", config.prompts).fill()
        self._user = prompts.load("score/intervention_user", config.prompts)
        made = [VERSION, config.n_interventions, config.intervention_kl, config.n_raised]
        asked = [config.max_tokens, config.temperature, self._system, self._user.text]
        self.settings = digest([made, asked])
        self._subject: Any = None
        self._others: list[int] = []
        self._effects: dict[int, Effect] = {}
        self._lock = threading.Lock()

    def check(self, bench: Bench) -> None:
        """Refuse a captured model that is not there.

        Raises:
            MissingExtra: torch or transformers is not installed.
            NotFound: model or coder are gone.
            ConfigError: the capture does not say which they were.
        """
        require_torch("the intervention scorer")
        check_subject(bench)

    def prepare(self, bench: Bench) -> None:
        """Open the captured model and choose the latents whose directions are compared with.

        Raises:
            ConfigError: the model predicts no next token, or nothing can be added at the
                coder's target.
        """
        from lakeinterp.subject.opening import open_subject

        self._subject = open_subject(bench)
        self._subject.steering()  # refuses a place that cannot be steered
        place = where(capture=bench.capture, hookpoint=bench.hookpoint)
        rows = bench.lake.rows("latents", place)
        alive = [row["latent"] for row in rows if row["status"] == "ok"]
        seed = [bench.config.sampling.seed, bench.hookpoint, "others"]
        alive.sort(key=lambda latent: digest([*seed, latent]))
        self._others = alive[: _POOL * self._config.n_interventions + 1]

    def request(self, explanation: str, pair: Pair) -> Request:
        """Return the call for one pair."""
        shown = (pair.own, pair.other) if pair.is_first else (pair.other, pair.own)
        first, second = (", ".join(map(cited, e.tokens)) for e in shown)
        words = quote(" ".join(explanation.split()))
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"list": {"type": "integer", "enum": [1, 2]}},
            "required": ["list"],
            "additionalProperties": False,
        }
        user = self._user.fill(explanation=words, first=first, second=second)
        return Request(
            route="judge",
            messages=(
                Message(role="system", content=self._system),
                Message(role="user", content=user),
            ),
            max_tokens=self._config.max_tokens,
            temperature=self._config.temperature,
            schema=schema,
        )

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Ask for every pair; a direction that moves the next token too little gives none."""
        assert chat is not None, "score_unit refuses to start without a chat"
        own, pairs = await asyncio.to_thread(self.pairs, task)
        if not pairs:
            return [_unjudged(own)]
        work = partial(self._ask, chat, task.explanation.text)
        asked = in_parallel(enumerate(pairs), work, limit=len(pairs))
        return sorted([judgement async for judgement in asked], key=lambda j: j.item)

    def pairs(self, task: ScoringTask) -> tuple[Effect, list[Pair]]:
        """Return the latent's effect, and the pairs that its explanations are judged on."""
        latent = task.latent.latent
        seed = [task.seed, task.latent.hookpoint, latent]
        others = sorted((o for o in self._others if o != latent), key=lambda o: digest([*seed, o]))
        found = self._measured([latent, *others])
        reached = [found[other] for other in others if found[other].is_reached]
        own = found[latent]
        chosen = reached[: self._config.n_interventions] if own.is_reached else []
        return own, [
            Pair(
                item=i,
                own=own,
                other=other,
                is_first=int(digest([*seed, other.latent, "side"]), 16) % 2 == 0,
            )
            for i, other in enumerate(chosen)
        ]

    def _measured(self, latents: Sequence[int]) -> Mapping[int, Effect]:
        """Return the effects of latents; each is measured once for all of a unit's tasks."""
        with self._lock:
            missing = [latent for latent in latents if latent not in self._effects]
            config = self._config
            found = self._subject.raised(missing, kl=config.intervention_kl, n=config.n_raised)
            for latent, one in zip(missing, found, strict=True):
                self._effects[latent] = Effect(
                    latent=latent,
                    tokens=tuple(token.text for token in one.raised),
                    strength=one.strength,
                    kl=one.kl,
                    is_reached=one.is_reached,
                )
            return {latent: self._effects[latent] for latent in latents}

    async def _ask(self, chat: Chat, explanation: str, numbered: tuple[int, Pair]) -> Judgement:
        from lakeinterp.chat.ask import ask
        from lakeinterp.chat.numbers import parse_choice

        call, pair = numbered
        request = self.request(explanation, pair)
        asked = await ask(chat, request, lambda text: parse_choice(text, 2, "list"))
        return Judgement(
            item=pair.item,
            example=None,
            truth=True,
            prediction=None if asked.value is None else (asked.value == 1) == pair.is_first,
            value=pair.own.kl,
            detail={
                "raised": pair.own.tokens,
                "other": pair.other.latent,
                "other_raised": pair.other.tokens,
                "shown": 1 if pair.is_first else 2,
                "strength": round(pair.own.strength, 4),
            },
            call=call,
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )


def _unjudged(own: Effect) -> Judgement:
    why = "there are no others to compare with"
    if not own.is_reached:
        why = f"no strength moves the next token far enough (divergence {own.kl:.2g} nats at most)"
    return Judgement(item=0, example=None, truth=True, status="not_applicable", reason=why)
