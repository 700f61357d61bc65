"""Settings of re-scoring: what is out of date beside what changed, and how much may be redone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lakeinterp.config.section import Positive, Section

_Above = Annotated[float, Field(gt=0)]


class RescoreConfig(Section):
    """What `lakeinterp rescore` does again.

    Always what is missing, what failed in passing, and what was made from fewer tokens, other
    examples, prompts, settings or models than those of now.
    """

    older_than_days: _Above | None = None
    """Also scores older than this: the same items are judged anew, by a language model."""
    wider_than: _Above | None = None
    """Also scores whose 95 % interval of the scorer's main metric is wider than this: from twice as
    many examples, up to eight times as many."""
    failed: bool = False
    """Also what failed for good: replies that could not be read, refusals, answers cut short, and
    scores of which too many items failed. They are asked for anew."""
    whole: bool = False
    """After more tokens were captured, count and draw again for every bucket, not only for those
    whose latents fired in them."""
    max_calls: Positive | None = None
    """At most so many calls in one go, as past ones suggest; what matters most comes first."""
    max_tokens: Positive | None = None
    """At most so many tokens of prompts and replies in one go."""
    max_usd: _Above | None = None
    """At most so many US dollars in one go."""
    max_latents: Positive | None = None
    """At most so many latents in one go."""
