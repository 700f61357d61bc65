"""What reports show, as plain values: no SQL and no markup here."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from lakeinterp.report import words

if TYPE_CHECKING:
    from lakeinterp.report.shading import Run
    from lakeinterp.report.statistics import Interval
    from lakeinterp.terms import Role, Stratum


@dataclass(frozen=True, slots=True, kw_only=True)
class Hookpoint:
    """A hookpoint's coder and its latents by status."""

    hookpoint: str
    architecture: str | None
    site: str | None
    d_in: int | None
    n_latents: int
    bucket_latents: int
    k: int | None
    l0: float | None
    explained_variance: float | None
    n_tokens: int | None = None
    """Tokens the latents were counted over; None before sampling."""
    statuses: tuple[tuple[str, int], ...] = ()
    """Status of latents and their number, most frequent first."""
    explanations: tuple[tuple[str, str, int], ...] = ()
    """Explainer, status and number of latents."""

    @property
    def n_explained(self) -> int:
        """Explanations that are ok, over all explainers."""
        return sum(n for _, status, n in self.explanations if status == "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the replies behind something cost."""

    n_replies: int = 0
    n_failed: int = 0
    n_priced: int = 0
    n_free: int = 0
    n_unknown: int = 0
    cost_usd: float = 0.0
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return words.cost(self.n_replies, self.cost_usd, self.n_free, self.n_unknown)


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """An explainer and a scorer: what a mean over latents is taken within."""

    explainer: str
    scorer: str

    def __str__(self) -> str:
        return words.pair_name(self.explainer, self.scorer)


@dataclass(frozen=True, slots=True)
class Bin:
    """Latents whose score falls in one of the bins of a histogram."""

    low: float
    high: float
    n_own: int
    n_null: int


@dataclass(frozen=True, slots=True)
class DensityStep:
    """Quartiles of the score over latents of similar density."""

    step: int
    """Densities from 10^(step/2) to 10^((step+1)/2)."""
    n: int
    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One metric of one explainer and scorer over a hookpoint's latents."""

    pair: Pair
    n_latents: int
    n_without: int
    mean: float | None
    interval: Interval | None
    """Bootstrap over latents, 95 %."""
    weighted: float | None = None
    """Mean over latents, each as often as it fires."""
    weighted_interval: Interval | None = None
    mean_null: float | None
    mean_corrected: float | None
    n_compared: int
    n_above: int
    n_ranked: int = 0
    """Latents that have a p value."""
    n_found: int = 0
    """Of those, above the null at a false discovery rate of 5 %."""
    n_items: int
    n_failed: int
    n_marked: int = 0
    """Latents of which more items failed than `score.max_failed` allows."""
    explaining: Cost = field(default_factory=Cost)
    judging: Cost = field(default_factory=Cost)
    histogram: tuple[Bin, ...] = ()
    by_density: tuple[DensityStep, ...] = ()

    @property
    def share_above(self) -> float | None:
        """Share of the compared latents whose lower bound is above their null."""
        return self.n_above / self.n_compared if self.n_compared else None

    @property
    def share_failed(self) -> float:
        """Share of the judged items that failed."""
        asked = self.n_items + self.n_failed
        return self.n_failed / asked if asked else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One metric of one explanation."""

    scorer: str
    metric: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    n_failed: int | None = None
    null_value: float | None = None
    corrected: float | None = None
    p_value: float | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreGroup:
    """One scorer's metrics of one explanation."""

    main: tuple[Score, ...]
    quantiles: tuple[tuple[int, Score], ...]
    """True positive rate within each quantile, the strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one explainer says about a latent, with its scores."""

    explanation: str
    explainer: str
    sample: str | None
    text: str | None
    status: str
    reason: str | None
    scores: tuple[Score, ...] = ()

    def by_scorer(self, headline: str) -> tuple[tuple[str, ScoreGroup], ...]:
        """Return each scorer's metrics, the headline one first, quantiles in their order."""
        found: dict[str, list[Score]] = {}
        for one in self.scores:
            found.setdefault(one.scorer, []).append(one)
        return tuple((scorer, _grouped(scores, headline)) for scorer, scores in found.items())

    def score(self, scorer: str, metric: str) -> Score | None:
        """Return the score of this scorer and metric, None if there is none."""
        for found in self.scores:
            if found.scorer == scorer and found.metric == metric:
                return found
        return None


@dataclass(frozen=True, slots=True)
class Mark:
    """How an example fared with a scorer."""

    scorer: str
    outcome: str
    """right, wrong, failed, or `2 of 3 right` where an example was judged more than once."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One example as a page shows it."""

    example: int
    runs: tuple[Run, ...]
    peak: float
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSection:
    """The examples of one role, stratum and quantile."""

    role: Role
    stratum: Stratum
    quantile: int | None
    n_drawn: int
    """Examples of the section in the lake; the page may show fewer."""
    examples: tuple[Shown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A latent in the order of a report, with the headline score."""

    hookpoint: str
    latent: int
    status: str | None
    n_activations: int | None
    n_windows: int | None
    n_documents: int | None
    density: float | None
    max: float | None
    mean: float | None
    single_token: float | None
    top_tokens: tuple[tuple[str, int], ...]
    """Text and count of the tokens it fires on most, most frequent first."""
    text: str | None
    """Explanation of the headline explainer."""
    headline: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """A latent in full."""

    listed: Listed
    explanations: tuple[Explanation, ...]
    sections: tuple[ExampleSection, ...]
    sample: str | None = None
    """Of the examples in `sections`."""
    is_older: bool = False
    """Whether other latents have explanations of a newer sample."""
    raised: tuple[str, ...] = ()
    """Tokens that its decoder row makes likelier, the farthest first; empty if not read off."""
    lowered: tuple[str, ...] = ()
    """Those that it makes less likely."""

    def of(self, role: str, *, active: bool) -> tuple[ExampleSection, ...]:
        """Return a role's sections: the activating ones, or the negatives."""
        return tuple(
            s for s in self.sections if s.role == role and (s.stratum == "activating") is active
        )

    def explained_by(self, explainer: str) -> Explanation | None:
        """Return the explainer's explanation, None if there is none."""
        return next((e for e in self.explanations if e.explainer == explainer), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """Latents of a hookpoint without explanation and score, for one reason."""

    hookpoint: str
    status: str | None
    explainer: str | None
    state: str
    reason: str
    n: int
    latents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How many latents of a hookpoint a report lists in which section."""

    hookpoint: str
    n_latents: int
    n_scored: int
    n_explained: int
    n_rest: int


_QUANTILE = "tpr_quantile_"


def _grouped(scores: list[Score], headline: str) -> ScoreGroup:
    quantiles = [s for s in scores if s.metric.startswith(_QUANTILE)]
    main = [s for s in scores if not s.metric.startswith(_QUANTILE)]
    return ScoreGroup(
        tuple(sorted(main, key=lambda s: (s.metric != headline, s.metric))),
        tuple(
            sorted(
                ((int(s.metric.removeprefix(_QUANTILE)), s) for s in quantiles), key=itemgetter(0)
            )
        ),
    )
