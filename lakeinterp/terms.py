"""The words of the field as values: plain frozen records that rooms hand to each other.

What latent, hookpoint, window, example, quantile and the others mean is in `docs/terms.md`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["explain", "score"]
"""Which step may see a document's windows: the explainer or the scorers."""
Stratum = Literal["activating", "random", "neighbour", "similar", "same_token"]
"""What an example was drawn from; all but `activating` are verified to hold no activation."""
Status = Literal[
    "ok",
    "too_few_examples",
    "no_rule",
    "not_applicable",
    "parse_failed",
    "refused",
    "http_error",
    "timeout",
    "truncated",
    "budget_stopped",
    "stopped_early",
    "many_failed",
]
"""How an explanation, a judgement, a reply or a score ended. Only `ok` carries a value, and
`many_failed`: a score of which more items failed than `score.max_failed` allows. An item that was
`stopped_early` was not needed: the interval was narrow enough without it."""
TRANSIENT: frozenset[str] = frozenset({"http_error", "timeout", "budget_stopped"})
"""Statuses that a rerun tries again."""
WAITING = "waiting"
"""Counted beside the statuses: left undone, without a row, until a batch file is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of work after capture: one contiguous range of latents at one hookpoint."""

    capture: str
    hookpoint: str
    bucket: int

    def __str__(self) -> str:
        return f"{self.capture}/{self.hookpoint}/{self.bucket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentId:
    """One coordinate of a sparse coder's code."""

    capture: str
    hookpoint: str
    latent: int
    """Row of the decoder; 0-based."""

    def __str__(self) -> str:
        return f"{self.hookpoint}#{self.latent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A window chosen for one latent, with the latent's activation at each of its tokens."""

    sample: str
    """Digest of the sampling settings and the captured tokens it was drawn from."""
    example: int
    """Number of the example within (sample, latent); 0-based."""
    role: Role
    stratum: Stratum
    quantile: int | None
    """1 is the strongest; None unless activating."""
    document: int
    start: int
    """Corpus index of the window's first token."""
    tokens: tuple[int, ...]
    values: tuple[float, ...]
    """The latent's activation at each token, zero where it is silent."""
    peak: float
    """Activation at `peak_offset`, by which the example was ranked; zero unless activating.

    The largest of its own tile; a tile beside it that is shown too may hold a larger one.
    """
    peak_offset: int | None
    """Position of the peak within `tokens`; None unless activating."""
    population: int
    """Windows in the role's documents that its stratum and quantile stand for.

    A quantile of which nothing was drawn is counted with the nearest one."""
    weight: float | None = None
    """Windows that this one stands for: sums of weight x value over the drawn windows of a role and
    stratum are unbiased for sums over all of them, but for windows that overlap each other or, of
    random ones, have no room. None where some had no chance to be drawn (`top`, fewer windows than
    quantiles, negatives chosen for being hard)."""
    pieces: tuple[str, ...] = ()
    """Text of each token; joined they are the window's text."""

    @property
    def is_active(self) -> bool:
        """Whether the latent fires in this window."""
        return self.stratum == "activating"

    @property
    def text(self) -> str:
        """The window's text."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What an explainer says about one latent."""

    text: str | None
    """None unless `status` is ok."""
    status: Status = "ok"
    reason: str = ""
    detail: dict[str, Any] | None = None
    """Machine-readable form, for example the rule of a pattern."""
    reply_keys: tuple[str, ...] = ()


def digest(value: object, *, size: int = 8) -> str:
    """Return a hexadecimal digest of a JSON-able value, equal on every machine and version."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def json_text(detail: Mapping[str, Any] | None) -> str | None:
    """Return a `detail` column's text; None stays None."""
    return None if detail is None else json.dumps(detail, sort_keys=True, ensure_ascii=False)


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)
