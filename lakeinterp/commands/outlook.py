"""What `lakeinterp plan` finds, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.commands.common import size

if TYPE_CHECKING:
    from collections.abc import Callable


class Interval(NamedTuple):
    """An estimate with the ends of its interval of about 95 %."""

    low: float
    expected: float
    high: float

    def times(self, low: float, expected: float, high: float) -> Interval:
        """Multiply with another estimate; the ends take its ends."""
        return Interval(self.low * low, self.expected * expected, self.high * high)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a run will come to."""

    n_tokens: int
    slice_tokens: int
    n_rows: Interval
    n_bytes: Interval
    capture_s: Interval
    memory_bytes: int
    """Peak of this process while it captured the slice, and what larger shards add."""
    gpu_bytes: int | None
    n_latents: Interval
    """That will be explained and scored, of all hookpoints."""
    calls: dict[str, Interval] = field(default_factory=dict)
    """By route; empty if no language model is needed."""
    prompt_tokens: dict[str, Interval] = field(default_factory=dict)
    reply_tokens: dict[str, Interval] = field(default_factory=dict)
    usd: dict[str, Interval | None] = field(default_factory=dict)
    """None where the price is not known."""
    note: str = ""


def lines(outlook: Outlook) -> list[str]:
    """Return the estimate as lines for people."""
    per_s = outlook.n_tokens / outlook.capture_s.expected
    text = [
        f"plan for {outlook.n_tokens:,} tokens, from {outlook.slice_tokens:,} "
        "(expected, and the interval of about 95 %)",
        f"  activations    {_span(outlook.n_rows, _number)}",
        f"  disk           {_span(outlook.n_bytes, size)}",
        f"  capture        {_span(outlook.capture_s, duration)} at {per_s:,.0f} tokens/s",
        f"  memory         {size(outlook.memory_bytes)}",
    ]
    if outlook.gpu_bytes is not None:
        text.append(f"  GPU memory     {size(outlook.gpu_bytes)}")
    text.append(f"  latents        {_span(outlook.n_latents, _number)} to explain and score")
    for route, calls in outlook.calls.items():
        text.append(f"  {route:14} {_span(calls, _number)} calls")
        text.append(f"    prompt       {_span(outlook.prompt_tokens[route], _number)} tokens")
        text.append(f"    replies      {_span(outlook.reply_tokens[route], _number)} tokens")
        text.append(f"    cost         {_cost(outlook.usd[route])}")
    if not outlook.calls:
        text.append(f"  calls          {outlook.note or 'none: no language model is needed'}")
    return text


def _span(found: Interval, word: Callable[[float], str]) -> str:
    if found.low == found.high:
        return word(found.expected)
    return f"{word(found.expected)} ({word(found.low)} to {word(found.high)})"


def _cost(usd: Interval | None) -> str:
    if usd is None:
        return "unknown: give the deployment prices"
    return _span(usd, lambda v: f"${v:,.4f}") if any(usd) else "free"


def _number(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:,.1f} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a time as people read it."""
    for limit, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * limit:
            return f"{seconds / limit:.1f} {unit}"
    return f"{seconds:.1f} s"
