"""Training episodes of environments that are stepped side by side."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wpg.controllers.errors import FaultyEnvError
from wpg.controllers.experience.environment import GOAL_KEYS, EnvSpec, FloatArray, episode_seed, flatten_obs
from wpg.controllers.experience.replay import ReplayBuffer, Transitions, storable
from wpg.controllers.training.envs import TrainingEnvs

TRAINING_STREAM = 0
RECENT = 20
"""Number of episodes that the running means cover."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Result of a training episode."""

    total: float
    """Undiscounted return."""
    length: int
    """Steps."""
    success: bool | None
    """Success of the last step; None if the environment does not report it."""


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """What a resumed `Rollout` continues from."""

    begun: int
    """Number of episodes begun so far."""
    finished: int
    """Number of episodes finished so far."""
    recent: list[Episode]


class Rollout:
    """Steps N environments, puts their transitions into the replay memory and keeps episode statistics.

    The seed of every episode's reset follows from the run's seed and the episode's number, so a resumed run
    can repeat any reset.
    """

    def __init__(self, envs: TrainingEnvs, spec: EnvSpec, seed: int) -> None:
        self.envs, self.spec, self.seed = envs, spec, seed
        self.begun = 0
        self.finished = 0
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        self.raw_obs: Any = None
        self.obs = np.zeros((envs.num_envs, spec.obs_dim), np.float32)
        self._actions = np.zeros((envs.num_envs, spec.action_dim), np.float32)
        self._totals = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self._seeds: list[int | None] = [None] * envs.num_envs

    def begin_all(self) -> None:
        """Begin a new episode in every environment.

        Raises:
            FaultyEnvError: an observation is not finite.
        """
        self._set_obs(self._begin(np.ones(self.envs.num_envs, np.bool_)))

    def _begin(self, which: NDArray[np.bool_]) -> Any:
        """Begin new episodes where `which` (N,) is True; returns the observations of all environments."""
        seeds: list[int | None] = [None] * len(which)
        for index in np.flatnonzero(which):
            self._seeds[index] = seeds[index] = episode_seed(self.seed, TRAINING_STREAM, self.begun)
            self.begun += 1
        self._totals[which], self._lengths[which] = 0.0, 0
        obs = self.envs.reset(seeds, which)
        self._check_obs(obs)
        return obs

    def _set_obs(self, obs: Any) -> None:
        self.raw_obs, self.obs = obs, flatten_obs(obs)

    def begin_step(self, actions: FloatArray) -> None:
        """Begin a step of every environment with `actions (N, A)` in [−1, 1]."""
        self._actions = actions
        self.envs.step_async(self.spec.scale_action(actions))

    def _check_obs(self, obs: Any) -> None:
        parts = {name: obs[name] for name in GOAL_KEYS} if self.spec.goal_dim else {"observation": obs}
        for name, rows in parts.items():
            self._check(name, rows)

    def _check(self, quantity: str, values: NDArray[Any]) -> None:
        """Raise an error if values (N, ...) are not finite, before they get into the replay memory."""
        valid = storable(values)
        if not valid.all():
            place = tuple(np.argwhere(~valid)[0].tolist())
            index, entry = place[0], "".join(f"[{number}]" for number in place[1:])
            raise FaultyEnvError(
                f"{self.spec.env_id}: expected finite numbers, found {quantity}{entry} = {values[place]} "
                f"after {self._lengths[index]} steps of the episode with seed {self._seeds[index]}"
            )

    def finish_step(self, replay: ReplayBuffer) -> bool:
        """Finish the step that was begun; True if an episode ended.

        Raises:
            FaultyEnvError: a reward or an observation is not finite; the replay memory is unchanged.
        """
        obs, rewards, terminated, truncated, success, reported = self.envs.step_wait()
        self._lengths += 1
        self._check("reward", rewards)
        self._check_obs(obs)
        replay.add(Transitions(self.raw_obs, self._actions, rewards, terminated, obs))
        self._totals += rewards
        over = terminated | truncated
        for index in np.flatnonzero(over).tolist():
            replay.end_episode(index)
            self.finished += 1
            succeeded = bool(success[index]) if reported[index] else None
            total, length = float(self._totals[index]), int(self._lengths[index])
            self.recent.append(Episode(total=total, length=length, success=succeeded))
        self._set_obs(self._begin(over) if over.any() else obs)
        return bool(over.any())

    def truncate_all(self, replay: ReplayBuffer) -> None:
        """Truncate every running episode; `begin_all` must be called next.

        The number of an episode that has not been stepped yet is used again.
        """
        for index, length in enumerate(self._lengths):
            if length:
                replay.end_episode(index)
        self.begun -= int((self._lengths == 0).sum())

    def mean_return(self) -> float | None:
        """Mean return of the recent episodes."""
        return float(np.mean([episode.total for episode in self.recent])) if self.recent else None

    def mean_length(self) -> float | None:
        """Mean length of the recent episodes."""
        return float(np.mean([episode.length for episode in self.recent])) if self.recent else None

    def success_rate(self) -> float | None:
        """Success rate of the recent episodes; None if no episode reported success.

        If only some of them reported it, the others count as failures.
        """
        successes = [episode.success for episode in self.recent]
        return float(np.mean(list(map(bool, successes)))) if set(successes) - {None} else None

    def state(self) -> RolloutState:
        """Counters and statistics for a checkpoint."""
        return RolloutState(begun=self.begun, finished=self.finished, recent=list(self.recent))

    def restore(self, state: RolloutState) -> None:
        """Load what `state()` returned; `begin_all` must be called next."""
        self.begun, self.finished = state.begun, state.finished
        self.recent.extend(state.recent)
