"""N environments that are stepped side by side for training, in this process or in a forked one.

Every step is begun by `step_async` and ended by `step_wait`. In a forked process the environments step in
between, while the caller learns on another core. In this process they step during `step_wait`. The results
are the same, bit for bit.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from wpg.controllers.config import ResolvedConfig
from wpg.controllers.experience.environment import (
    Env,
    EnvSpec,
    FloatArray,
    append_achieved_goal,
    flattened,
    make_env,
    reported_success,
)
from wpg.controllers.forked_process import ForkedProcess, RequestHandler, overlaps

Envs = gym.vector.VectorEnv[Any, Any, Any]


class StepResult(NamedTuple):
    """One step of N environments."""

    obs: Any
    """Flat observations (N, obs_dim), or a goal Dict of them, before any reset."""
    reward: NDArray[np.floating]
    """(N,)."""
    terminated: NDArray[np.bool_]
    """(N,)."""
    truncated: NDArray[np.bool_]
    """(N,)."""
    success: NDArray[np.bool_]
    """`info["is_success"]` or `info["success"]`, (N,); False where the environment does not report it."""
    reported: NDArray[np.bool_]
    """Whether the environment reported its success, (N,)."""


class TrainingEnvs(ABC):
    """N environments, each of which is reset only by a call of `reset`."""

    num_envs: int

    @abstractmethod
    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """Begin new episodes where `which` (N,) is True; returns the observations of all environments."""

    @abstractmethod
    def step_async(self, actions: FloatArray) -> None:
        """Begin a step of every environment with `actions (N, A)`, in the environment's units."""

    @abstractmethod
    def step_wait(self) -> StepResult:
        """Wait for the step that was begun."""

    @abstractmethod
    def close(self) -> None:
        """Close the environments."""


class LocalEnvs(TrainingEnvs):
    """Environments in this process."""

    def __init__(self, envs: Envs, spec: EnvSpec) -> None:
        self.envs, self.spec, self.num_envs = envs, spec, envs.num_envs
        self._actions: FloatArray

    def _seen(self, obs: Any) -> Any:
        """The observations as the policy sees them, in arrays that the environments do not change later."""
        seen: Any
        seen = {key: np.array(rows) for key, rows in obs.items()} if isinstance(obs, dict) else np.array(obs)
        return append_achieved_goal(seen) if self.spec.appends_achieved_goal else seen

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `TrainingEnvs.reset`."""
        # Gymnasium's base class declares one seed; its implementations, and ours, take one for each.
        obs, _ = self.envs.reset(seed=seeds, options={"reset_mask": which})  # type: ignore[arg-type]
        return self._seen(obs)

    def step_async(self, actions: FloatArray) -> None:
        """See `TrainingEnvs.step_async`."""
        self._actions = actions

    def step_wait(self) -> StepResult:
        """See `TrainingEnvs.step_wait`."""
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        success, reported = reported_success(infos, self.num_envs)
        return StepResult(self._seen(obs), reward, terminated, truncated, success, reported)

    def close(self) -> None:
        """See `TrainingEnvs.close`."""
        self.envs.close()


class ForkedEnvs(TrainingEnvs):
    """Environments in a process that is forked here and ends with this object, or with this process.

    An exception that an environment raises there is raised again here.

    Args:
        make: makes the environments; it is called in the new process.
        num_envs: how many.

    Raises:
        ForkedProcessError: the process ended, or it raised an exception that cannot be pickled.
    """

    def __init__(self, make: Callable[[], TrainingEnvs], num_envs: int) -> None:
        self.num_envs = num_envs
        self._process = ForkedProcess("the environments' process", partial(_serve_envs, make))

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `TrainingEnvs.reset`."""
        self._process.send((seeds, which))
        return self._process.receive()

    def step_async(self, actions: FloatArray) -> None:
        """See `TrainingEnvs.step_async`."""
        self._process.send(actions)

    def step_wait(self) -> StepResult:
        """See `TrainingEnvs.step_wait`."""
        result: StepResult = self._process.receive()
        return result

    def close(self) -> None:
        """See `TrainingEnvs.close`."""
        self._process.close()


@contextmanager
def _serve_envs(make: Callable[[], TrainingEnvs]) -> Iterator[RequestHandler]:
    """Handle requests in the forked process: an array holds actions to step, anything else is a reset."""
    with closing(make()) as envs:

        def handle(request: Any) -> Any:
            if isinstance(request, np.ndarray):
                envs.step_async(request)
                return envs.step_wait()
            return envs.reset(*request)

        yield handle


def make_envs(
    env_id: str, num_envs: int, space: Space[Any], factory: Callable[[], Env] | None = None, **kwargs: Any
) -> Envs:
    """Make environments that are stepped side by side and are reset only by their caller.

    If the environment has a vectorised implementation that supports this and observes in `space`, it is used.

    Args:
        env_id: id with version, of an environment that `make_env` has made before.
        num_envs: how many.
        space: observation space of that environment.
        factory: makes one environment; replaces `env_id`.
        kwargs: as for `make_env`.
    """
    if factory is None:
        registered = gym.spec(env_id.rpartition(":")[2])
        entry = registered.vector_entry_point
        creator = load_env_creator(entry) if isinstance(entry, str) else entry
        if creator is not None and "autoreset_mode" in inspect.signature(creator).parameters:
            envs = gym.make_vec(registered, num_envs, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
            if envs.single_observation_space == space:
                return envs
            envs.close()
    make = factory or partial(make_env, env_id, **kwargs)
    return SyncVectorEnv([lambda: flattened(make())] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def make_training_envs(
    config: ResolvedConfig, spec: EnvSpec, space: Space[Any], factory: Callable[[], Env] | None
) -> TrainingEnvs:
    """Make the environments of a run, in a process of their own if that is worthwhile.

    By default it is so with goals only: an environment without goals steps alone, in a small part of the
    time of an update. Environments of a factory may share objects with its caller, which a process would
    break, so they get one only if `overlap` asks for it.

    Args:
        config: settings of the run.
        spec: of one environment with the observations that the policy sees.
        space: observation space of one environment, without an appended achieved goal.
        factory: makes one environment; None makes them by their id.
    """

    def make() -> LocalEnvs:
        return LocalEnvs(make_envs(config.env, config.num_envs, space, factory, **config.env_kwargs), spec)

    worthwhile = config.overlap or (factory is None and spec.goal_dim > 0)
    return ForkedEnvs(make, config.num_envs) if worthwhile and overlaps(config.overlap) else make()
