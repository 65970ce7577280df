"""The sequential test, against every sequence of outcomes and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from wpg.cli.transfer.sequential_test import fixed_size, sequential_test


def ends(test, outcomes):
    """Verdict and number of trials for a sequence of outcomes."""
    successes = 0
    for trials, outcome in enumerate(outcomes, start=1):
        successes += outcome
        if (verdict := test.verdict(successes, trials)) != "undecided":
            return verdict, trials
    return "undecided", len(outcomes)


def test_course_is_the_sum_over_all_sequences():
    test = sequential_test(0.3, 0.8, 0.2)
    assert test.max_trials <= 12
    for rate in (0.1, 0.3, 0.55, 0.8):
        works = fails = trials = 0.0
        for outcomes in itertools.product((0, 1), repeat=test.max_trials):
            likelihood = np.prod([rate if outcome else 1 - rate for outcome in outcomes])
            verdict, length = ends(test, outcomes)
            works += likelihood * (verdict == "works")
            fails += likelihood * (verdict == "fails")
            trials += likelihood * length
        assert test.operating_characteristic(rate) == pytest.approx((works, fails, trials))


@pytest.mark.parametrize(("low", "high", "error"), [(0.88, 0.98, 0.05), (0.7, 0.9, 0.05), (0.4, 0.6, 0.1)])
def test_errors_are_kept_with_fewer_trials_than_a_fixed_size_takes(low, high, error):
    test = sequential_test(low, high, error)
    fixed, _ = fixed_size(low, high, error)
    for rate in (0.3 * low, 0.9 * low, low):
        assert test.operating_characteristic(rate).works <= error
    for rate in (high, (1 + high) / 2):
        assert test.operating_characteristic(rate).fails <= error
    for rate in (low, high):
        assert test.operating_characteristic(rate).trials < 0.65 * fixed
    for rate in (low, (low + high) / 2, high):
        course = test.operating_characteristic(rate)
        assert course.works + course.fails == pytest.approx(1.0)  # it always ends with an answer


RATES = [(low, high) for low in np.arange(0.05, 0.95, 0.15) for high in np.arange(low + 0.1, 0.99, 0.15)]


@pytest.mark.parametrize("error", [0.01, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize(("low", "high"), RATES)
def test_errors_are_kept_however_far_apart_the_rates(low, high, error):
    test = sequential_test(low, high, error)
    at_low, at_high = test.operating_characteristic(low), test.operating_characteristic(high)
    assert at_low.works <= error + 1e-12
    assert at_high.fails <= error + 1e-12
    assert at_low.works + at_low.fails == pytest.approx(1.0)
    works_at, fails_at = np.array(test.works_at), np.array(test.fails_at)
    assert np.all(np.diff(fails_at) >= 0)  # more trials never turn "fails" into anything else
    assert np.all(np.diff(works_at[:-1]) >= 0)  # no failure before the last trial brings "works"
    assert np.all(fails_at < works_at)
    assert works_at[-1] == fails_at[-1] + 1  # the last trial decides,
    assert test.verdict(0, test.max_trials) == "fails"  # and never for a policy that reached nothing


def test_errors_by_simulation():
    test = sequential_test(0.8, 0.95)
    generator = np.random.default_rng(0)
    runs = 1000
    for rate, wrong in ((0.8, "works"), (0.95, "fails")):
        found = [ends(test, generator.random(test.max_trials) < rate) for _ in range(runs)]
        share = np.mean([verdict == wrong for verdict, _ in found])
        expected = getattr(test.operating_characteristic(rate), wrong)
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / runs))
        mean = np.mean([trials for _, trials in found])
        assert mean == pytest.approx(test.operating_characteristic(rate).trials, rel=0.1)


def test_fixed_size_is_the_smallest():
    trials, needed = fixed_size(0.6, 0.9, 0.05)
    assert stats.binom.sf(needed - 1, trials, 0.6) <= 0.05
    assert stats.binom.cdf(needed - 1, trials, 0.9) <= 0.05
    for fewer in range(1, trials):
        for cut in range(fewer + 1):
            kept = (
                stats.binom.sf(cut - 1, fewer, 0.6) <= 0.05 and stats.binom.cdf(cut - 1, fewer, 0.9) <= 0.05
            )
            assert not kept


def test_a_hopeless_policy_is_known_after_a_few_trials():
    test = sequential_test(0.8, 0.95)
    verdict, trials = ends(test, [False] * 20)
    assert (verdict, trials <= 4) == ("fails", True)
    verdict, trials = ends(test, [True] * 40)
    assert (verdict, trials <= 20) == ("works", True)


@pytest.mark.parametrize("arguments", [(0.9, 0.8, 0.05), (0.0, 0.5, 0.05), (0.5, 1.0, 0.05), (0.5, 0.6, 0.5)])
def test_what_makes_no_question(arguments):
    with pytest.raises(ValueError, match="expected 0 < low < high < 1"):
        sequential_test(*arguments)
