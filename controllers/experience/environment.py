"""Making and inspecting Gymnasium environments, with clear errors for those that cannot be trained on."""

import copy
import difflib
import functools
import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import (
    find_highest_version,
    get_env_id,
    parse_env_id,
)
from gymnasium.spaces import Box, Dict, Space, Tuple
from gymnasium.wrappers import FlattenObservation, NormalizeObservation
from numpy.typing import NDArray

from wpg.controllers.errors import UnknownEnvError, UnsupportedEnvError

Env = gym.Env[Any, Any]
FloatArray = NDArray[np.float32]
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")
SUCCESS_KEYS = ("is_success", "success")
"""Entries of a step's info that may say whether the task is done; the first one that there is counts."""
ELSEWHERE = "`wpg list` shows what there is; one of your own is MODULE:ID, with its folder in PYTHONPATH"
"""End of the error line for an unknown environment."""
NOT_INSTALLED = (gym.error.DependencyNotInstalled, ImportError, ModuleNotFoundError)


@dataclass(frozen=True, kw_only=True)
class EnvSpec:  # noqa: PLW1641  arrays have no hash
    """Sizes and ranges of an environment, as the learner sees it."""

    env_id: str
    """Gymnasium id, or the class name if the environment has no id."""
    observation_dim: int
    """Size of the observation without the goal."""
    goal_dim: int
    """Size of the goal; 0 for a flat environment."""
    action_low: FloatArray
    """Lower end of the action box, (action_dim,), in the environment's units."""
    action_high: FloatArray
    """Upper end of the action box, (action_dim,)."""
    horizon: int | None
    """Steps after which an episode is truncated; None if the environment does not say."""
    appends_achieved_goal: bool = False
    """Whether `observation` is the environment's own, followed by its `achieved_goal`."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EnvSpec):
            return NotImplemented
        return all(map(np.array_equal, vars(self).values(), vars(other).values()))

    @property
    def obs_dim(self) -> int:
        """Size of the policy's input: the observation, then the desired goal."""
        return self.observation_dim + self.goal_dim

    @property
    def own_observation_dim(self) -> int:
        """Size of the environment's own observation, to which the achieved goal may be appended."""
        return self.observation_dim - self.goal_dim * self.appends_achieved_goal

    @property
    def action_dim(self) -> int:
        """Number of action dimensions."""
        return len(self.action_low)

    def scale_action(self, action: FloatArray) -> FloatArray:
        """Scale actions (..., action_dim) from [−1, 1] to the environment's action box."""
        centre, half = (self.action_high + self.action_low) / 2, (self.action_high - self.action_low) / 2
        scaled: FloatArray = np.clip(centre + half * action, self.action_low, self.action_high)
        return scaled

    def normalise_action(self, action: FloatArray) -> FloatArray:
        """Scale actions (..., action_dim) from the environment's action box to [−1, 1].

        Actions outside the box are clipped. Dimensions in which the box has no width become 0.
        """
        half = (self.action_high - self.action_low) / 2
        share = (action - self.action_low) / np.where(half > 0, half, 1)
        normalised: FloatArray = np.where(half > 0, np.clip(share - 1, -1, 1), 0)
        return normalised


def make_env(env_id: str, **kwargs: Any) -> Env:
    """`gymnasium.make`, with an error that names similar ids if there is no such environment.

    Dict and Tuple observations are flattened to one vector, unless they contain goals or images.

    Args:
        env_id: Gymnasium id.
        kwargs: for the environment.

    Raises:
        UnknownEnvError: no such id, or the package that registers it is not installed.
        UnsupportedEnvError: the environment does not take one of `kwargs`, or needs a package that is not
            installed.
        ImportError: a subclass that the environment raises, whose own message says what is missing.
    """
    _require_registered(env_id)
    try:
        with warnings.catch_warnings():  # ids without a version are allowed here
            warnings.filterwarnings("ignore", message=".*Using the latest versioned environment")
            return flattened(gym.make(env_id, disable_env_checker=True, **kwargs))
    except TypeError as error:
        none = "takes no arguments" in str(error)
        refused = [name for name in kwargs if none or f"unexpected keyword argument '{name}'" in str(error)]
        if not refused:
            raise
        raise UnsupportedEnvError(f"{env_id} takes no {refused[0]!r}") from error
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        if type(error) not in NOT_INSTALLED:
            raise
        raise UnsupportedEnvError(f"{env_id} cannot be made: {error}") from error


def _has_goal(space: Space[Any]) -> bool:
    return isinstance(space, Dict) and set(GOAL_KEYS) <= set(space.spaces)


def flattened(env: Env) -> Env:
    """`env` with a Dict or Tuple observation flattened to one vector, unless it has goals or images."""
    space = env.observation_space
    if _has_goal(space) or not isinstance(space, (Dict, Tuple)):
        return env
    parts = space.spaces.values() if isinstance(space, Dict) else space.spaces
    images = any(isinstance(part, Box) and len(part.shape) > 1 for part in parts)
    return env if images or not space.is_np_flattenable else FlattenObservation(env)


