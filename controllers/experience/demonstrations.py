"""Demonstrations: recorded episodes of a script, a person or another policy, to learn from.

Their files are `.npz` archives that NumPy reads and writes without pickling. They contain E episodes of T
steps each, concatenated:

| array | shape | content |
|---|---|---|
| `observation`; with goals also `achieved_goal`, `desired_goal` | (Σ (T+1), size) | the environment's own |
| `action` | (Σ T, action_dim) | in the environment's units, within its action box |
| `reward` | (Σ T,) | |
| `steps` | (E,) | T of each episode |
| `terminated` | (E,) | whether the last step terminated the episode; otherwise it was truncated |
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from wpg.controllers.errors import DemonstrationError
from wpg.controllers.experience.environment import (
    GOAL_KEYS,
    Env,
    EnvSpec,
    FloatArray,
    append_achieved_goal,
    env_name,
    success_of,
)
from wpg.controllers.experience.evaluation import play
from wpg.controllers.experience.replay import Transitions, storable
from wpg.controllers.files import replacing

ROUNDING = 1e-3
"""Share of an action box's largest end by which actions may lie outside, as rounded numbers do."""

Observations = dict[str, NDArray[np.floating]]
"""From the name of each part of an observation to its rows. A flat observation has the part `observation`."""


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode of T steps."""

    observations: Observations
    """(T+1, size) for each part."""
    actions: FloatArray
    """(T, action_dim), in the environment's units."""
    rewards: NDArray[np.floating]
    """(T,)."""
    terminated: bool
    """Whether the last step terminated the episode; otherwise it was truncated."""

    def transitions(self, spec: EnvSpec) -> Iterator[Transitions]:
        """The steps in the form that the replay memory takes, as those of a single environment."""
        actions = spec.normalise_action(self.actions)
        last = len(actions) - 1
        seen: Any = self.observations
        if spec.appends_achieved_goal:
            seen = append_achieved_goal(seen)
        for t in range(len(actions)):
            obs, next_obs = ({name: rows[i : i + 1] for name, rows in seen.items()} for i in (t, t + 1))
            if not spec.goal_dim:
                obs, next_obs = obs["observation"], next_obs["observation"]
            over = np.array([self.terminated and t == last])
            yield Transitions(obs, actions[t : t + 1], self.rewards[t : t + 1], over, next_obs)


def record(env: Env, policy: Callable[[Any], FloatArray], *, seed: int) -> tuple[Demonstration, bool | None]:
    """Run one episode and record it.

    Args:
        env: a Gymnasium environment.
        policy: from the environment's observation to an action in the environment's units, within its box.
        seed: of the reset.

    Returns:
        The episode, and the success of its last step, None if the environment does not report it.

    Raises:
        DemonstrationError: an action has another shape than the environment's action box, or lies outside.
        FaultyEnvError: the episode does not end within 100,000 steps, or its time limit if that is longer.
    """
    seen, actions, rewards, box = [], [], [], env.action_space

    def choose(obs: Any) -> FloatArray:
        actions.append(np.array(policy(obs), np.float32))
        if isinstance(box, Box):
            _check_box("the policy", env_name(env), actions[-1][None], box.low, box.high)
        return actions[-1].copy()

    for moment in play(choose, env, seed):
        seen.append(_copied(moment.obs))
        rewards.append(moment.reward)
    demonstration = Demonstration(
        observations={name: np.array([part[name] for part in seen]) for name in seen[0]},
        actions=np.array(actions),
        rewards=np.array(rewards[1:]),
        terminated=moment.terminated,
    )
    return demonstration, success_of(moment.info)


