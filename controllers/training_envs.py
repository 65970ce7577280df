"""N environments that are stepped side by side for training, in this process or in a forked one.

Every step is begun by `step_async` and ended by `step_wait`. In a forked process the environments step in
between, while the caller learns on another core. In this process they step during `step_wait`. The results
are the same, bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wpg.controllers.environment import Envs, EnvSpec, FloatArray, append_achieved_goal, reported_success
from wpg.controllers.forked_process import ForkedProcess, RequestHandler


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
        """The environments' observations as the policy sees them."""
        return append_achieved_goal(obs) if self.spec.appends_achieved_goal else obs

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
