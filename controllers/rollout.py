"""Environments stepped side by side, and their episodes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpg.controllers.environment import Env, EnvSpec, FloatArray, episode_seed, flatten_obs
from wpg.controllers.replay import Replay, Transition

TRAINING_STREAM = 0
RECENT = 20
"""Episodes that running means cover."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """How a training episode went."""

    total: float
    """Undiscounted return."""
    length: int
    """Steps."""
    success: bool | None
    """`info["is_success"]` of the last step, where reported."""


class Rollout:
    """N environments, their running episodes, and the way of their transitions into the replay.

    Every episode is reset with a seed derived from the run's seed and the episode's number, so that
    any episode can be begun again in another process.
    """

    def __init__(self, make_env: Callable[[], Env], spec: EnvSpec, num_envs: int, seed: int) -> None:
        self.envs = [make_env() for _ in range(num_envs)]
        self.spec, self.seed = spec, seed
        self.begun = 0
        self.finished = 0
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        self.raw_obs: list[Any] = [None] * num_envs
        self.obs = np.zeros((num_envs, spec.obs_dim), np.float32)
        self._totals = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def begin_all(self) -> None:
        """Begin a new episode in every environment."""
        for index in range(len(self.envs)):
            self._begin(index)

    def _begin(self, index: int) -> None:
        obs, _ = self.envs[index].reset(seed=episode_seed(self.seed, TRAINING_STREAM, self.begun))
        self.begun += 1
        self._totals[index], self._lengths[index] = 0.0, 0
        self.raw_obs[index] = obs
        self.obs[index] = flatten_obs(obs)

    def step(self, actions: FloatArray, replay: Replay) -> bool:
        """Step every environment with `actions (N, A)` in [−1, 1]; True where an episode ended."""
        scaled = self.spec.scale_action(actions)
        outcomes = [env.step(action) for env, action in zip(self.envs, scaled, strict=True)]
        return self._record(outcomes, actions, replay)

    def _record(self, outcomes: list[Any], actions: FloatArray, replay: Replay) -> bool:
        """Record what the step brought and begin new episodes; True where one of them ended."""
        ended = False
        for index, (next_obs, reward, terminated, truncated, info) in enumerate(outcomes):
            step = Transition(self.raw_obs[index], actions[index], float(reward), bool(terminated), next_obs)
            replay.add(index, step)
            self._totals[index] += float(reward)
            self._lengths[index] += 1
            if terminated or truncated:
                ended = True
                replay.end_episode(index)
                success = bool(info["is_success"]) if "is_success" in info else None
                self.finished += 1
                self.recent.append(
                    Episode(total=self._totals[index], length=self._lengths[index], success=success)
                )
                self._begin(index)
            else:
                self.raw_obs[index] = next_obs
                self.obs[index] = flatten_obs(next_obs)
        return ended

    def cut(self, replay: Replay) -> None:
        """End every running episode here, as a truncation; `begin_all` is to follow.

        An episode that was begun and not yet stepped is begun again under the same number.
        """
        for index, length in enumerate(self._lengths):
            if length:
                replay.end_episode(index)
        self.begun -= sum(length == 0 for length in self._lengths)

    def mean_return(self) -> float | None:
        """Mean return of the recent episodes."""
        return float(np.mean([episode.total for episode in self.recent])) if self.recent else None

    def mean_length(self) -> float | None:
        """Mean length of the recent episodes."""
        return float(np.mean([episode.length for episode in self.recent])) if self.recent else None

    def success_rate(self) -> float | None:
        """Success rate of the recent episodes."""
        known = [episode.success for episode in self.recent if episode.success is not None]
        return float(np.mean(known)) if known else None

    def state(self) -> dict[str, Any]:
        """Counters for a checkpoint."""
        return {"begun": self.begun, "finished": self.finished, "recent": [vars(e) for e in self.recent]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` said; `begin_all` is to follow."""
        self.begun, self.finished = state["begun"], state["finished"]
        self.recent.extend(Episode(**episode) for episode in state["recent"])

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
