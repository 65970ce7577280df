"""Replay memory: preallocated tensors, uniform gathers, hindsight goals."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpg.controllers.environment import EnvSpec, FloatArray, RewardFunction

ACHIEVED = 5
"""Column of what a step achieved."""
EVENTFUL_SHARE = 0.5
"""Share of a batch that comes from episodes in which the achieved goal changed."""
RECENT_STEPS = 2500
"""Steps that count as recent."""


class Batch(NamedTuple):
    """Transitions as the learner takes them; B rows."""

    obs: Tensor
    """(B, obs_dim)."""
    action: Tensor
    """(B, action_dim) in [−1, 1]."""
    reward: Tensor
    """(B,)."""
    terminated: Tensor
    """(B,) 1 where the next state has no value; a truncated step has 0."""
    next_obs: Tensor
    """(B, obs_dim)."""

    def to(self, device: str) -> "Batch":
        """The batch on `device`."""
        return self if device == "cpu" else Batch(*(column.to(device) for column in self))


class Transitions(NamedTuple):
    """One step of N environments, as they gave it."""

    obs: Any
    """Flat observations (N, obs_dim), or a goal Dict of them."""
    action: FloatArray
    """(N, action_dim) in [−1, 1]."""
    reward: NDArray[np.floating]
    """(N,)."""
    terminated: NDArray[np.bool_]
    """(N,) not set by a truncation."""
    next_obs: Any
    """What the step led to, before any reset."""


class Shares(NamedTuple):
    """What part of a batch comes from where; the rest is drawn from all alike."""

    recent: float = 0.0
    """Share from the last `RECENT_STEPS` steps: what the policy does now is where its critics err, and what
    it did there is known soon. With goals the half from eventful episodes is mixed in after it. Source of the
    idea: Wang & Ross 2019, "Boosting soft actor-critic: emphasizing recent experience without forgetting
    the past"."""
    kept: float = 0.0
    """Least share from the rows that `ReplayBuffer.keep` keeps: the other draws meet them, too."""


