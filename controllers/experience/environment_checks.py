"""Checks of an environment before it is trained on, beyond those of its spaces."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Dict

from wpg.controllers.errors import UnsupportedEnvError
from wpg.controllers.experience.environment import GOAL_KEYS, Env, EnvSpec, env_name


def distinct(factory: Callable[[], Env]) -> Callable[[], Env]:
    """`factory`, with an error if it does not make a new environment with each call.

    Raises:
        UnsupportedEnvError: by this function and by the one that it returns.
    """
    if not callable(factory):
        raise UnsupportedEnvError(
            f"env_factory must be a function that makes an environment, such as a class, not {factory!r}"
        )
    made: list[Env] = []

    def make() -> Env:
        env = factory()
        if not isinstance(env, gym.Env):
            raise UnsupportedEnvError(f"env_factory must return a gymnasium.Env, it returned {env!r}")
        if any(env.unwrapped is one.unwrapped for one in made):
            raise UnsupportedEnvError(
                f"{env_name(env)}: env_factory returned the same environment twice; it must make a new one "
                "with each call, since evaluations would disturb the training"
            )
        made.append(env)
        return env

    return make


def check_first_step(env: Env, spec: EnvSpec) -> None:
    """Reset `env`, step it once, and compare what it returns with its spaces and with Gymnasium's interface.

    Raises:
        UnsupportedEnvError: they differ.
    """
    name = env_name(env)
    try:
        begun = env.reset(seed=0, options={})
        if not (isinstance(begun, tuple) and len(begun) == 2 and isinstance(begun[1], dict)):
            raise UnsupportedEnvError(f"{name}: reset must return (obs, info), it returned {begun!r}")
        _check_observation(env, begun[0])
        stepped = env.step(spec.scale_action(np.zeros(spec.action_dim, np.float32)))
    except (TypeError, ValueError) as error:
        if not any(part in str(error) for part in ("to unpack", "argument 'seed'", "argument 'options'")):
            raise
        raise UnsupportedEnvError(
            f"{name}: expected reset(seed=…, options=…) -> (obs, info) and step(action) -> "
            f"(obs, reward, terminated, truncated, info), as Gymnasium has them; found that {error}"
        ) from error
    if not (isinstance(stepped, tuple) and len(stepped) == 5 and isinstance(stepped[4], dict)):
        raise UnsupportedEnvError(
            f"{name}: step must return (obs, reward, terminated, truncated, info), it returned {stepped!r}"
        )
    _check_observation(env, stepped[0])
    for part, value in zip(("reward", "terminated", "truncated"), stepped[1:4], strict=True):
        number = np.asarray(value)
        if number.ndim or number.dtype.kind not in "biuf":
            raise UnsupportedEnvError(f"{name}: expected one number as {part} of a step, found {value!r}")


def _check_observation(env: Env, obs: Any) -> None:
    """Check that an observation has the shape and a type of the observation space.

    Raises:
        UnsupportedEnvError: it has another.
    """
    space = env.observation_space
    parts: list[tuple[str, Any, Any]]
    if isinstance(space, Dict):
        given = obs if isinstance(obs, dict) else {}
        parts = [(key, given.get(key), space[key]) for key in GOAL_KEYS]
    else:
        parts = [("observation", obs, space)]
    for name, values, expected in parts:
        found = "none" if values is None else np.shape(values)
        if found != expected.shape:
            raise UnsupportedEnvError(
                f"{env_name(env)}: expected {name} of the shape {expected.shape}, as observation_space says, "
                f"found {found}"
            )
        dtype = np.asarray(values).dtype
        if not np.can_cast(dtype, expected.dtype, "same_kind"):
            raise UnsupportedEnvError(
                f"{env_name(env)}: expected {name} of the type {expected.dtype}, as observation_space says, "
                f"found {dtype}"
            )
