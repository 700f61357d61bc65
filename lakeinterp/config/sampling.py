"""Settings of examples and statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lakeinterp.config.section import Positive, Section, Share

NotNegative = Annotated[int, Field(ge=0)]

_MOST_LISTED = 2**24
"""Latents that one range may name; the widest coders have a few millions."""

Draw = Literal["top", "random", "quantiles", "mix", "importance"]
"""Names of the draws of `lakeinterp.sampling.orders`."""


def _numbers(value: object) -> object:
    """Read numbers and ranges from text: `0-99,512`; anything else is left as it is."""
    parts = str(value).split(",") if isinstance(value, (str, int)) else value
    if not isinstance(parts, (list, tuple)):
        return value
    found: list[object] = []
    for part in parts:
        if not isinstance(part, str):
            found.append(part)
            continue
        first, dash, last = (text.strip() for text in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"write numbers and ranges, for example 0-99,512, not {part!r}")
        inside = range(int(first), int(last or first) + 1)
        if not 0 < len(inside) <= _MOST_LISTED:
            raise ValueError(f"{part!r} names no latents, or more than a coder has")
        found += inside
    return found


class SamplingConfig(Section):
    """Which windows stand for a latent."""

    window_tokens: Annotated[int, Field(gt=1, lt=2**19)] = 32
    """Tokens shown in one example."""
    placement: Literal["peak", "aligned"] = "peak"
    """`peak` shifts a window so that its peak stands at `peak_at`; `aligned` leaves it."""
    peak_at: Share = 0.75
    """Where in a window the peak stands, as a share of its tokens."""
    n_quantiles: Positive = 10
    """Groups of equal count over a latent's windows, ranked by peak activation; 1 is strongest."""
    explain_draw: Draw = "quantiles"
    """How the explainer's activating windows are drawn: `top` takes the strongest; `random` any,
    all with the same chance; `quantiles` as many from each quantile; `mix` first the strongest, as
    many as `mix_top` says, then `quantiles` of the rest; `importance` any, with a chance that grows
    with the sum of a window's activations. All but `top` give every window a known chance, so that
    `weight` makes estimates unbiased; a `mix` only if what its strongest leave is a window or more
    for each quantile."""
    score_draw: Draw = "quantiles"
    """How the scorers' activating windows are drawn."""
    mix_top: Share = 0.2
    """Share of the windows of a `mix` that are the strongest."""
    n_explain: Positive = 40
    """Activating windows drawn for the explainer."""
    n_explain_negatives: Annotated[int, Field(ge=0)] = 40
    """Windows without the latent drawn from the explainer's documents."""
    n_score: Positive = 50
    """Activating windows drawn for the scorers."""
    n_random: Annotated[int, Field(ge=0)] = 50
    """Windows without the latent, uniform over the scorers' documents."""
    n_same_token: NotNegative = 0
    """Windows without the latent about one of the tokens it peaks on, for the scorers. Off by
    default, as all hard kinds are: a judge has more to read, and they count in the false positive
    rate of their own kind alone, in no other score. Of the hard kinds the first to turn on: rules
    that count tokens called them active three times as often as random windows."""
    n_neighbour: NotNegative = 0
    """Windows without the latent in which one of its nearest latents fires, for the scorers.
    Which latents are near is counted once for a hookpoint."""
    n_similar: NotNegative = 0
    """Windows without the latent whose text is nearest to some of its own, for the scorers. Takes
    an embedding of every window of the corpus, made once."""
    n_explain_same_token: NotNegative = 0
    """As `n_same_token`, from the explainer's documents, for explainers that contrast."""
    n_explain_neighbour: NotNegative = 0
    """As `n_neighbour`, from the explainer's documents."""
    n_explain_similar: NotNegative = 0
    """As `n_similar`, from the explainer's documents."""
    neighbour_methods: Annotated[
        tuple[Literal["cooccurrence", "decoder", "encoder"], ...], Field(min_length=1)
    ] = ("cooccurrence",)
    """What makes latents near: `cooccurrence` on the same tokens, the cosine of their `decoder` or
    `encoder` rows; of several methods the nearest take turns."""
    n_nearest: Positive = 10
    """Nearest latents kept for each latent and method."""
    neighbour_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """At most this share of a latent's neighbour windows from one neighbour."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Folder or hub id of the `sentence-transformers` model that finds similar text."""
    embedding_revision: str | None = None
    """Revision of a hub model."""
    similar_to: Positive = 5
    """A latent's own windows of each role that similar text is sought for."""
    explain_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the documents that only the explainer may see."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 22
    """Decides roles and draws together with document and window, on every machine alike."""
    min_windows: Positive = 20
    """Latents with fewer activating windows are `rare`: a row says so, nothing is drawn."""
    dense_above: Share = 0.2
    """Latents that fire on a larger share of tokens are marked `dense`."""
    latents: Annotated[tuple[int, ...], BeforeValidator(_numbers)] = ()
    """Latents to work on, numbers and ranges as `0-99,512`; dead and rare ones too. Empty takes all
    with `min_windows` windows or more."""
    where: str = ""
    """Only latents that fulfil this condition, SQL over the columns of the table `latents`, for
    example `density BETWEEN 1e-4 AND 1e-2`."""
    max_latents: Positive | None = None
    """At most this many latents a hookpoint, a random choice by `seed`."""

    first_sequences: Positive | None = None
    """Count and draw from so many leading sequences of what is captured, as if that were all; None
    takes all. Rows made before more tokens were captured are made again like this."""
    workers: Positive | None = None
    """Units worked on at the same time; None takes one a core, 8 at most."""

    @property
    def methods_needed(self) -> tuple[str, ...]:
        """Methods whose rows of `neighbours` the draws read; none unless such windows are asked."""
        asked = self.n_neighbour or self.n_explain_neighbour
        return self.neighbour_methods if asked else ()

    @property
    def needs_coder(self) -> bool:
        """Whether the coder's own rows say which latents are near."""
        return not {"decoder", "encoder"}.isdisjoint(self.methods_needed)

    @property
    def sample(self) -> str:
        """Digest of the settings that decide an example; see `lakeinterp.lake.units.sample_id`."""
        return self.digest(
            exclude={"latents", "max_latents", "where", "workers", "first_sequences"}
        )
