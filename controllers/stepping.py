"""N environments stepped side by side, in this process or in one of their own.

A step is begun and later finished. In a process of their own the environments step in between, while the
caller learns on another core; in this process they do so when the step is finished. Results are the same,
bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wpg.controllers.environment import Envs, FloatArray
from wpg.controllers.fork import Answer, Fork


class Outcome(NamedTuple):
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
    """`info["is_success"]`, (N,)."""
    reported: NDArray[np.bool_]
    """Whether the environment says if it succeeded, (N,)."""


class Stepping(ABC):
    """N environments, reset on demand alone."""

    num_envs: int

    @abstractmethod
    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """Begin new episodes in some environments (N,); returns the observations of all."""

    @abstractmethod
    def begin(self, actions: FloatArray) -> None:
        """Begin a step of every environment with `actions (N, A)`, in the environment's units."""

    @abstractmethod
    def finish(self) -> Outcome:
        """Finish the step that was begun."""

    @abstractmethod
    def close(self) -> None:
        """Close the environments."""


class InProcess(Stepping):
    """Environments of this process."""

    def __init__(self, envs: Envs) -> None:
        self.envs, self.num_envs = envs, envs.num_envs
        self._actions: FloatArray

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `Stepping.reset`."""
        # Gymnasium's base class declares one seed; its implementations, and ours, take one for each.
        return self.envs.reset(seed=seeds, options={"reset_mask": which})[0]  # type: ignore[arg-type]

    def begin(self, actions: FloatArray) -> None:
        """See `Stepping.begin`."""
        self._actions = actions

    def finish(self) -> Outcome:
        """See `Stepping.finish`."""
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        nothing = np.zeros(self.num_envs, np.bool_)
        success = np.asarray(infos.get("is_success", nothing), np.bool_)
        return Outcome(obs, reward, terminated, truncated, success, infos.get("_is_success", nothing))

    def close(self) -> None:
        """See `Stepping.close`."""
        self.envs.close()


class OwnProcess(Stepping):
    """Environments of a process that is forked here and ends with this object, or with this process.

    What an environment raises is raised here.

    Args:
        make: makes the environments, there.
        num_envs: how many.

    Raises:
        ForkedProcessError: the process ended, or it raised what cannot be pickled.
    """

    def __init__(self, make: Callable[[], Envs], num_envs: int) -> None:
        self.num_envs = num_envs
        self._fork = Fork("the environments' process", partial(_stepping, make))

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `Stepping.reset`."""
        self._fork.send((seeds, which))
        return self._fork.receive()

    def begin(self, actions: FloatArray) -> None:
        """See `Stepping.begin`."""
        self._fork.send(actions)

    def finish(self) -> Outcome:
        """See `Stepping.finish`."""
        outcome: Outcome = self._fork.receive()
        return outcome

    def close(self) -> None:
        """See `Stepping.close`."""
        self._fork.close()


@contextmanager
def _stepping(make: Callable[[], Envs]) -> Iterator[Answer]:
    """Answers where the environments are: actions are stepped, anything else is a reset."""
    with closing(InProcess(make())) as envs:

        def answer(request: Any) -> Any:
            if isinstance(request, np.ndarray):
                envs.begin(request)
                return envs.finish()
            return envs.reset(*request)

        yield answer
