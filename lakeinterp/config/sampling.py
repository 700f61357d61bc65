"""Settings of examples and statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakeinterp.config.section import Positive, Section, Share


class SamplingConfig(Section):
    """Which windows stand for a latent."""

    window_tokens: Annotated[int, Field(gt=1)] = 32
    """Tokens shown in one example."""
    placement: Literal["peak", "aligned"] = "peak"
    """`peak` shifts a window so that its peak stands at `peak_at`; `aligned` leaves it."""
    peak_at: Share = 0.75
    """Where in a window the peak stands, as a share of its tokens."""
    n_quantiles: Positive = 10
    """Groups of equal count over a latent's windows, ranked by peak activation; 1 is strongest."""
    n_explain: Positive = 40
    """Activating windows drawn for the explainer."""
    n_explain_negatives: Annotated[int, Field(ge=0)] = 40
    """Windows without the latent drawn from the explainer's documents."""
    n_score: Positive = 50
    """Activating windows drawn for the scorers."""
    n_random: Annotated[int, Field(ge=0)] = 50
    """Windows without the latent, uniform over the scorers' documents."""
    explain_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the documents that only the explainer may see."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 22
    """Decides roles and draws together with document and window, on every machine alike."""
    min_windows: Positive = 20
    """Latents with fewer activating windows are `rare`: a row says so, nothing is drawn."""
    dense_above: Share = 0.2
    """Latents that fire on a larger share of tokens are marked `dense`."""
    latents: tuple[int, ...] = ()
    """Latents to work on; empty takes all."""
    max_latents: Positive | None = None
    """At most this many latents a hookpoint, a random choice by `seed`."""

    @property
    def sample(self) -> str:
        """Digest of the settings that decide an example; see `lakeinterp.lake.units.sample_id`."""
        return self.digest(exclude={"latents", "max_latents"})
