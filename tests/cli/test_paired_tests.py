"""Tests of paired outcomes and measures of agreement, against brute force and by simulation."""

import functools
import itertools
import math

import numpy as np
import pytest

from wpg.cli.transfer.paired_tests import (
    anytime_interval,
    mcnemar_p,
    mcnemar_p_anytime,
    mmrv,
    pearson_r,
    wilcoxon_p,
)


def outcomes(both, first, second, neither):
    """Pairs: so many that both reach, only the first, only the second, none."""
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return a, b


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 5), (3, 3), (7, 0), (2, 9)])
def test_mcnemar_is_the_sum_over_all_outcomes_as_unlikely(first, second):
    pairs = first + second
    likelihood = [math.comb(pairs, k) / 2**pairs for k in range(pairs + 1)]
    expected = sum(p for p in likelihood if p <= likelihood[second] * (1 + 1e-9))
    assert mcnemar_p(*outcomes(4, first, second, 6)) == pytest.approx(expected)


def test_mcnemar_counts_only_pairs_that_differ():
    assert mcnemar_p(*outcomes(10, 0, 0, 10)) == 1.0
    assert mcnemar_p_anytime(*outcomes(10, 0, 0, 10)) == 1.0
    assert mcnemar_p(*outcomes(0, 1, 6, 0)) == mcnemar_p(*outcomes(50, 1, 6, 50))


def test_anytime_mcnemar_by_the_mixture_integral():
    """One over the integral of p^s (1-p)^(n-s) / 2^-n over Jeffreys' prior, summed on a grid of angles."""
    a, b = outcomes(0, 0, 8, 0)
    p = (
        np.sin((np.arange(100_000) + 0.5) / 100_000 * math.pi / 2) ** 2
    )  # Beta(1/2, 1/2) is uniform in the angle
    assert mcnemar_p_anytime(a, b) == pytest.approx(1 / (2**8 * (p**8).mean()), rel=1e-6)


def test_anytime_mcnemar_holds_however_long_one_looks():
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        b = generator.random(200) < 0.5  # every pair differs, and neither place is better
        wrong += mcnemar_p_anytime((~b).tolist(), b.tolist()) <= 0.05
    assert 1 <= wrong <= 400 * 0.05


def test_anytime_interval_holds_at_every_number_of_trials_at_once():
    generator = np.random.default_rng(1)
    missed = 0
    interval = functools.cache(anytime_interval)
    for _ in range(300):
        successes = np.cumsum(generator.random(40) < 0.8).tolist()
        intervals = [interval(count, trials) for trials, count in enumerate(successes, start=1)]
        missed += any(not low <= 0.8 <= high for low, high in intervals)
    assert missed <= 300 * 0.05


def test_anytime_interval_is_wider_than_wilson_and_closes():
    from wpg.controllers.statistics import wilson_interval

    for successes, trials in ((0, 10), (7, 10), (50, 50), (70, 100)):
        low, high = anytime_interval(successes, trials)
        wilson = wilson_interval(successes, trials)
        assert low <= wilson[0]
        assert high >= wilson[1]
        assert low <= successes / trials <= high
    low, high = anytime_interval(70_000, 100_000)
    assert high - low < 0.02


def test_wilcoxon_of_small_samples_by_enumeration():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.2, 3.9, 3.6, 6.3]
    ranks = np.argsort(np.argsort(np.abs(np.subtract(second, first)))) + 1
    signs = np.sign(np.subtract(second, first))
    observed = min((ranks * (signs > 0)).sum(), (ranks * (signs < 0)).sum())
    sums = [
        sum(r for r, up in zip(ranks, ups, strict=True) if up) for ups in itertools.product((0, 1), repeat=5)
    ]
    expected = min(1.0, 2 * np.mean(np.array(sums) <= observed))
    assert wilcoxon_p(first, second) == pytest.approx(expected)
    assert wilcoxon_p(first, first) == 1.0


def test_pearson():
    assert pearson_r([0.1, 0.5, 0.9], [0.2, 0.4, 0.6]) == pytest.approx(1.0)
    assert pearson_r([0.1, 0.5, 0.9], [0.6, 0.4, 0.2]) == pytest.approx(-1.0)
    assert pearson_r([0.1, 0.5], [0.2, 0.4]) is None
    assert pearson_r([0.5, 0.5, 0.5], [0.1, 0.4, 0.9]) is None


def test_mmrv_by_hand():
    # Order kept: nothing is lost, whatever the values.
    assert mmrv([0.1, 0.5, 0.9], [0.3, 0.31, 0.32]) == 0.0
    # First and second are swapped, 0.2 apart in truth: each loses 0.2, the third nothing.
    assert mmrv([0.2, 0.1, 0.9], [0.3, 0.5, 0.8]) == pytest.approx((0.2 + 0.2 + 0.0) / 3)
    # Full reversal: each is compared with the one furthest from it.
    assert mmrv([0.9, 0.5, 0.1], [0.0, 0.4, 1.0]) == pytest.approx((1.0 + 0.6 + 1.0) / 3)
    assert mmrv([0.5], [0.5]) is None


def test_mmrv_of_a_predicted_tie():
    # The tie hides that the first is worse by 0.4; that the second is better contradicts nothing.
    assert mmrv([0.5, 0.5], [0.2, 0.6]) == pytest.approx((0.4 + 0.0) / 2)
