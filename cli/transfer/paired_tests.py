"""Tests and measures of agreement for one policy in two places, or for several policies in two places.

Results that are called *anytime* stay valid whatever rule decided when to stop the trials. The other tests
are valid only if the number of trials was fixed beforehand.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from wpg.controllers.statistics import Interval

PRIOR = 0.5
"""Both parameters of the Beta mixture in the anytime tests: Jeffreys' prior."""


def mcnemar_p(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact two-sided McNemar test of paired outcomes: p-value of "both succeed equally often".

    Only pairs that differ count; under the hypothesis either place is as likely to be the better one.
    Source: McNemar, Psychometrika 1947, in its exact binomial form.
    """
    better, worse = _discordant(first, second)
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def mcnemar_p_anytime(first: Sequence[bool], second: Sequence[bool]) -> float:
    """McNemar's test for trials that were stopped early because the outcome seemed clear.

    Over the pairs that differ, in their order, the Beta mixture of likelihood ratios against one half is a
    martingale under the hypothesis; by Ville's inequality one over its largest value so far is a p-value at
    every moment. Source: Robbins, Annals of Mathematical Statistics 1970; Ramdas et al., Statistical Science
    2023.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    better = (b & ~a)[a != b]
    if not better.size:
        return 1.0
    pairs, wins = np.arange(1, len(better) + 1), np.cumsum(better)
    return min(1.0, float(np.exp(-_log_mixture(wins, pairs, 0.5).max())))


def anytime_interval(successes: int, trials: int) -> Interval:
    """95 % interval of a success rate, which covers it at every number of trials at once.

    All rates p whose mixture martingale ``B(s+½, n−s+½) / (B(½, ½) pˢ (1−p)ⁿ⁻ˢ)`` stays below
    ``1 / (1 − 0.95)``. Wider than Wilson's interval, and right after a test that stopped early.
    Source: Robbins 1970; Howard et al., Annals of Statistics 2021.
    """
    limit = -math.log(1 - 0.95)

    def excess(rate: float) -> float:
        return float(_log_mixture(successes, trials, rate)) - limit

    rate, edge = successes / trials, 1e-12
    low = 0.0 if successes == 0 else float(optimize.brentq(excess, edge, rate))
    high = 1.0 if successes == trials else float(optimize.brentq(excess, rate, 1 - edge))
    return low, high


def wilcoxon_p(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank test of paired values; 1 where all pairs are equal."""
    difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def pearson_r(predicted: ArrayLike, measured: ArrayLike) -> float | None:
    """Pearson's correlation; None for fewer than three pairs, and where one side does not vary."""
    pairs = np.array([predicted, measured], np.float64)
    if pairs.shape[1] < 3 or (pairs == pairs[:, :1]).all(1).any():
        return None
    return float(stats.pearsonr(*pairs).statistic)


def mmrv(predicted: ArrayLike, measured: ArrayLike) -> float | None:
    """Mean maximum rank violation: how much measured success is lost by trusting the predicted order.

    ``1/N Σᵢ maxⱼ |mᵢ − mⱼ| · [(pᵢ < pⱼ) ≠ (mᵢ < mⱼ)]``; 0 where the orders agree. None for fewer than two.
    Source: Li et al., Evaluating Real-World Robot Manipulation Policies in Simulation (SIMPLER), CoRL 2024.
    """
    p, m = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if len(p) < 2:
        return None
    violated = (p[:, None] < p) != (m[:, None] < m)
    return float((np.abs(m[:, None] - m) * violated).max(1).mean())


def _discordant(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int]:
    """Pairs in which only the second succeeds, and those in which only the first does."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    return int((b & ~a).sum()), int((a & ~b).sum())


def _log_mixture(successes: ArrayLike, trials: ArrayLike, rate: float) -> "np.typing.NDArray[np.float64]":
    """Log of the Beta mixture of likelihood ratios against ``rate``, elementwise."""
    s, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    mixture = special.betaln(s + PRIOR, n - s + PRIOR) - special.betaln(PRIOR, PRIOR)
    return np.asarray(mixture - special.xlogy(s, rate) - special.xlog1py(n - s, -rate))
