"""Intervals for means over latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from lakeinterp.lake import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

N_RESAMPLES = 2000
_BATCH = 100
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean's 95 % interval."""

    low: float
    high: float


def scale(rows: Sequence[Mapping[str, float | None]]) -> tuple[float, float]:
    """Return where the axis of a metric begins and ends, so that every value is on it.

    From 0 or -1 to 1 for shares and correlations; a metric that goes beyond ends at the next power
    of ten, or twice or five times one.

    Args:
        rows: `lowest` and `highest` values, as `report/score_summary` gives them.
    """
    lows = [low for row in rows if (low := row["lowest"]) is not None]
    highs = [high for row in rows if (high := row["highest"]) is not None]
    low = min(lows, default=0.0)
    return (-_round_up(-low) if low < 0 else 0.0), _round_up(max(highs, default=1.0))


def _round_up(value: float) -> float:
    """Return 1, or for more the next of 2, 5, 10, 20, 50, ..."""
    steps = (step * 10.0**power for power in range(308) for step in (1, 2, 5))
    return next((step for step in steps if step >= value), value)


@lru_cache(maxsize=4096)
def tail(n: int) -> float:
    """Return the quantile of n latents' bootstrap means at which a 95 % interval ends.

    The plain 2.5 % is too far inside for few latents: the means vary by sqrt((n - 1) / n) too
    little, and their spread is estimated (Hesterberg 2015, The American Statistician 69, section
    on expanded percentile intervals).
    """
    import duckdb

    df = max(1, n - 1)
    with duckdb.connect() as con:
        queries.load("macros/student").run(con)
        ((student,),) = con.execute("SELECT student($df)", {"df": df}).fetchall()
    return max(0.001, _NORMAL.cdf(-sqrt(n / df) * student))


def bootstrap_ratio(
    totals: Sequence[float], weights: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """Return the bootstrap interval of a weighted mean over groups of latents.

    Args:
        totals: Sums of weight times value, shape [groups].
        weights: Sums of weights, shape [groups].
        seed: Of the resampling; the same input and seed give the same interval.

    Returns:
        As `bootstrap_mean`; None for fewer than two groups that have a weight.
    """
    sums = np.asarray([totals, weights], dtype=np.float64)
    sums = sums[:, sums[1] > 0]
    n, rng = sums.shape[1], np.random.default_rng(seed)
    if n < 2:
        return None
    times = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    total, weight = times @ sums[0], times @ sums[1]
    low, high = np.quantile(total / weight, [tail(n), 1 - tail(n)])
    return Interval(low=float(low), high=float(high))


def bootstrap_mean(
    values: Sequence[float], counts: Sequence[int], *, seed: int = 0
) -> Interval | None:
    """Return the bootstrap interval of a mean over latents.

    Resampling n latents with replacement is a multinomial draw over the distinct values, so
    memory depends on the number of distinct values and not on the number of latents. Efron and
    Tibshirani, An Introduction to the Bootstrap, section 13.3.

    Args:
        values: Distinct values; shape [k].
        counts: Latents with each value; shape [k].
        seed: Of the resampling; the same input and seed give the same interval.

    Returns:
        The quantiles over 2 000 resamples at which `tail` says that the interval ends; None for
        fewer than two latents.
    """
    weights = np.asarray(counts, dtype=np.int64)
    n = int(weights.sum())
    if n < 2:
        return None
    x, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    shares = weights / n
    means = [rng.multinomial(n, shares, size=_BATCH) @ x / n for _ in range(N_RESAMPLES // _BATCH)]
    low, high = np.quantile(np.concatenate(means), [tail(n), 1 - tail(n)])
    return Interval(low=float(low), high=float(high))