def _check_box(
    source: str, env_id: str, actions: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> None:
    """Check that actions (T, action_dim) lie between `low` and `high` (action_dim,), except for rounding.

    Raises:
        DemonstrationError: they do not. It names the first action that is not a number, or else the one that
            lies farthest outside.
    """
    if actions.shape[1:] != low.shape:
        raise DemonstrationError(
            f"{source}: {env_id} takes actions of the shape {low.shape}, found {actions.shape[1:]}"
        )
    excess = np.maximum(actions - high, low - actions) - ROUNDING * np.maximum(np.abs(low), np.abs(high))
    excess = np.where(np.isnan(excess), np.inf, excess)
    step, index = np.unravel_index(excess.argmax(), excess.shape)
    if excess[step, index] > 0:
        raise DemonstrationError(
            f"{source}: {env_id} takes actions from {low[index]:g} to {high[index]:g} in dimension {index}, "
            f"found {actions[step, index]:g}; give actions in the environment's units, within its box"
        )


def _copied(obs: Any) -> dict[str, NDArray[Any]]:
    """The parts of an observation as copies, which neither environment nor policy can change later."""
    parts = obs if isinstance(obs, dict) else {"observation": obs}
    return {name: np.array(values) for name, values in parts.items()}


def save_demonstrations(path: str | Path, demonstrations: Sequence[Demonstration]) -> None:
    """Write episodes of one environment to the file `path`; if that fails, a previous file stays as it is.

    Raises:
        ValueError: there are no episodes.
        OSError: the disk is full, or not writable.
    """
    if not demonstrations:
        raise ValueError("expected demonstrations, found none")
    arrays: dict[str, Any] = {
        "action": np.concatenate([one.actions for one in demonstrations]),
        "reward": np.concatenate([one.rewards for one in demonstrations]),
        "steps": np.array([len(one.actions) for one in demonstrations]),
        "terminated": np.array([one.terminated for one in demonstrations]),
    }
    for name in demonstrations[0].observations:
        arrays[name] = np.concatenate([one.observations[name] for one in demonstrations])
    with replacing(Path(path)) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_demonstrations(path: str | Path, spec: EnvSpec) -> list[Demonstration]:
    """Read episodes for the environment that `spec` describes.

    Sizes, types and finiteness are checked, and that the actions lie in the environment's box. The
    environment itself cannot be checked, since files do not name it.

    Raises:
        DemonstrationError: the file is missing or not of this format, or its arrays do not have the
            environment's sizes, not real numbers that are finite in float32, or actions outside the
            environment's box.
    """
    try:
        with Path(path).open("rb") as file:
            arrays: dict[str, NDArray[Any]] = dict(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise DemonstrationError(f"no demonstrations at {path}") from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, TypeError) as error:
        raise DemonstrationError(f"{path} is no archive of NumPy's arrays, or is damaged") from error
    names = GOAL_KEYS if spec.goal_dim else GOAL_KEYS[:1]
    missing = [name for name in (*names, "action", "reward", "steps", "terminated") if name not in arrays]
    if missing:
        raise DemonstrationError(f"{path}: the array {missing[0]!r} is missing")
    steps = arrays["steps"]
    if steps.ndim != 1 or not len(steps) or not np.issubdtype(steps.dtype, np.integer) or steps.min() < 1:
        raise DemonstrationError(f"{path}: steps must be whole numbers from 1, one an episode, found {steps}")
    steps = steps.astype(np.int64)  # a small integer type could not hold the sums
    total, episodes = int(steps.sum()), len(steps)
    sizes = (spec.own_observation_dim, spec.goal_dim, spec.goal_dim)
    expected: dict[str, tuple[int, ...]] = {
        name: (total + episodes, size) for name, size in zip(names, sizes, strict=False)
    }
    expected |= {"action": (total, spec.action_dim), "reward": (total,), "terminated": (episodes,)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise DemonstrationError(
                f"{path}: {spec.env_id} with {total} steps in {episodes} episodes has {name} {shape}, "
                f"found {arrays[name].shape}"
            )
        if arrays[name].dtype.kind not in "biuf":
            raise DemonstrationError(f"{path}: {name} must be real numbers, found {arrays[name].dtype}")
        if not storable(arrays[name]).all():
            raise DemonstrationError(f"{path}: {name} has entries that are not finite in float32")
    _check_box(str(path), spec.env_id, arrays["action"].astype(np.float32), spec.action_low, spec.action_high)
    ends = np.cumsum(steps)[:-1]
    rows = {name: np.split(arrays[name], np.cumsum(steps + 1)[:-1]) for name in names}
    return [
        Demonstration(
            observations={name: rows[name][index] for name in names},
            actions=action.astype(np.float32),
            rewards=reward,
            terminated=bool(arrays["terminated"][index]),
        )
        for index, (action, reward) in enumerate(
            zip(np.split(arrays["action"], ends), np.split(arrays["reward"], ends), strict=True)
        )
    ]
