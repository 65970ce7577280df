"""Intervals for rates and means."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Interval = tuple[float, float]
RESAMPLES = 10_000
BLOCK_VALUES = 1_000_000
"""Resamples are drawn in blocks of this many values, which limits the memory."""


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a success rate, accurate near 0 and 1 as well. Source: Wilson 1927."""
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval of the mean; the same values always give the same interval."""
    sample, rng = np.asarray(values, np.float64), np.random.default_rng(0)
    rows = max(1, BLOCK_VALUES // len(sample))
    blocks = [
        sample[rng.integers(len(sample), size=(min(rows, RESAMPLES - start), len(sample)))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(blocks), [tail, 1 - tail])
    return float(low), float(high)
