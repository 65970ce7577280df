"""Settings: their ranges, the defaults that depend on the environment, and the settings file."""

import dataclasses
import enum
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy import ReachToy, small

from wpg.controllers import ConfigError, TrainConfig, load_run, resume, train
from wpg.controllers.experience.environment import inspect_env


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, it is 0"),
        ({"gamma": 1.5}, "gamma must be a number greater than 0 and less than 1, it is 1.5"),
        ({"hindsight_ratio": 2.0}, "hindsight_ratio"),
        ({"select": "first"}, "select must be one of best, mean, sample, it is 'first'"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed must be a whole number of at least 0 and at most"),
        ({"updates_per_step": float("inf")}, "updates_per_step must be finite, it is inf"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number greater than 0, it is nan"),
        ({"target_entropy": float("nan")}, "target_entropy must be finite, it is nan"),
        ({"steps": 120.5}, "steps must be a whole number of at least 1, it is 120.5"),
        ({"steps": None}, "steps must be a whole number of at least 1, it is None"),
        ({"num_envs": float("inf")}, "num_envs must be a whole number of at least 1, it is inf"),
        ({"hidden": "16"}, "hidden must be a whole number of at least 1, it is '16'"),
        ({"seed": True}, "seed must be a whole number of at least 0 and at most .*, it is True"),
        ({"learning_rate": "fast"}, "learning_rate must be a number greater than 0, it is 'fast'"),
        ({"compile": 1}, "compile must be true or false, it is 1"),
        ({"device": 0}, "device must be a string, it is 0"),
        (
            {"stop_at_success": 0.9, "eval_period": 0},
            "stop_at_success needs evaluations, and a period of 0 makes none",
        ),
        (
            {"steps": 300, "learning_starts": 300},
            "learning_starts must be less than steps, .*; 300 is not",
        ),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_a_stored_run_may_have_fewer_steps_than_random_ones():
    resolved = small().resolve(inspect_env(ReachToy()))
    assert dataclasses.replace(resolved, steps=30).learning_starts == 60


def test_numbers_may_be_written_with_an_exponent_alone(tmp_path):
    path = tmp_path / "config.yaml"
    small().save(path)
    path.write_text(path.read_text().replace("steps: 240", "steps: 1e6") + "learning_rate: 1e-3\n")
    config = TrainConfig.load(path)
    assert (config.steps, config.learning_rate) == (1_000_000, 0.001)


def test_numbers_of_any_kind_become_plain(tmp_path):
    config = small(
        steps=120.0,
        num_particles=np.float32(4),
        seed=np.int64(3),
        learning_rate=np.float32(0.25),
        gamma=np.float64(0.9),
        updates_per_step=1,
        compile=np.False_,
        demonstrations=tmp_path / "some.npz",
    )
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config
    assert (config.steps, config.seed, config.learning_rate) == (120, 3, 0.25)
    assert config.demonstrations == str(tmp_path / "some.npz")
    plain = (int, int, int, float, float, float, bool)
    names = ("steps", "num_particles", "seed", "learning_rate", "gamma", "updates_per_step", "compile")
    assert tuple(type(getattr(config, name)) for name in names) == plain


def test_a_run_with_whole_numbers_as_floats_can_be_loaded(tmp_path):
    train(small(steps=120.0, num_particles=4.0, eval_period=0), out=tmp_path / "run", env_factory=ReachToy)
    assert load_run(tmp_path / "run").config.steps == 120
    with pytest.raises(ConfigError, match=r"steps must be a whole number.*, it is 150\.5"):
        resume(tmp_path / "run", steps=150.5, env_factory=ReachToy)
    assert resume(tmp_path / "run", steps=150.0, env_factory=ReachToy).steps == 150


def test_open_settings_follow_from_the_environment():
    goals = dataclasses.replace(inspect_env(ReachToy()), horizon=50)
    flat = inspect_env(gym.make("Pendulum-v1"))
    assert TrainConfig(env="toy").resolve(goals).gamma == pytest.approx(0.95)
    assert TrainConfig(env="toy").resolve(flat).gamma == 0.99
    assert TrainConfig(env="toy", num_envs=5).resolve(goals).num_envs == 5
    resolved = TrainConfig(env="toy", steps=1000).resolve(goals)
    assert (resolved.num_envs, resolved.learning_starts, resolved.eval_period) == (8, 250, 1000)
    again = TrainConfig(**dataclasses.asdict(resolved)).resolve(flat)
    assert again == resolved


@pytest.mark.parametrize(
    ("steps", "period"),
    [(1, 1), (500, 500), (1500, 1500), (5500, 1100), (9999, 1111), (10_000, 1000), (18_000, 1800)],
)
def test_short_runs_evaluate_less_often_but_at_the_end(steps, period):
    resolved = TrainConfig(env="toy", steps=steps).resolve(inspect_env(ReachToy()))
    assert resolved.eval_period == period
    assert resolved.checkpoint_period == max(steps // 10, 1)


@pytest.mark.parametrize("kind", [Path, str])
def test_settings_file_round_trip_and_faults(tmp_path, kind):
    path = tmp_path / "config.yaml"
    small(stop_at_success=0.5).save(kind(path))
    assert TrainConfig.load(kind(path)) == small(stop_at_success=0.5)
    path.write_text("env: toy\nstep: 3\n")
    with pytest.raises(ConfigError, match="unknown settings step"):
        TrainConfig.load(path)
    path.write_text("env: toy\nsteps: many\n")
    with pytest.raises(ConfigError, match="steps"):
        TrainConfig.load(path)


@pytest.mark.parametrize("demonstrations", [None, "some.npz"])
def test_a_replay_holds_a_step_of_every_environment(demonstrations):
    spec = inspect_env(gym.make("Pendulum-v1"))
    least = 8 if demonstrations is None else 16
    small(num_envs=8, replay_capacity=least, demonstrations=demonstrations).resolve(spec)
    with pytest.raises(ConfigError, match=f"replay_capacity must be at least {least}, .*, it is {least - 1}"):
        small(num_envs=8, replay_capacity=least - 1, demonstrations=demonstrations).resolve(spec)


class Gripper(enum.Enum):
    OPEN = "open"


def test_an_environment_is_trained_with_the_arguments_that_are_stored(tmp_path):
    given = {"span": (0, 2.5), "names": {"a"}, "gripper": Gripper.OPEN, "on": "yes", "deep": [{"at": (1,)}]}
    config = TrainConfig(env="toy", env_kwargs=given)
    kept = {"span": [0, 2.5], "names": ["a"], "gripper": "open", "on": "yes", "deep": [{"at": [1]}]}
    assert config.env_kwargs == kept
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml").env_kwargs == kept


@pytest.mark.parametrize("value", [b"ab", [b"ab"], np.float32(1), Path("x"), {(1, 2): 3}, "\ud800"])
def test_arguments_that_a_settings_file_cannot_hold_are_refused(value):
    with pytest.raises(ConfigError, match="env_kwargs must be plain values"):
        TrainConfig(env="toy", env_kwargs={"value": value})
