"""Making environments, and the errors for those that are unknown, incomplete or cannot be trained on."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from toy import Flat, ReachToy, goal_space, small

from wpg.controllers import UnknownEnvError, UnsupportedEnvError, evaluate, load_run, resume, train
from wpg.controllers.experience.environment import inspect_env, make_env


def test_unknown_environment_names_near_misses(tmp_path):
    with pytest.raises(UnknownEnvError, match="Pendulum-v1"):
        train(small("Pendulm-v1"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class EngineMissingError(ImportError):
    """An error that an environment's own package might raise."""


class InParts(Flat):
    """Observes in a Dict without goals."""

    def __init__(self):
        parts = {"pose": Box(-1, 1, (2,)), "camera": Box(-1, 1, (3,), np.float64), "mode": Discrete(3)}
        super().__init__(Box(-1, 1, (2,)), Dict(parts))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        obs = self.observation_space.sample()
        return obs, float(obs["pose"] @ action), bool(obs["mode"] == 0), False, {}


def test_parts_of_an_observation_are_made_one_vector(monkeypatch, tmp_path):
    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", InParts))
    spec = inspect_env(make_env("Toy-v0"))
    assert (spec.observation_dim, spec.goal_dim, spec.env_id) == (8, 0, "Toy-v0")
    train(small(num_envs=2), out=tmp_path / "run", env_factory=InParts)
    act = load_run(tmp_path / "run").act()
    by_id, by_object = (evaluate(act, env, 3).returns for env in ("Toy-v0", gym.make("Toy-v0")))
    assert by_id == by_object


@pytest.mark.parametrize(
    ("failure", "raised", "message"),
    [
        (gym.error.DependencyNotInstalled("Box2D is not installed"), UnsupportedEnvError, None),
        (ModuleNotFoundError("No module named 'Box2D'"), UnsupportedEnvError, None),
        (EngineMissingError("pip install engine"), EngineMissingError, "pip install engine"),
    ],
)
def test_what_an_environment_needs_is_told(failure, raised, message, monkeypatch):
    def entry_point():
        raise failure

    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", entry_point))
    with pytest.raises(raised) as caught:
        make_env("Toy-v0")
    assert str(caught.value) == (message or f"Toy-v0 cannot be made: {failure}")


def test_an_environment_that_fails_by_itself_is_not_unknown(monkeypatch):
    def entry_point():
        raise gym.error.ResetNeeded("reset the controller first")

    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", entry_point))
    with pytest.raises(gym.error.ResetNeeded, match=r"^reset the controller first$"):
        make_env("Toy-v0")


@pytest.mark.parametrize("env_id", ["no_such_module:Toy-v0", "Pendulum-v7", "nowhere/Pendulum-v1", "x y"])
def test_an_environment_that_nothing_registers_is_unknown(env_id):
    with pytest.raises(UnknownEnvError, match=f"no environment '{env_id}' "):
        make_env(env_id)


@pytest.mark.parametrize(
    ("env_id", "hint"),
    [
        ("Pendulun-v1", "did you mean Pendulum-v1"),
        ("CartPol-v1", "did you mean CartPole-v1"),
        ("wpg/PandaReachh-v0", r"exist in namespace wpg\); did you mean wpg/PandaReach-v0, [^?]*\?$"),
        ("PandaReach-v0", "did you mean wpg/PandaReach-v0"),
        ("PandaReach", "did you mean wpg/PandaReach-v0"),
        ("wgp/PandaReach-v0", "Did you mean: `wpg`.*MODULE:ID"),
        ("Mine/Pendulum-v1", "MODULE:ID"),
        ("mine:Flat-v0", "MODULE:ID"),
    ],
)
def test_what_to_type_for_an_environment_of_ones_own(env_id, hint):
    with pytest.raises(UnknownEnvError, match=hint):
        make_env(env_id)


