"""Intervals for means over latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

N_RESAMPLES = 2000
_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean's 95 % interval."""

    low: float
    high: float


def bootstrap_ratio(
    totals: Sequence[float], weights: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """Return the percentile bootstrap interval of a weighted mean over groups of latents.

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
    low, high = np.quantile(total / weight, [0.025, 0.975])
    return Interval(low=float(low), high=float(high))


def bootstrap_mean(
    values: Sequence[float], counts: Sequence[int], *, seed: int = 0
) -> Interval | None:
    """Return the percentile bootstrap interval of a mean over latents.

    Resampling n latents with replacement is a multinomial draw over the distinct values, so
    memory depends on the number of distinct values and not on the number of latents. Efron and
    Tibshirani, An Introduction to the Bootstrap, section 13.3.

    Args:
        values: Distinct values; shape [k].
        counts: Latents with each value; shape [k].
        seed: Of the resampling; the same input and seed give the same interval.

    Returns:
        The 2.5 % and 97.5 % quantiles over 2 000 resamples; None for fewer than two latents.
    """
    weights = np.asarray(counts, dtype=np.int64)
    n = int(weights.sum())
    if n < 2:
        return None
    x, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    shares = weights / n
    means = [rng.multinomial(n, shares, size=_BATCH) @ x / n for _ in range(N_RESAMPLES // _BATCH)]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(low=float(low), high=float(high))
