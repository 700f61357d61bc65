"""What every scorer is: a task in, one judgement an item out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lakeinterp import registry
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat, RouteName
    from lakeinterp.config import ScoreConfig
    from lakeinterp.lake.bench import Bench
    from lakeinterp.terms import Example, LatentId, Status

ExplanationRole = Literal["own", "borrowed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToJudge:
    """One explanation to be held against a latent's items."""

    explanation: str
    """Its id."""
    text: str
    detail: Mapping[str, Any] | None
    """Machine-readable form, if the explainer gave one."""
    role: ExplanationRole
    explained_latent: int
    """The latent it was written for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringTask:
    """One latent's items and one explanation, its own or a borrowed one."""

    latent: LatentId
    examples: tuple[Example, ...]
    """Of the score role, in the order of their numbers."""
    explanation: ToJudge
    seed: int
    """With the latent it decides the order of the items, the same for every explanation."""
    turn: int = 0
    """1 when the same items are judged again: they then stand in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of one item."""

    item: int
    """Number of the item; the same for every explanation of the latent."""
    example: Example | None
    """None if the item is no window of the corpus."""
    truth: bool | None
    """What `prediction` is held against; None where nothing is predicted."""
    prediction: bool | None = None
    """None unless `status` is ok."""
    probability: float | None = None
    """Of `prediction` being true, as the judge gives it."""
    value: float | None = None
    """What was measured of the item, in the scorer's unit, where that is no probability."""
    values: tuple[float, ...] = ()
    """What was predicted for each token of the example, where the scorer predicts tokens."""
    detail: Mapping[str, Any] | None = None
    """What else is needed to understand the item, for example a text that a model wrote."""
    call: int | None = None
    """Number of the call that held the item; items of one call are not independent."""
    status: Status = "ok"
    reason: str = ""
    reply_keys: tuple[str, ...] = ()
    """Of all replies that were asked for, in their order; the last one was read."""


class Scorer(Protocol):
    """Judges one explanation on one latent's items; to be inherited from."""

    name: str
    """In the registry, and in the `scorer` column."""
    needs_chat: bool
    """Whether it asks a language model."""
    uses_explanation: bool = True
    """False if it judges the latent's examples alone: then nothing is borrowed."""
    metrics: str = "score/metrics"
    """The SQL that computes its metrics from `items` and `shares`; returns what `score/metrics`
    returns."""
    headline: str = "balanced_accuracy"
    """The metric that says most; a latent with nothing to judge has a row without a value of it."""
    is_itemwise: bool = False
    """Whether an example makes the same items whatever other examples a task has: then some may be
    judged twice, or left out."""
    is_natural: bool = True
    """Whether its items are windows as they are, from which one may reckon on the whole corpus."""
    route: RouteName = "judge"
    """Which language model it asks."""
    settings: str
    """Digest of exactly the settings that matter to it, and of its prompts."""

    def __init__(self, config: ScoreConfig) -> None:
        """Take the settings; loads the prompts."""

    def check(self, bench: Bench) -> None:
        """Refuse what cannot work, before any scorer asks or runs anything; costs little."""

    def prepare(self, bench: Bench) -> None:
        """Get ready for a unit, before its first task; most scorers need nothing."""

    def truths(self, example: Example) -> Mapping[int, bool]:
        """Return what is true of the items that an example makes, by number, if `is_itemwise`."""
        return {example.example: example.is_active}

    async def judge(self, task: ScoringTask, chat: Chat | None) -> Sequence[Judgement]:
        """Judge every item of a task; a failure is a judgement without a prediction."""
        ...


def load_scorer(name: str, config: ScoreConfig) -> Scorer:
    """Return the scorer of a name.

    Raises:
        NotFound: no scorer has this name; the message lists the known ones.
    """
    scorer: Scorer = registry.resolve("scorer", name)(config)
    return scorer


def shuffled(task: ScoringTask) -> list[Example]:
    """Return the examples in an order that depends on the seed, the latent and their numbers."""
    place = [task.seed, task.latent.hookpoint, task.latent.latent, *([task.turn] * bool(task.turn))]
    return sorted(task.examples, key=lambda e: (digest([*place, e.example]), e.example))
