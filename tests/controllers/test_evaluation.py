"""Intervals against published and simulated values; evaluation against a known controller."""

import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit
from toy import Flat, ReachToy, rows, small

from wpg.controllers import FaultyEnvError, bootstrap_interval, evaluate, statistics, train, wilson_interval
from wpg.controllers.experience import evaluation


def test_wilson_interval_by_its_formula():
    n, k, z = 50, 47, 1.959963984540054
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(k, n) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0, 0.2775), (10, 0.7225, 1)])
def test_wilson_interval_at_the_ends(successes, low, high):
    assert wilson_interval(successes, 10) == pytest.approx((low, high), abs=1e-4)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.exponential(size=60))
        hits += low <= 1 <= high
    assert 0.88 <= hits / 300 <= 0.98


def test_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([3.0] * 5) == (3.0, 3.0)


def test_bootstrap_interval_needs_little_memory_and_no_certain_blocks(monkeypatch):
    values = np.random.default_rng(0).exponential(size=2001)
    tracemalloc.start()
    interval = bootstrap_interval(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6  # all resamples at once are 320 MB
    monkeypatch.setattr(statistics, "BLOCK_VALUES", 4002)
    assert bootstrap_interval(values) == interval


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


class Endless(Flat):
    """Never ends an episode by itself."""

    def __init__(self):
        super().__init__(Box(-1, 1, (1,)))
        self.seeds, self.t = [], 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.seeds.append(seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), 0.0, False, False, {}


class Winning(Endless):
    """Succeeds in every third episode, and reports nothing about the others."""

    def step(self, action):
        obs, reward, *_ = super().step(action)
        won = self.t == 5 and len(self.seeds) % 3 == 0
        return obs, reward, False, self.t == 5, {"is_success": True} if won else {}


@pytest.mark.parametrize(
    ("value", "succeeded"),
    [(np.array([True]), True), (np.array([False]), False), (np.True_, True), (np.nan, False), (2, True)],
)
def test_success_may_be_any_number(value, succeeded, tmp_path):
    """It is the same in training and in evaluations; NaN is no success."""

    class Reporting(Endless):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, False, self.t == 5, {"success": value}

    assert evaluate(still, Reporting(), 2).successes == (succeeded,) * 2
    train(small(steps=80, eval_period=0, num_envs=2), out=tmp_path / "run", env_factory=Reporting)
    assert float(rows(tmp_path / "run")[-1]["success_rate"]) == succeeded


def still(obs):
    return np.zeros(1, np.float32)


def test_episodes_that_report_nothing_beside_ones_that_do_are_failures():
    outcome = evaluate(still, Winning(), 9)
    assert outcome.successes == (False, False, True) * 3
    assert outcome.success_rate == pytest.approx(1 / 3)
    assert outcome.success_ci95 == wilson_interval(3, 9)


def test_an_episode_that_does_not_end_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 50)
    with pytest.raises(
        FaultyEnvError, match=r"^Endless: an episode did not end within 50 steps; .*TimeLimit$"
    ):
        evaluate(still, Endless(), 2)
    with pytest.raises(FaultyEnvError, match=r"^Endless: an episode did not end within 50 steps"):
        train(small(), out=tmp_path / "run", env_factory=Endless)
    assert evaluate(still, TimeLimit(Endless(), 50), 2).episodes == 2
    monkeypatch.setitem(gym.registry, "Long-v0", EnvSpec("Long-v0", Endless, max_episode_steps=70))
    assert evaluate(still, "Long-v0", 2).episodes == 2


def test_every_evaluation_has_episodes_of_its_own(tmp_path):
    made = []

    class Noting(Winning):
        def __init__(self):
            super().__init__()
            made.append(self)

    train(small(steps=300, eval_period=100, eval_episodes=3), out=tmp_path / "run", env_factory=Noting)
    (_first_look, *evaluated), trained = (env.seeds for env in made)
    afterwards = Winning()
    evaluate(still, afterwards, 9)
    assert len(evaluated) == 9
    seeds = [*evaluated, *set(trained), *afterwards.seeds]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("faulty", ["reward", "observation"])
def test_a_number_that_is_not_finite_is_told(faulty, tmp_path):
    """Also where only the environment of the evaluations returns it, which is made first."""

    class Faulty(Endless):
        def __init__(self, faulty=faulty):
            super().__init__()
            self.faulty = faulty

        def step(self, action):
            obs, reward, *_ = super().step(action)
            if self.t == 3 and self.faulty == "reward":
                reward = np.nan
            if self.t == 3 and self.faulty == "observation":
                obs[1] = np.inf
            return obs, reward, False, self.t == 5, {}

    with pytest.raises(
        FaultyEnvError, match=rf"^Faulty: .* found {faulty} .* after 3 steps .* with seed \d+$"
    ):
        evaluate(still, Faulty(), 2)
    kinds = iter([faulty])
    with pytest.raises(FaultyEnvError, match=rf"found {faulty} .* after 3 steps"):
        train(
            small(overlap=False),
            out=tmp_path / "run",
            env_factory=lambda: Faulty(next(kinds, None)),
        )
