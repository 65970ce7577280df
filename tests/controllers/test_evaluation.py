"""Intervals against published and simulated values; evaluation against a known controller."""

import numpy as np
import pytest
from toy import ReachToy

from wpg.controllers import bootstrap_interval, evaluate, wilson_interval


def test_wilson_interval_by_its_formula():
    n, k, z = 50, 47, 1.959963984540054
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(k, n) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0, 0.2775), (10, 0.7225, 1)])
def test_wilson_interval_at_the_ends(successes, low, high):
    assert wilson_interval(successes, 10) == pytest.approx((low, high), abs=1e-4)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = bootstrap_interval(rng.exponential(size=60), resamples=1000, seed=trial)
        hits += low <= 1 <= high
    assert 0.88 <= hits / 300 <= 0.98


def test_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([3.0] * 5) == (3.0, 3.0)


def test_evaluation_takes_an_episode():
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluate(lambda obs: obs, ReachToy(), 0)


def test_evaluate_counts_success_of_the_last_step():
    env = ReachToy()

    def solve(obs):
        """Go to the goal by the arm's Jacobian; the observation is [joints, tool, goal]."""
        angles = np.cumsum(obs[:2])
        jacobian = np.array([[-np.sin(angles[i:]).sum(), np.cos(angles[i:]).sum()] for i in range(2)]).T / 2
        step = np.linalg.pinv(jacobian, rcond=0.05) @ (obs[4:] - obs[2:4])
        return np.clip(step / 0.15, -1, 1).astype(np.float32)

    good = evaluate(solve, env, 40, seed=3)
    bad = evaluate(lambda obs: np.ones(2, np.float32), env, 40, seed=3)
    assert good.success_rate > 0.9
    assert bad.success_rate < 0.3
    assert good.success_ci95 == wilson_interval(sum(good.successes), 40)
    assert good.return_mean == pytest.approx(np.mean(good.returns))
    assert good.return_ci95[0] < good.return_mean < good.return_ci95[1]


def test_evaluate_without_success_says_so():
    outcome = evaluate(lambda obs: np.zeros(1, np.float32), "Pendulum-v1", 2)
    assert outcome.success_rate is None
    assert outcome.success_ci95 is None
    assert outcome.env == "Pendulum-v1"
