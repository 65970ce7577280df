"""Environments that do not keep to Gymnasium's interface, each named before anything is written."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from toy import Flat, ReachToy, small

from wpg.controllers import UnsupportedEnvError, train


class Steady(Flat):
    """Observes zeros for ever."""

    def __init__(self):
        super().__init__(Box(-1, 1, (2,)))
        self.obs = np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, action):
        return self.obs, 0.0, False, False, {}


class Bytes(Steady):
    def __init__(self):
        super().__init__()
        self.observation_space = Box(0, 255, (2,), np.uint8)


class RewardInAnArray(Steady):
    def step(self, action):
        return self.obs, np.array([1.0]), False, False, {}


class NoReward(Steady):
    def step(self, action):
        return self.obs, None, False, False, {}


class Unseeded(Steady):
    def reset(self):
        return self.obs, {}


class WithoutInfo(Steady):
    def reset(self, *, seed=None, options=None):
        return self.obs


class OldStep(Steady):
    def step(self, action):
        return self.obs, 0.0, False, {}


KEPT = Steady()


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Bytes, "Bytes: expected observation of the type uint8, as observation_space says, found float32"),
        (
            RewardInAnArray,
            r"RewardInAnArray: expected one number as reward of a step, found array\(\[1\.\]\)",
        ),
        (NoReward, "NoReward: expected one number as reward of a step, found None"),
        (Unseeded, r"Unseeded: expected reset\(seed=.*unexpected keyword argument 'seed'"),
        (WithoutInfo, r"WithoutInfo: reset must return \(obs, info\), it returned array"),
        (OldStep, r"OldStep: step must return \(obs, reward, terminated, truncated, info\)"),
        (lambda: gym.wrappers.TimeLimit(OldStep(), 20), r"OldStep: expected .*found that not enough values"),
        (lambda: gym.wrappers.NormalizeObservation(Steady()), "Steady: leave out NormalizeObservation"),
        (
            lambda: gym.wrappers.TimeLimit(gym.wrappers.NormalizeObservation(Steady()), 20),
            "Steady: leave out NormalizeObservation",
        ),
        (KEPT, "env_factory must be a function"),
        ("Pendulum-v1", "env_factory must be a function"),
        (lambda: None, "env_factory must return a gymnasium.Env, it returned None"),
        (lambda: KEPT, "Steady: env_factory returned the same environment twice"),
        (lambda: gym.wrappers.TimeLimit(KEPT, 20), "Steady: env_factory returned the same environment twice"),
    ],
)
def test_what_cannot_be_trained_on_is_named(factory, message, tmp_path):
    with pytest.raises(UnsupportedEnvError, match=f"^{message}"):
        train(small(), out=tmp_path / "run", env_factory=factory)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overlap", [False, True])
def test_training_environments_are_distinct(overlap, tmp_path):
    one, other = ReachToy(), ReachToy()
    given = iter([one, other, other])
    with pytest.raises(
        UnsupportedEnvError, match="ReachToy: env_factory returned the same environment twice"
    ):
        train(small(num_envs=2, overlap=overlap), out=tmp_path / "run", env_factory=lambda: next(given))
