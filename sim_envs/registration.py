"""Registers the environments with Gymnasium, without importing an engine."""

import re
from typing import NamedTuple

import gymnasium


class Task(NamedTuple):
    """What is known of a task before its environment is made."""

    about: str
    """What is to be done, in a few words."""
    entry_point: str
    """Class of the environment."""
    horizon: int
    """Time limit of an episode, in steps."""
    train_steps: int
    """Default number of environment steps in a training."""
    dense_train_steps: int | None = None
    """The same with the dense reward, if it differs."""


TASKS = {
    "PandaReach": Task(
        about="reach a point",
        entry_point="wpg.sim_envs.tasks.reach:ReachEnv",
        horizon=50,
        train_steps=18_000,
        dense_train_steps=54_000,
    ),
    "PandaPush": Task(
        about="push a cube",
        entry_point="wpg.sim_envs.tasks.push:PushEnv",
        horizon=100,
        train_steps=300_000,
    ),
    "PandaPickAndPlace": Task(
        about="grasp a cube",
        entry_point="wpg.sim_envs.tasks.pick_and_place:PickAndPlaceEnv",
        horizon=100,
        train_steps=450_000,
    ),
    "PandaInsert": Task(
        about="peg in hole",
        entry_point="wpg.sim_envs.tasks.insert:InsertEnv",
        horizon=100,
        train_steps=60_000,
    ),
}
"""The tasks by name. Each has an id for either reward on either engine."""

_ID = re.compile(r"(?:[\w.]+:)?wpg/(\w+?)(?:Dense)?(?:Bullet)?(?:-v0)?")


def task_of(env_id: str) -> Task | None:
    """The task that an environment's id names, with any engine and reward; None if it is no task of wpg.

    Args:
        env_id: Gymnasium id. The module before it (``wpg.sim_envs:wpg/PandaReach-v0``), which Gymnasium
            imports first, makes no difference. The version may be missing.
    """
    found = _ID.fullmatch(env_id)
    return TASKS.get(found[1]) if found else None


def train_steps(env_id: str) -> int | None:
    """Default number of environment steps in a training; None if the id is of no task of wpg."""
    task = task_of(env_id)
    if task is None:
        return None
    dense = task.dense_train_steps if "Dense" in env_id else None
    return dense or task.train_steps


def register_envs() -> None:
    """Register every task on both engines with both rewards."""
    for name, task in TASKS.items():
        for reward, dense in (("sparse", ""), ("dense", "Dense")):
            for engine, suffix in (("mujoco", ""), ("pybullet", "Bullet")):
                env_id = f"wpg/{name}{dense}{suffix}-v0"
                if env_id not in gymnasium.registry:
                    gymnasium.register(
                        id=env_id,
                        entry_point=task.entry_point,
                        vector_entry_point=f"wpg.sim_envs.tasks.vector:{name.removeprefix('Panda')}VectorEnv",
                        max_episode_steps=task.horizon,
                        kwargs={"engine": engine, "reward": reward},
                    )
