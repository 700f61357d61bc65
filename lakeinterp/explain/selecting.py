"""How explainers that choose among explanations hold them against windows of the explain role."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lakeinterp import registry
from lakeinterp.errors import ConfigError, TooFewExamples
from lakeinterp.explain.asking import AskingExplainer
from lakeinterp.explain.explainer import Explainer
from lakeinterp.terms import TRANSIENT, Explained, digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from lakeinterp.chat.ask import Asked
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import Config, ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.lake import Bench
    from lakeinterp.score.scorer import Judgement
    from lakeinterp.terms import Example

T = TypeVar("T")
SELECTING = ("select_share", "n_judged")
"""Settings of every explainer that chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An explanation and what the judge made of it."""

    text: str
    judgements: tuple[Judgement, ...]

    @property
    def accuracy(self) -> float | None:
        """Balanced accuracy over the windows that were judged; None without one of each kind."""
        shares = []
        for truth in (True, False):
            kind = [j.prediction == truth for j in self._judged if j.truth is truth]
            if not kind:
                return None
            shares.append(sum(kind) / len(kind))
        return sum(shares) / 2

    @property
    def n_failed(self) -> int:
        """Windows that the judge gave no answer on."""
        return len(self.judgements) - len(self._judged)

    @property
    def _judged(self) -> list[Judgement]:
        return [j for j in self.judgements if j.prediction is not None]

    @property
    def reply_keys(self) -> tuple[str, ...]:
        """Keys of the judge's replies, each once."""
        return tuple(dict.fromkeys(key for j in self.judgements for key in j.reply_keys))

    def wrong(self, *, truth: bool) -> list[Example]:
        """Return the windows of one kind that were judged wrongly, in the order of the items."""
        found = [j for j in self._judged if j.truth is truth and j.prediction is not truth]
        return [j.example for j in found if j.example is not None]

    def as_detail(self) -> dict[str, Any]:
        """Return what a row keeps of it."""
        return {
            "text": self.text,
            "accuracy": self.accuracy,
            "n": len(self.judgements),
            "n_failed": self.n_failed,
        }


class SelectingExplainer(Explainer):
    """Writes several explanations from some documents and keeps the one that is best on others.

    Both are documents of the explain role: the scorers' stay unseen.
    """

    needs_chat = True
    routes = ("explainer", "judge")

    def __init__(self, config: ExplainConfig) -> None:
        """Take the settings and make the explainer of the candidates.

        Raises:
            ConfigError: it asks no language model, or chooses itself.
            NotFound: there is no such explainer.
        """
        writer = registry.resolve("explainer", config.candidate_explainer)
        if not (isinstance(writer, type) and issubclass(writer, AskingExplainer)):
            raise ConfigError(
                f"explain.candidate_explainer: {config.candidate_explainer!r} does not put one "
                "question to a language model; take default or contrastive"
            )
        made = writer(config)
        self._config, self._asker = config, made
        self._bench: Bench | None = None
        self.prompt: str | None = made.prompt

    def identity(self, *used: str) -> str:
        """Return the digest of the settings that matter, and of the candidates' explainer's."""
        fields = {*SELECTING, "candidate_explainer", *used}
        values = self._config.model_dump(mode="json", include=fields)
        return digest([self.name, 1, values, self._asker.settings, self.prompt])

    def other_settings(self, config: Config) -> list[Any]:
        """Return the settings of the judge and the models that it asks."""
        from lakeinterp.score.scorer import load_scorer

        route = config.chat.judge if config.chat.judge.deployments else config.chat.explainer
        models = sorted({deployment.name for deployment in route.deployments})
        seed = config.sampling.seed
        return [
            load_scorer("detection", config.score).settings,
            models,
            seed,
            *self._asker.other_settings(config),
        ]

    def prepare(self, bench: Bench) -> None:
        """Get the candidates' explainer ready."""
        self._bench = bench
        self._asker.prepare(bench)

    def parts(self, evidence: Evidence) -> tuple[Evidence, Evidence]:
        """Return what is shown and what is selected on.

        Raises:
            TooFewExamples: one of them has no activating or no silent window.
        """
        shown, kept = evidence.split(self._config.select_share)
        if not shown.activating:
            raise TooFewExamples(0, 1, kind="activating (in the documents to be shown)")
        for kind, found in (("activating", kept.activating), ("silent", kept.silent)):
            if not found:
                raise TooFewExamples(0, 1, kind=f"{kind} (in the documents to select on)")
        return shown, kept

    async def tried(self, evidence: Evidence, text: str, chat: Chat) -> Trial:
        """Have an explanation judged by detection on some windows, half of them activating."""
        from lakeinterp.score.scorer import ScoringTask, ToJudge, load_scorer

        assert self._bench is not None, "explain_unit prepares explainers"
        config, half = self._bench.config, self._config.n_judged // 2
        task = ScoringTask(
            latent=evidence.latent,
            examples=(*_drawn(evidence.activating, half), *_drawn(evidence.silent, half)),
            explanation=ToJudge(
                explanation=digest(["candidate", text]),
                text=text,
                detail=None,
                role="own",
                explained_latent=evidence.latent.latent,
            ),
            seed=config.sampling.seed,
        )
        scorer = load_scorer("detection", config.score)
        return Trial(text=text, judgements=tuple(await scorer.judge(task, chat)))


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Return what several pieces of waiting come to, in their order.

    All are waited for even if one raises an error, so that a reply that is to come by a batch file
    does not keep the others from being asked for.
    """
    found = await asyncio.gather(*work, return_exceptions=True)
    done: list[T] = []
    for one in found:
        if isinstance(one, BaseException):
            raise one
        done.append(one)
    return done


def best(trials: Sequence[Trial]) -> int | None:
    """Return the place of the trial with the best accuracy, of equals the first; None of none."""
    places = [i for i, trial in enumerate(trials) if trial.accuracy is not None]
    return min(places, key=lambda i: (-(trials[i].accuracy or 0.0), i), default=None)


def choose(
    asked: Sequence[Asked[str]], trials: Sequence[Trial], seen: Sequence[Trial] = ()
) -> int | Explained:
    """Return the place of the best trial, or the row of a latent for which none can be chosen.

    A call that failed for a reason that passes makes the whole latent fail, so that a rerun, which
    pays for that call alone, ends with the row of a run in which it had not failed.

    Args:
        asked: Replies of the explainer.
        trials: What the judge made of the explanations among them.
        seen: Other trials that had to succeed.
    """
    found = [(a.status, a.reason) for a in asked]
    found += [(j.status, j.reason) for trial in (*trials, *seen) for j in trial.judgements]
    wrong = [(status, reason) for status, reason in found if status != "ok"]
    passing = [(status, reason) for status, reason in wrong if status in TRANSIENT]
    chosen = best(trials)
    if chosen is not None and not passing:
        return chosen
    status, reason = (passing or wrong)[0]
    return Explained(
        text=None,
        status=status,
        reason=reason,
        detail={"candidates": [trial.as_detail() for trial in trials]},
        reply_keys=keys_of(*asked, *trials, *seen),
    )


def keys_of(*found: Asked[str] | Trial) -> tuple[str, ...]:
    """Return the keys of all replies."""
    return tuple(key for one in found for key in one.reply_keys)


def _drawn(examples: Sequence[Example], n: int) -> list[Example]:
    """Return up to `n` examples, the same ones every time and of every strength alike."""
    return sorted(examples, key=lambda e: (digest(["judged", e.example]), e.example))[:n]
