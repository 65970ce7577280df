"""Settings: ranges, what follows from the environment, the file."""

import dataclasses

import gymnasium as gym
import pytest
from toy import ReachToy, small

from wpg.controllers import ConfigError, TrainConfig
from wpg.controllers.environment import inspect_env


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be greater than 0 and finite, it is 0"),
        ({"gamma": 1.5}, "gamma"),
        ({"hindsight_ratio": 2.0}, "hindsight_ratio"),
        ({"select": "first"}, "select"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed must be less"),
        ({"updates_per_step": float("inf")}, "updates_per_step"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_open_settings_follow_from_the_environment():
    goals = dataclasses.replace(inspect_env(ReachToy()), horizon=50)
    flat = inspect_env(gym.make("Pendulum-v1"))
    assert TrainConfig(env="toy").resolve(goals).gamma == pytest.approx(0.95)
    assert TrainConfig(env="toy").resolve(flat).gamma == 0.99
    assert TrainConfig(env="toy", num_envs=5).resolve(goals).num_envs == 5
    resolved = TrainConfig(env="toy", steps=1000).resolve(goals)
    assert (resolved.num_envs, resolved.random_steps, resolved.eval_period) == (8, 250, 100)
    again = TrainConfig(**dataclasses.asdict(resolved)).resolve(flat)
    assert again == resolved


def test_settings_file_round_trip_and_faults(tmp_path):
    path = tmp_path / "config.yaml"
    small(stop_at_success=0.5).save(path)
    assert TrainConfig.load(path) == small(stop_at_success=0.5)
    path.write_text("env: toy\nstep: 3\n")
    with pytest.raises(ConfigError, match="unknown settings step"):
        TrainConfig.load(path)
    path.write_text("env: toy\nsteps: many\n")
    with pytest.raises(ConfigError, match="steps"):
        TrainConfig.load(path)
