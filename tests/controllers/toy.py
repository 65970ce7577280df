"""Cheap environments and settings for the tests of the learner."""

import csv
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from wpg.controllers import TrainConfig


def small(env="toy", **settings):
    values = {
        "env": env,
        "steps": 240,
        "learning_starts": 60,
        "hidden": 16,
        "batch_size": 32,
        "num_particles": 4,
    }
    values |= {"checkpoint_period": 60, "log_period": 40, "eval_period": 100, "eval_episodes": 2}
    values |= {"num_envs": 1, "updates_per_step": 1.0, "policy_delay": 3, "norm_warmup": 50}
    return TrainConfig(**(values | settings))


TIMES = ("seconds", "steps_per_s")


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


class Flat(gym.Env):
    def __init__(self, action_space, observation_space=None):
        self.action_space = action_space
        self.observation_space = observation_space or Box(-1, 1, (2,))


def goal_space(observation_dim: int, goal_dim: int) -> Dict:
    box = {"observation": observation_dim, "achieved_goal": goal_dim, "desired_goal": goal_dim}
    return Dict({key: Box(-np.inf, np.inf, (size,), np.float64) for key, size in box.items()})


class ReachToy(gym.Env[Any, Any]):
    """A planar arm of `joints` links: joint deltas in, tool within `threshold` of the goal is success."""

    def __init__(self, joints: int = 2, horizon: int = 20, threshold: float = 0.1) -> None:
        self.joints, self.horizon, self.threshold = joints, horizon, threshold
        self.action_space = Box(-1, 1, (joints,), np.float32)
        self.observation_space = goal_space(joints + 2, 2)

    def tool(self, q: np.ndarray) -> np.ndarray:
        angles = np.cumsum(q)
        return np.array([np.cos(angles).sum(), np.sin(angles).sum()]) / self.joints

    def observe(self) -> dict[str, np.ndarray]:
        tool = self.tool(self.q)
        observation = np.concatenate([self.q, tool])
        return {"observation": observation, "achieved_goal": tool, "desired_goal": self.goal}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.q = self.np_random.uniform(0.1, 0.5, self.joints)
        self.goal = self.tool(self.q + self.np_random.uniform(-0.6, 0.6, self.joints))
        self.t = 0
        return self.observe(), {}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        return -(np.linalg.norm(achieved - desired, axis=-1) > self.threshold).astype(np.float64)

    def step(self, action: np.ndarray) -> Any:
        self.q = self.q + 0.15 * action
        self.t += 1
        obs = self.observe()
        reward = float(self.compute_reward(obs["achieved_goal"], self.goal, {}))
        return obs, reward, False, self.t >= self.horizon, {"is_success": reward == 0}
