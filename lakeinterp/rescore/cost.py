"""What redoing would cost, from what the same explainer and scorers took of each latent so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp import registry
from lakeinterp.lake import queries, where

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakeinterp.lake import Lake
    from lakeinterp.rescore.stale import Stale

Past = dict[str | None, dict[str, Any]]
_FREE_TO_EXPLAIN = frozenset({"older", "wider"})
"""Reasons for which the explainer is shown what it was shown before: the lake has its replies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Calls and what they cost, in the three states of `replies.cost_state`."""

    n_calls: float = 0.0
    n_tokens: float = 0.0
    usd: float = 0.0
    """As far as it is known: calls of unknown cost may add to it."""
    n_free: float = 0.0
    n_unknown: float = 0.0
    n_reckoned: int = 0
    """Pieces of work, an explanation or a latent's judgements, of a kind never done before: what
    they take is told by their prompts."""
    n_untold: int = 0
    """Pieces of a kind never done before of which nothing is known."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            n_calls=self.n_calls + other.n_calls,
            n_tokens=self.n_tokens + other.n_tokens,
            usd=self.usd + other.usd,
            n_free=self.n_free + other.n_free,
            n_unknown=self.n_unknown + other.n_unknown,
            n_reckoned=self.n_reckoned + other.n_reckoned,
            n_untold=self.n_untold + other.n_untold,
        )

    @property
    def money(self) -> str:
        """Dollars in words: what calls of unknown cost add to them is not known."""
        if self.n_unknown < 0.5:
            return f"${self.usd:,.4f}"
        known = f"${self.usd:,.4f} and " if self.usd else ""
        return f"{known}{self.n_unknown:,.0f} calls of unknown cost"

    def __str__(self) -> str:
        parts = [f"{self.n_calls:,.0f} calls", f"{self.n_tokens:,.0f} tokens", self.money]
        parts += [f"{self.n_free:,.0f} free"] if self.n_free >= 0.5 else []
        if self.n_reckoned:
            parts.append(
                f"reckoned from prompts for {self.n_reckoned:,} pieces of a kind never done before"
            )
        if self.n_untold:
            parts.append(
                f"and {self.n_untold:,} pieces of a kind never done before "
                "(`lakeinterp plan` estimates them)"
            )
        return ", ".join(parts)


def past(lake: Lake, capture: str, explainer: str) -> Past:
    """Return the rows of `sql/rescore/costs.sql` by scorer; None is the explainer itself."""
    mine = where(capture=capture)
    with lake.connect(explanations=mine, judgements=mine) as con:
        rows = queries.load("rescore/costs").table(con, capture=capture, explainer=explainer)
    return {row["scorer"]: row for row in rows.to_pylist()}


def costs(rows: Iterable[Stale], known: Mapping[str | None, Mapping[str, Any]]) -> Cost:
    """Return what redoing some rows would cost at most; replies that the lake has cost nothing.

    Args:
        rows: Of `stale`.
        known: As `past` returns it.
    """
    total, explained = Cost(), set[tuple[str, int]]()
    for row in rows:
        place = (row.hookpoint, row.latent)
        is_new = not (row.is_explained or _FREE_TO_EXPLAIN.issuperset(row.reasons))
        if is_new and place not in explained:
            explained.add(place)
            if registry.resolve("explainer", row.explainer).needs_chat:
                total += _mean(known.get(None), 1)
        if registry.resolve("scorer", row.scorer).needs_chat:
            total += _mean(known.get(row.scorer), 2**row.level)
    return total


def _mean(row: Mapping[str, Any] | None, times: int) -> Cost:
    """Return what one piece took in the mean, so many times."""
    if row is None or not row["n_latents"]:
        return Cost(n_untold=1)
    each = times / row["n_latents"]
    n_counted = max(1, row["n_counted"])
    return Cost(
        n_calls=row["n_calls"] * each,
        n_tokens=row["n_tokens"] / n_counted * row["n_calls"] * each,
        usd=row["cost_usd"] * each,
        n_free=row["n_free"] * each,
        n_unknown=row["n_unknown"] * each,
        n_reckoned=1 if row.get("n_reckoned") else 0,
    )