def test_an_environment_without_arguments_says_so(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Toy-v0", lambda: Flat(Box(-1, 1, (2,))))
    monkeypatch.setitem(gym.registry, "Toy-v0", spec)
    with pytest.raises(UnsupportedEnvError, match="Toy-v0 takes no 'render_mode'"):
        make_env("Toy-v0", render_mode="rgb_array")


def test_a_run_makes_the_environment_of_its_training(monkeypatch, tmp_path):
    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", ReachToy))
    train(small("Toy-v0", steps=80, env_kwargs={"joints": 3}, overlap=False), out=tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert evaluate(run.act(), run.make_env(), 1).env == "Toy-v0"
    assert run.make_env(horizon=7).unwrapped.horizon == 7
    train(small(steps=80), out=tmp_path / "made", env_factory=ReachToy)
    with pytest.raises(UnknownEnvError, match="'toy' is only a name: the run was trained with env_factory"):
        load_run(tmp_path / "made").make_env()


@pytest.mark.parametrize("module", ["", "gymnasium.envs.classic_control:"])
def test_the_version_that_is_trained_on_is_kept(module, tmp_path):
    train(small(f"{module}Pendulum", steps=80), out=tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.config.env == run.metadata.env == f"{module}Pendulum-v1"
    assert resume(tmp_path / "run", steps=120).steps == 120


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Flat(Discrete(3)), "float Box, not Discrete"),
        (Flat(Box(-np.inf, np.inf, (2,))), "bounded"),
        (Flat(Box(-3e38, 3e38, (1,))), r"the action box must span less than 3\.4e38"),
        (Flat(Box(-1e300, 1e300, (1,), np.float64)), r"the action box must span less than 3\.4e38"),
        (Flat(Box(-1, 1, (2, 2))), "one-dimensional"),
        (Flat(Box(-1, 1, (0,))), "at least one action and one observation"),
        (Flat(Box(-1, 1, (2,)), Box(-1, 1, (0,))), "at least one action and one observation"),
        (Flat(Box(-1, 1, (2,)), goal_space(3, 0)), "the goals of one size"),
        (Flat(Box(-1, 1, (2,)), Box(0, 255, (8, 8, 3), np.uint8)), "flat Box or a Dict"),
    ],
)
def test_unsupported_spaces_are_named(env, message, tmp_path):
    with pytest.raises(UnsupportedEnvError, match=message):
        train(small(), out=tmp_path / "run", env_factory=lambda: env)


def test_a_part_of_a_goal_observation_that_would_be_ignored_is_named(tmp_path):
    space = Dict({**goal_space(3, 2).spaces, "wind": Box(-1, 1, (2,)), "depth": Box(-1, 1, (1,))})
    with pytest.raises(UnsupportedEnvError, match=r"would not see its depth, wind; append that"):
        train(small(), out=tmp_path / "run", env_factory=lambda: Flat(Box(-1, 1, (1,)), space))


class Misshapen(Flat):
    """Returns observations that do not have the shape of their space."""

    def __init__(self, observation_space, obs):
        super().__init__(Box(-1, 1, (1,)), observation_space)
        self.obs = obs

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def compute_reward(self, achieved, desired, info):
        return np.zeros(np.shape(achieved)[:-1])


@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        (Box(-1, 1, (3,)), np.zeros(4), r"observation of the shape \(3,\), .*, found \(4,\)"),
        (Box(-1, 1, (3,)), np.zeros((1, 3)), r"observation of the shape \(3,\), .*, found \(1, 3\)"),
        (
            goal_space(3, 2),
            {"observation": np.zeros(3), "achieved_goal": np.zeros(2), "desired_goal": np.zeros(3)},
            r"desired_goal of the shape \(2,\), .*, found \(3,\)",
        ),
        (
            goal_space(3, 2),
            {"observation": np.zeros(3)},
            r"achieved_goal of the shape \(2,\), .*, found none",
        ),
        (goal_space(3, 2), np.zeros(3), r"observation of the shape \(3,\), .*, found none"),
    ],
)
def test_an_observation_of_another_shape_than_its_space_is_named(space, obs, message, tmp_path):
    with pytest.raises(UnsupportedEnvError, match=f"^Misshapen: expected {message}$"):
        train(small(), out=tmp_path / "run", env_factory=lambda: Misshapen(space, obs))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (0.1, 0.3), (-1.7, -1.6), (0.0, 1e-50), (-1.0, 1.0)])
def test_scaled_actions_lie_in_a_box_of_float64(low, high):
    box = Box(low, high, (1,), np.float64)
    spec = inspect_env(Flat(box))
    for action in np.array([[-1.0], [-0.3], [1.0]], np.float32):
        assert box.contains(spec.scale_action(action).astype(np.float64))
    ends = np.array([low, high])[:, None]
    expected = [[-1], [1]] if spec.action_low < spec.action_high else [[0], [0]]
    np.testing.assert_allclose(spec.normalise_action(ends), expected, atol=1e-6)


def test_an_action_that_is_fixed_is_zero_among_normalised_ones():
    for value in (0.0, 0.1):
        spec = inspect_env(Flat(Box(np.array([-2.0, value]), np.array([2.0, value]), dtype=np.float64)))
        scaled = spec.scale_action(np.array([0.5, 0.5], np.float32))
        np.testing.assert_allclose(scaled, [1, value], rtol=1e-6)
        np.testing.assert_array_equal(spec.normalise_action(scaled), [0.5, 0])
