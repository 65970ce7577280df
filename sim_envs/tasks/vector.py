"""Many environments in one process: scaling, inverse kinematics and rewards are computed for all at once."""

import functools
from typing import Any, cast

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from wpg.sim_envs.tasks.goal_env import GoalEnv, Observation, distance_m
from wpg.sim_envs.tasks.insert import InsertEnv
from wpg.sim_envs.tasks.pick_and_place import PickAndPlaceEnv
from wpg.sim_envs.tasks.push import PushEnv
from wpg.sim_envs.tasks.reach import ReachEnv


class GoalVectorEnv(SyncVectorEnv):
    """``num_envs`` copies of a task; :func:`gymnasium.make_vec` returns this for the environments of wpg.

    Observations, rewards, infos and automatic resets are bit-identical to those of Gymnasium's
    ``SyncVectorEnv`` with the same environments, but a step takes less time. (MuJoCo's own batches,
    ``mujoco.rollout``, cannot be used: they keep neither the solver's warm start nor what is not part of the
    state, such as the position of the block with the hole.)

    Args:
        task: class of the environments.
        num_envs: number of environments.
        max_episode_steps: steps after which an episode is truncated; None or −1, as Gymnasium has it: never.
        autoreset_mode: Gymnasium's ``NextStep`` or ``Disabled``.
        kwargs: passed to each environment.

    Raises:
        ValueError: the mode is ``SameStep``.
    """

    def __init__(
        self,
        task: type[GoalEnv],
        *,
        num_envs: int,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        super().__init__([functools.partial(task, **kwargs)] * num_envs, autoreset_mode=autoreset_mode)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            raise ValueError("autoreset_mode: expected NextStep or Disabled, found SameStep")
        self._tasks = cast("list[GoalEnv]", self.envs)
        self._horizon = np.inf if max_episode_steps in (None, -1) else max_episode_steps
        self._elapsed = np.zeros(num_envs, np.int64)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset all environments, or those that ``options["reset_mask"]`` (num_envs,) selects."""
        begun = slice(None) if options is None else options.get("reset_mask", slice(None))
        _, infos = super().reset(seed=seed, options=options)
        self._elapsed[begun] = 0
        return self._observed(), infos

    def step(
        self, actions: NDArray[np.floating]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Simulate one policy period of every environment; ``actions`` is (num_envs, action_dim).

        Raises:
            ValueError: an action is not finite or has the wrong shape; no environment has moved.
        """
        task, begun = self._tasks[0], self._autoreset_envs
        if self.autoreset_mode is AutoresetMode.DISABLED and begun.any():
            raise ValueError(
                f"expected a reset of environments {np.flatnonzero(begun).tolist()}, found a step"
            )
        scaled = task.scale_action(np.asarray(actions), self.num_envs)
        joints = zip(*(env.joint_pos_and_target for env in self._tasks), strict=True)
        targets = task.joint_target(scaled, *map(np.stack, joints))
        infos: dict[str, Any] = {}
        for index, env in enumerate(self._tasks):
            if begun[index]:
                infos = self._add_info(infos, env.reset()[1], index)
            else:
                env.advance(targets[index], scaled[index])
        self._elapsed = np.where(begun, 0, self._elapsed + 1)
        obs = self._observed()
        distance = distance_m(obs["achieved_goal"], obs["desired_goal"])
        rewards = np.where(begun, 0.0, task.reward_at(distance).astype(np.float64))
        successes = [env.is_success(off) for env, off in zip(self._tasks, distance, strict=True)]
        infos |= {"is_success": np.array(successes), "_is_success": np.ones(self.num_envs, np.bool_)}
        truncated = self._elapsed >= self._horizon
        self._autoreset_envs = truncated
        return obs, rewards, np.zeros(self.num_envs, np.bool_), truncated.copy(), infos

    def _observed(self) -> Observation:
        return self._tasks[0].as_goal_obs(np.stack([env.obs_vector for env in self._tasks]))


ReachVectorEnv = functools.partial(GoalVectorEnv, ReachEnv)
PushVectorEnv = functools.partial(GoalVectorEnv, PushEnv)
PickAndPlaceVectorEnv = functools.partial(GoalVectorEnv, PickAndPlaceEnv)
InsertVectorEnv = functools.partial(GoalVectorEnv, InsertEnv)