class ReplayBuffer(ABC):
    """A ring of transitions in one tensor, one transition a row."""

    def __init__(self, capacity: int, columns: list[int], shares: Shares) -> None:
        self.capacity = capacity
        self.rows = torch.empty(capacity, sum(columns))
        self.columns = columns
        self.size = 0
        self.position = 0
        self.kept = 0
        """Rows at the front that are never overwritten, see `keep`."""
        self.shares = shares

    @abstractmethod
    def add(self, step: Transitions) -> None:
        """Take one transition of every environment."""

    @abstractmethod
    def end_episode(self, env: int) -> None:
        """The episode of environment number `env` is over, terminated, truncated or cut."""

    @abstractmethod
    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw transitions by `shares`, with replacement."""

    def _append(self, rows: Tensor) -> Tensor:
        """Write rows at the ring's head; returns their row numbers."""
        index = self._around(torch.arange(len(rows)) + self.position)
        self.rows[index] = rows
        self.position = int(self._around(index[-1] + 1))
        self.size = min(self.size + len(rows), self.capacity)
        return index

    def _around(self, index: Tensor) -> Tensor:
        """Row numbers that went past the ring's end, on the ring; rows that are kept are no part of it."""
        return torch.where(index < self.capacity, index, index - (self.capacity - self.kept))

    def keep(self) -> None:
        """Never overwrite what is here now, and draw at least `shares.kept` of every batch from it."""
        self.kept = self.size

    def _mixed(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Row numbers (B,), uniform over all rows, or for a share over recent ones."""
        index = torch.randint(self.size, (batch_size,), generator=generator)
        recent = min(self.size - self.kept, RECENT_STEPS)
        if not self.shares.recent or not recent:
            return index
        back = self.position - 1 - torch.randint(recent, index.shape, generator=generator)
        place = torch.where(back < self.kept, back + self.capacity - self.kept, back)
        return _mix(index, place, self.shares.recent, generator)

    def _with_kept(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Row numbers (B,), a share of them replaced by ones of rows that are kept."""
        if not self.kept:
            return index
        place = torch.randint(self.kept, index.shape, generator=generator)
        return _mix(index, place, self.shares.kept, generator)

    def tensors(self) -> dict[str, Tensor]:
        """Contents for a checkpoint."""
        return {"rows": self.rows[: self.size]}

    def restore(self, tensors: dict[str, Tensor], position: int, kept: int) -> None:
        """Load what `tensors()` returned, with the `position` and the `kept` rows that there were."""
        self.size, self.position, self.kept = len(tensors["rows"]), position, kept
        self.rows[: self.size] = tensors["rows"]


class FlatReplayBuffer(ReplayBuffer):
    """Transitions of an environment with a flat observation; each is usable at once."""

    def __init__(self, spec: EnvSpec, capacity: int, shares: Shares) -> None:
        super().__init__(capacity, [spec.obs_dim, spec.action_dim, 1, 1, spec.obs_dim], shares)

    def add(self, step: Transitions) -> None:
        """See `ReplayBuffer.add`."""
        outcome = np.stack([step.reward, step.terminated], 1)
        self._append(torch.from_numpy(_rows(step.obs, step.action, outcome, step.next_obs)))

    def end_episode(self, env: int) -> None:
        """Nothing to do: transitions do not depend on how their episode goes on."""

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """See `ReplayBuffer.sample`."""
        index = self._with_kept(self._mixed(batch_size, generator), generator)
        rows = self.rows.index_select(0, index)
        obs, action, reward, terminated, next_obs = torch.split(rows, self.columns, 1)
        return Batch(obs, action, reward[:, 0], terminated[:, 0], next_obs)


class HindsightReplayBuffer(ReplayBuffer):
    """Goal-conditioned transitions; a share of each batch gets a goal that was reached later on.

    'Future' relabelling: the goal of a drawn step t becomes the achieved goal after a step drawn
    uniformly from t to the episode's end. The reward is the environment's own `compute_reward`, as is
    `compute_terminated` where it has one; else the recorded termination stays. Either is called row by row
    where it takes one pair of goals only. The outermost wrapper that has one is asked: a wrapper that
    changes rewards has to change `compute_reward` alike, or relabelled steps keep the rewards it was to
    change. An episode becomes usable when it is over: before that its future is not known.
    Source: Andrychowicz et al. 2017, "Hindsight Experience Replay", section 4.5.

    Where an object is to be moved, most early episodes leave it where it is, and any goal of theirs is
    reached by doing nothing. So a share of each batch comes from eventful episodes: those whose last achieved
    goal was not yet reached after their first step, by the environment's own reward.
    Source of the idea: Zhao & Tresp 2018, "Energy-based hindsight experience prioritization".
    """

    def __init__(self, spec: EnvSpec, capacity: int, shares: Shares, env: Any, ratio: float) -> None:
        observation, goal = spec.observation_dim, spec.goal_dim
        columns = [observation, spec.action_dim, 1, 1, observation, goal, goal]
        super().__init__(capacity, columns, shares)
        self.remaining = torch.zeros(capacity, dtype=torch.long)  # steps after this one in its episode
        self.eventful = torch.zeros(capacity, dtype=torch.bool)
        self._eventful_rows = torch.zeros(0, dtype=torch.long)
        self.ratio = ratio
        self._compute_reward = _of_rows(env.get_wrapper_attr("compute_reward"), goal)
        terminates = env.has_wrapper_attr("compute_terminated")
        self._compute_terminated = (
            _of_rows(env.get_wrapper_attr("compute_terminated"), goal) if terminates else None
        )
        self._running: dict[int, list[FloatArray]] = {}

    def add(self, step: Transitions) -> None:
        """See `ReplayBuffer.add`; the transitions are held back until their episodes end."""
        obs, next_obs = step.obs, step.next_obs
        outcome = np.stack([step.reward, step.terminated], 1)
        parts = (obs["observation"], step.action, outcome, next_obs["observation"])
        for env, row in enumerate(_rows(*parts, next_obs["achieved_goal"], obs["desired_goal"])):
            self._running.setdefault(env, []).append(row)

    def end_episode(self, env: int) -> None:
        """Move the environment's episode into the ring."""
        episode = self._running.pop(env, [])[self.kept - self.capacity :]
        if episode:
            index = self._append(torch.from_numpy(np.stack(episode)))
            self.remaining[index] = torch.arange(len(episode) - 1, -1, -1)
            self.eventful[index] = self._is_eventful(self._part(index, ACHIEVED).numpy())
            self._eventful_rows = self.eventful[: self.size].nonzero()[:, 0]

    def _part(self, index: Tensor, column: int) -> Tensor:
        return torch.split(self.rows.index_select(0, index), self.columns, 1)[column]

    def _is_eventful(self, achieved: FloatArray) -> bool:
        """Whether an episode's last achieved goal (T, goal_dim) was not yet reached after its first step."""
        ends = achieved[[0, -1]]
        first, last = np.asarray(self._compute_reward(ends, ends[[1, 1]], {})).tolist()
        return bool(first < last)

    def _draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Row numbers (B,): as `_mixed`, or for a share uniform over those of eventful episodes."""
        index = self._mixed(batch_size, generator)
        if len(self._eventful_rows):
            place = torch.randint(len(self._eventful_rows), index.shape, generator=generator)
            index = _mix(index, self._eventful_rows[place], EVENTFUL_SHARE, generator)
        return self._with_kept(index, generator)

    def future_rows(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Row numbers drawn uniformly from each row to its episode's end, (B,)."""
        remaining = self.remaining[index] + 1
        ahead = (torch.rand(len(index), generator=generator) * remaining).long()
        return self._around(index + torch.minimum(ahead, remaining - 1))

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """See `ReplayBuffer.sample`; the first `ratio` of the rows are relabelled."""
        index = self._draw(batch_size, generator)
        obs, action, reward, terminated, next_obs, achieved, desired = torch.split(
            self.rows.index_select(0, index), self.columns, 1
        )
        n = round(self.ratio * batch_size)
        if n:
            goals = self._part(self.future_rows(index[:n], generator), ACHIEVED)
            desired[:n] = goals
            pair = achieved[:n].numpy(), goals.numpy()
            reward[:n, 0] = torch.from_numpy(np.asarray(self._compute_reward(*pair, {}), np.float32))
            if self._compute_terminated is not None:
                terminated[:n, 0] = torch.from_numpy(
                    np.asarray(self._compute_terminated(*pair, {}), np.float32)
                )
        states = torch.cat([obs, desired], 1), torch.cat([next_obs, desired], 1)
        return Batch(states[0], action, reward[:, 0], terminated[:, 0], states[1])

    def tensors(self) -> dict[str, Tensor]:
        """See `ReplayBuffer.tensors`; to be called when no episode is running."""
        kept = {"remaining": self.remaining, "eventful": self.eventful}
        return {**super().tensors(), **{name: values[: self.size] for name, values in kept.items()}}

    def restore(self, tensors: dict[str, Tensor], position: int, kept: int) -> None:
        """See `ReplayBuffer.restore`."""
        super().restore(tensors, position, kept)
        self.remaining[: self.size] = tensors["remaining"]
        self.eventful[: self.size] = tensors["eventful"]
        self._eventful_rows = self.eventful[: self.size].nonzero()[:, 0]


def _of_rows(function: Callable[..., Any], goal_dim: int) -> RewardFunction:
    """A function of two goals as one of rows of them, (n, goal_dim) twice -> (n,).

    One number for all rows may be a constant, or be made of all of them: it is not taken for each row's.
    """
    rows = np.zeros((goal_dim + 1, goal_dim), np.float32)  # never as many as a goal has numbers
    try:
        takes_rows = np.shape(function(rows, rows, {})) == (len(rows),)
    except Exception:  # the environment's own, which may say in any way that it takes one pair
        takes_rows = False
    return function if takes_rows else functools.partial(_row_by_row, function)


def _row_by_row(
    function: Callable[..., Any], achieved: FloatArray, desired: FloatArray, info: Any
) -> NDArray[Any]:
    outcomes = [function(*pair, info) for pair in zip(achieved, desired, strict=True)]
    return np.array(outcomes).reshape(len(achieved))


def _mix(index: Tensor, others: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Row numbers (B,), a share of them replaced by `others` (B,)."""
    return torch.where(torch.rand(index.shape, generator=generator) < share, others, index)


def _rows(*parts: NDArray[Any]) -> FloatArray:
    return np.concatenate(parts, 1, dtype=np.float32, casting="same_kind")


def make_replay(
    spec: EnvSpec, capacity: int, env: Any, *, hindsight_ratio: float, shares: Shares
) -> ReplayBuffer:
    """The replay memory that fits the environment."""
    if spec.goal_dim:
        return HindsightReplayBuffer(spec, capacity, shares, env, hindsight_ratio)
    return FlatReplayBuffer(spec, capacity, shares)