def _require_registered(env_id: str) -> None:
    """Import what registers an environment: the module before the id's colon, or the installed plugins.

    Raises:
        UnknownEnvError: the module cannot be imported, or the environment is not registered afterwards.
    """
    module, colon, name = env_id.rpartition(":")
    try:
        if colon:
            importlib.import_module(module)
        elif name not in gym.registry:
            _load_plugins()
    except ImportError as error:
        raise UnknownEnvError(f"no environment {env_id!r} ({error}); {ELSEWHERE}") from error
    try:
        namespace, stem, version = parse_env_id(name)
        version = find_highest_version(namespace, stem) if version is None else version
        gym.spec(get_env_id(namespace, stem, version))
    except gym.error.Error as error:
        reason, hint = str(error), ELSEWHERE
        if near := _similar_ids(name):
            reason = reason.partition(" Did you mean")[0]
            hint = f"did you mean {', '.join(near)}?"
        raise UnknownEnvError(f"no environment {env_id!r} ({reason.rstrip('.')}); {hint}") from error


def _similar_ids(env_id: str) -> list[str]:
    """Up to three registered ids similar to `env_id`, of its namespace; of any if it names none."""
    namespace, _, name = env_id.rpartition("/")
    known = {}
    for other in sorted(gym.registry, key=lambda other: "/" in other, reverse=True):
        others_namespace, _, others_name = other.rpartition("/")
        if namespace in ("", others_namespace):
            known[others_name] = other  # an id without a namespace comes last, and replaces others
    return [known[near] for near in difflib.get_close_matches(name, known, n=3, cutoff=0.5)]


def env_name(env: Env) -> str:
    """The Gymnasium id of `env`, or the class name of an environment that has none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def time_limit(env: Env) -> int | None:
    """Steps after which Gymnasium truncates an episode of `env`; None if it does not."""
    return None if env.spec is None else env.spec.max_episode_steps


def versioned_id(env_id: str, env: Env) -> str:
    """The id with the version of `env`, which `make_env` chose if `env_id` has none."""
    module, colon, _ = env_id.rpartition(":")
    return env_id if env.spec is None else module + colon + env.spec.id


@functools.cache
def _load_plugins() -> None:
    """Let installed packages register their environments, which Gymnasium leaves to its callers."""
    for plugin in metadata.entry_points(group="gymnasium.envs"):
        plugin.load()()


def inspect_env(env: Env) -> EnvSpec:
    """Read sizes and ranges from the spaces of `env`.

    Raises:
        UnsupportedEnvError: the action space is not a one-dimensional float Box that is bounded and fits
            float32, or the observation space is neither a one-dimensional Box nor a goal Dict, or one of them
            is empty, or a wrapper normalises the observations.
    """
    name = env_name(env)
    _refuse_normalisation(name, env)
    action = env.action_space
    if not (isinstance(action, Box) and len(action.shape) == 1 and np.issubdtype(action.dtype, np.floating)):
        raise UnsupportedEnvError(f"{name}: actions must be a one-dimensional float Box, not {action}")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise UnsupportedEnvError(f"{name}: the action box must be bounded on both sides, it is {action}")
    low, high = _float32_ends(name, action)
    observation_dim, goal_dim = _observation_sizes(name, env)
    if not len(low) or not observation_dim + goal_dim:
        raise UnsupportedEnvError(
            f"{name}: expected at least one action and one observation, found {action} and "
            f"{env.observation_space}"
        )
    return EnvSpec(
        env_id=name,
        observation_dim=observation_dim,
        goal_dim=goal_dim,
        action_low=low,
        action_high=high,
        horizon=time_limit(env),
        appends_achieved_goal=isinstance(env, AppendAchievedGoal),
    )


def _refuse_normalisation(name: str, env: Any) -> None:
    """Refuse observations that a wrapper normalises by statistics that no checkpoint or export would have."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, NormalizeObservation):
            raise UnsupportedEnvError(
                f"{name}: leave out NormalizeObservation, whose statistics would be missing from checkpoints "
                "and exported policies; wpg normalises observations itself"
            )
        env = env.env


