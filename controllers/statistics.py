"""Intervals for rates and means."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Interval = tuple[float, float]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a success rate, accurate near 0 and 1 as well. Source: Wilson 1927."""
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean; it depends on nothing but the values and the seed."""
    sample = np.asarray(values, np.float64)
    index = np.random.default_rng(seed).integers(len(sample), size=(resamples, len(sample)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[index].mean(1), [tail, 1 - tail])
    return float(low), float(high)
