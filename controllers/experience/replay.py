"""Replay memory: a preallocated ring of transitions, sampled in batches, with hindsight goals."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpg.controllers.algorithm.batch import Batch
from wpg.controllers.errors import (
    CheckpointFormatError,
    ConfigError,
    FaultyEnvError,
    UnsupportedEnvError,
)
from wpg.controllers.experience.environment import GOAL_KEYS, EnvSpec, FloatArray, RewardFunction, env_name

ACHIEVED = 5
"""Index of the achieved goal among the columns of a row."""
EVENTFUL_SHARE = 0.5
"""Share of a batch drawn from eventful episodes (see `HindsightReplayBuffer`)."""
RECENT_STEPS = 2500
"""Number of latest steps that count as recent."""


class Transitions(NamedTuple):
    """One step of N environments."""

    obs: Any
    """Flat observations (N, obs_dim), or a goal Dict of them."""
    action: FloatArray
    """(N, action_dim) in [−1, 1]."""
    reward: NDArray[np.floating]
    """(N,)."""
    terminated: NDArray[np.bool_]
    """(N,), False for a truncation."""
    next_obs: Any
    """Observations after the step, before any reset."""


class Shares(NamedTuple):
    """Expected shares of a batch that are drawn from a part of the transitions; the rest is uniform over all.

    Each row of a batch is drawn independently, so the share of a single batch varies.
    """

    recent: float = 0.0
    """Share from the last `RECENT_STEPS` steps, since the critics are least accurate where the policy acts
    now. With goals, half of the batch is then replaced by draws from eventful episodes. After Wang & Ross
    2019, "Boosting soft actor-critic: emphasizing recent experience without forgetting the past"."""
    kept: float = 0.0
    """Share from the rows that `ReplayBuffer.keep` protects. The other draws may include them too."""


class ReplayBuffer(ABC):
    """A ring buffer of transitions in one tensor, with one transition per row."""

    def __init__(self, capacity: int, columns: list[int], shares: Shares) -> None:
        self.capacity = capacity
        try:
            self.rows = torch.empty(capacity, sum(columns))
        except RuntimeError as error:  # torch has no class for a failed allocation on a CPU
            size = capacity * sum(columns) * 4 / 2**30
            raise ConfigError(
                f"replay_capacity {capacity:,} needs {size:,.0f} GiB of memory, which cannot be allocated; a "
                "capacity of the training's steps is enough"
            ) from error
        self.columns = columns
        self.size = 0
        self.position = 0
        self.kept = 0
        """Number of rows at the front that are never overwritten (see `keep`)."""
        self.shares = shares

    @abstractmethod
    def add(self, step: Transitions) -> None:
        """Add one transition of every environment."""

    @abstractmethod
    def end_episode(self, env: int) -> None:
        """Note that the episode of environment number `env` has ended, for whatever reason."""

    @abstractmethod
    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw a batch with replacement, in the proportions of `shares`."""

    def _append(self, rows: Tensor) -> Tensor:
        """Write rows at the current position of the ring; returns their row numbers."""
        index = self._wrap(torch.arange(len(rows)) + self.position)
        self.rows[index] = rows
        self.position = int(self._wrap(index[-1] + 1))
        self.size = min(self.size + len(rows), self.capacity)
        return index

    def _wrap(self, index: Tensor) -> Tensor:
        """Wrap row numbers beyond the ring's end; the ring begins behind the rows that are kept."""
        return torch.where(index < self.capacity, index, index - (self.capacity - self.kept))

    def keep(self) -> None:
        """Never overwrite the present rows, and draw a share `shares.kept` of each batch from them."""
        self.kept = self.size

    def _draw_mixed(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw row numbers (B,): a share from the recent rows, the rest uniformly from all rows."""
        index = torch.randint(self.size, (batch_size,), generator=generator)
        recent = min(self.size - self.kept, RECENT_STEPS)
        if not self.shares.recent or not recent:
            return index
        back = self.position - 1 - torch.randint(recent, index.shape, generator=generator)
        place = torch.where(back < self.kept, back + self.capacity - self.kept, back)
        return _mix(index, place, self.shares.recent, generator)

    def _with_kept(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Replace a share of the row numbers (B,) by draws from the rows that are kept."""
        if not self.kept:
            return index
        place = torch.randint(self.kept, index.shape, generator=generator)
        return _mix(index, place, self.shares.kept, generator)

    def tensors(self) -> dict[str, Tensor]:
        """Contents for a checkpoint."""
        return {"rows": self.rows[: self.size]}

    def restore(self, tensors: dict[str, Tensor], position: int, kept: int) -> None:
        """Load what `tensors()` returned, with the values of `position` and `kept` at that time.

        Raises:
            CheckpointFormatError: the rows filled a smaller memory, so the oldest are not the first.
        """
        if position != len(tensors["rows"]) < self.capacity:
            raise CheckpointFormatError(
                f"the checkpoint holds {len(tensors['rows']):,} transitions, as many as its replay_capacity "
                f"allowed; it cannot be resumed with a replay_capacity of {self.capacity:,}"
            )
        self.size, self.position, self.kept = len(tensors["rows"]), position, kept
        self.rows[: self.size] = tensors["rows"]


class FlatReplayBuffer(ReplayBuffer):
    """Transitions of an environment with a flat observation; each can be sampled at once."""

    def __init__(self, spec: EnvSpec, capacity: int, shares: Shares) -> None:
        super().__init__(capacity, [spec.obs_dim, spec.action_dim, 1, 1, spec.obs_dim], shares)

    def add(self, step: Transitions) -> None:
        """See `ReplayBuffer.add`."""
        outcome = np.stack([step.reward, step.terminated], 1)
        self._append(torch.from_numpy(_concatenate(step.obs, step.action, outcome, step.next_obs)))

    def end_episode(self, env: int) -> None:
        """Do nothing: transitions do not depend on the rest of their episode."""

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """See `ReplayBuffer.sample`."""
        index = self._with_kept(self._draw_mixed(batch_size, generator), generator)
        rows = self.rows.index_select(0, index)
        obs, action, reward, terminated, next_obs = torch.split(rows, self.columns, 1)
        return Batch(obs, action, reward[:, 0], terminated[:, 0], next_obs)


class HindsightReplayBuffer(ReplayBuffer):
    """Goal-conditioned transitions; a share of each batch gets goals that were reached later in the episode.

    Hindsight relabelling with the strategy "future": the goal of a step t becomes the goal that was achieved
    after a step drawn uniformly from t to the episode's end. The new reward comes from the environment's
    `compute_reward`, and the new termination from its `compute_terminated`; without the latter the recorded
    termination stays. Functions that take a single pair of goals are called row by row. Their `info` is an
    empty dictionary, since a step that never happened has none. The function of the outermost wrapper that
    has one is called, so a wrapper that changes rewards must also override `compute_reward`, or else
    relabelled steps get the unchanged rewards. An episode can be sampled once it is over, when its later
    goals are known.
    Source: Andrychowicz et al. 2017, "Hindsight Experience Replay", section 4.5.

    If an object is to be moved, most early episodes leave it in place, and every goal that they achieve is
    reached by doing nothing. Therefore `EVENTFUL_SHARE` of each batch is drawn from eventful episodes: those
    whose last achieved goal was not reached yet after their first step, by the environment's own reward.
    After Zhao & Tresp 2018, "Energy-based hindsight experience prioritization".

    Raises:
        UnsupportedEnvError: one of these functions cannot be computed from goals alone.
    """

    def __init__(self, spec: EnvSpec, capacity: int, shares: Shares, env: Any, ratio: float) -> None:
        observation, goal = spec.observation_dim, spec.goal_dim
        columns = [observation, spec.action_dim, 1, 1, observation, goal, goal]
        super().__init__(capacity, columns, shares)
        self.remaining = torch.zeros(capacity, dtype=torch.long)  # number of later steps of the same episode
        self.eventful = torch.zeros(capacity, dtype=torch.bool)
        self._eventful_rows = torch.zeros(0, dtype=torch.long)
        self.ratio = ratio
        obs, _ = env.reset(seed=0)
        self._compute_reward = _vectorised(env, "compute_reward", obs)
        terminates = env.has_wrapper_attr("compute_terminated")
        self._compute_terminated = _vectorised(env, "compute_terminated", obs) if terminates else None
        self._running: dict[int, list[FloatArray]] = {}

    def add(self, step: Transitions) -> None:
        """See `ReplayBuffer.add`; transitions cannot be sampled before their episodes end."""
        obs, next_obs = step.obs, step.next_obs
        outcome = np.stack([step.reward, step.terminated], 1)
        parts = (obs["observation"], step.action, outcome, next_obs["observation"])
        for env, row in enumerate(_concatenate(*parts, next_obs["achieved_goal"], obs["desired_goal"])):
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
        """Whether the last of the achieved goals (T, goal_dim) was not reached after the first step yet."""
        ends = achieved[[0, -1]]
        first, last = np.asarray(self._compute_reward(ends, ends[[1, 1]], {})).tolist()
        return bool(first < last)

    def _draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw row numbers (B,): a share from eventful episodes, the rest as `_draw_mixed`."""
        index = self._draw_mixed(batch_size, generator)
        if len(self._eventful_rows):
            place = torch.randint(len(self._eventful_rows), index.shape, generator=generator)
            index = _mix(index, self._eventful_rows[place], EVENTFUL_SHARE, generator)
        return self._with_kept(index, generator)

    def future_rows(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """For each row number (B,), draw one uniformly from that row to its episode's end."""
        remaining = self.remaining[index] + 1
        ahead = (torch.rand(len(index), generator=generator) * remaining).long()
        return self._wrap(index + torch.minimum(ahead, remaining - 1))

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


def storable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where real values (...) are numbers that the replay memory can hold: finite in float32."""
    return np.asarray(np.abs(values) <= np.finfo(np.float32).max)  # False for NaN


def _vectorised(env: Any, name: str, obs: Any) -> RewardFunction:
    """Make the function `name` of two goals a function of rows of goals, (n, goal_dim) twice -> (n,).

    It is tried with the goals of the observation `obs`. If it does not return one number for each of many
    rows, it is called for every row separately.

    Raises:
        UnsupportedEnvError: it does not return a number for a single pair of goals either.
    """
    function: Callable[..., Any] = env.get_wrapper_attr(name)
    achieved, desired = (np.asarray(obs[key], np.float32) for key in GOAL_KEYS[1:])
    rows = len(achieved) + 1, 1  # a count of rows that differs from goal_dim
    with suppress(Exception):  # a function that takes a single pair may fail with any error
        if np.shape(function(np.tile(achieved, rows), np.tile(desired, rows), {})) == rows[:1]:
            return _finite(f"{env_name(env)}: {name}", function)
    needs = (
        f"{env_name(env)}: {name}(achieved, desired, info) must give a number for any two goals; where goals "
        "are relabelled in hindsight, info is empty. For the goals of the first observation it "
    )
    try:
        outcome = function(achieved, desired, {})
    except Exception as error:
        raise UnsupportedEnvError(f"{needs}raised {error!r}") from error
    if np.size(outcome) != 1:
        raise UnsupportedEnvError(f"{needs}returned {outcome!r}")
    return _finite(f"{env_name(env)}: {name}", functools.partial(_row_by_row, function))


def _finite(name: str, function: RewardFunction) -> RewardFunction:
    """`function`, with a FaultyEnvError if one of its outcomes (n,) for rows of goals is not finite."""

    def checked(achieved: FloatArray, desired: FloatArray, info: Any) -> NDArray[Any]:
        outcomes = np.asarray(function(achieved, desired, info))
        if not np.isfinite(outcomes).all():
            row = np.flatnonzero(~np.isfinite(outcomes))[0]
            raise FaultyEnvError(
                f"{name} gave {outcomes[row]} for the achieved goal {achieved[row].tolist()} and the desired "
                f"goal {desired[row].tolist()}; expected finite numbers"
            )
        return outcomes

    return checked


def _row_by_row(
    function: Callable[..., Any], achieved: FloatArray, desired: FloatArray, info: Any
) -> NDArray[Any]:
    outcomes = [function(*pair, info) for pair in zip(achieved, desired, strict=True)]
    return np.array(outcomes).reshape(len(achieved))


def _mix(index: Tensor, others: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace a share of the row numbers (B,), chosen at random, by `others` (B,)."""
    return torch.where(torch.rand(index.shape, generator=generator) < share, others, index)


def _concatenate(*parts: NDArray[Any]) -> FloatArray:
    return np.concatenate(parts, 1, dtype=np.float32, casting="same_kind")


def make_replay(
    spec: EnvSpec, capacity: int, env: Any, *, hindsight_ratio: float, shares: Shares
) -> ReplayBuffer:
    """Make the replay memory for the environment: with hindsight if it has goals."""
    if spec.goal_dim:
        return HindsightReplayBuffer(spec, capacity, shares, env, hindsight_ratio)
    return FlatReplayBuffer(spec, capacity, shares)