def _float32_ends(name: str, box: Box) -> tuple[FloatArray, FloatArray]:
    """Lower and upper end of an action box in float32, (action_dim,) each, rounded inwards.

    A dimension without width whose value is not a float32 number is rounded up.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
        fits = np.isfinite(high - low) & np.isfinite(high + low)
    if not fits.all():
        raise UnsupportedEnvError(f"{name}: the action box must span less than 3.4e38, it is {box}")
    low = np.where(low < box.low, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > box.high, np.nextafter(high, np.float32(-np.inf)), high)
    return low, np.maximum(low, high)


def _observation_sizes(name: str, env: Env) -> tuple[int, int]:
    space = env.observation_space
    if isinstance(space, Box) and len(space.shape) == 1:
        return space.shape[0], 0
    if not (isinstance(space, Dict) and _has_goal(space)):
        raise UnsupportedEnvError(
            f"{name}: observations must be a flat Box or a Dict of {', '.join(GOAL_KEYS)}, not {space}; "
            "gymnasium.wrappers.FlattenObservation makes one vector of others"
        )
    ignored = sorted(set(space.spaces) - set(GOAL_KEYS))
    if ignored:
        raise UnsupportedEnvError(
            f"{name}: a goal Dict has {', '.join(GOAL_KEYS)}, and the policy would not see its "
            f"{', '.join(ignored)}; append that to `observation` in a gymnasium.ObservationWrapper"
        )
    parts = [space[key] for key in GOAL_KEYS]
    sizes = [part.shape[0] for part in parts if isinstance(part, Box) and len(part.shape) == 1]
    if len(sizes) != len(parts) or sizes[1] != sizes[2] or not sizes[2]:
        raise UnsupportedEnvError(
            f"{name}: every part of the goal Dict must be a one-dimensional Box, and the goals of one size, "
            f"not {space}"
        )
    if not (env.has_wrapper_attr("compute_reward") and callable(env.get_wrapper_attr("compute_reward"))):
        raise UnsupportedEnvError(f"{name}: a goal environment needs compute_reward(achieved, desired, info)")
    return sizes[0], sizes[2]


def append_achieved_goal(obs: dict[str, Any]) -> dict[str, Any]:
    """A goal observation with its `achieved_goal` appended to `observation`; all parts are (..., size)."""
    return {**obs, "observation": np.concatenate([obs[key] for key in GOAL_KEYS[:2]], -1)}


class AppendAchievedGoal(gym.ObservationWrapper[Any, Any, Any]):
    """Applies `append_achieved_goal` to the observations of one environment."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Dict)
        low, high = (
            np.concatenate([getattr(space[key], end) for key in GOAL_KEYS[:2]]) for end in ("low", "high")
        )
        self.observation_space = Dict({**space.spaces, "observation": Box(low, high, dtype=low.dtype.type)})

    def observation(self, observation: Any) -> Any:
        """See `append_achieved_goal`."""
        return append_achieved_goal(observation)


def policy_view(env: Env) -> Env:
    """`env` with the observations that a policy sees.

    Dict and Tuple observations are `flattened`. The achieved goal of a goal environment is appended to its
    `observation` if that does not contain it, as in AntMaze, where `observation` has no position. This is
    judged by values: each entry of `achieved_goal` must equal the same entry of `observation` over some
    random steps of two episodes, whose seeds are fixed. Nothing is appended in an environment that declares
    an `interface`, which says what the policy sees.
    """
    env = flattened(env)
    if not _has_goal(env.observation_space) or hasattr(env.unwrapped, "interface"):
        return env
    actions = copy.deepcopy(env.action_space)  # the environment's own random numbers stay as they are
    actions.seed(0)
    seen = []
    for seed in range(2):
        obs, _ = env.reset(seed=seed)
        for _ in range(10):
            seen.append([np.array(obs[key]) for key in GOAL_KEYS[:2]])
            obs, _, terminated, truncated, _ = env.step(actions.sample())
            if terminated or truncated:
                break
    observed, achieved = (np.stack(rows) for rows in zip(*seen, strict=True))
    equal = np.isclose(observed[:, :, None], achieved[:, None, :], atol=1e-6).all(0)
    return env if equal.any(0).all() else AppendAchievedGoal(env)


def reported_success(info: dict[str, Any], *shape: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The success that a step's `info` reports, and whether it reports any, as arrays of this shape.

    Args:
        info: of one environment, or of N environments side by side.
        shape: () or (N,).

    Returns:
        The success, False where none is reported or where it is NaN; and whether it is reported.
    """
    for name in SUCCESS_KEYS:
        if name in info:
            values = np.asarray(info[name], np.float64).reshape(shape)
            return np.abs(values) > 0, np.broadcast_to(info.get(f"_{name}", True), shape)
    return np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)


def success_of(info: dict[str, Any]) -> bool | None:
    """The success that a step of one environment reports; None if it reports none."""
    success, reported = reported_success(info)
    return bool(success) if reported else None


def flatten_obs(obs: Any) -> FloatArray:
    """The policy's input (..., obs_dim): the observation, or `[observation, desired_goal]` of a goal Dict."""
    if isinstance(obs, dict):
        parts = obs["observation"], obs["desired_goal"]
        return np.concatenate(parts, -1, dtype=np.float32, casting="same_kind")
    return np.asarray(obs, dtype=np.float32)


def episode_seed(seed: int, stream: int, *index: int) -> int:
    """Seed for the reset of episode `index`; training and evaluations use different streams."""
    return int(np.random.SeedSequence((seed, stream, *index)).generate_state(1)[0])


RewardFunction = Callable[[NDArray[Any], NDArray[Any], Any], NDArray[Any]]
