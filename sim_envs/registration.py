"""Registers the environments with Gymnasium, without importing an engine."""

import gymnasium

REACH_STEPS = 50
PUSH_STEPS = 100
PICK_AND_PLACE_STEPS = 100
INSERT_STEPS = 100
TASKS = {
    "PandaReach": ("wpg.sim_envs.tasks.reach:ReachEnv", REACH_STEPS),
    "PandaPush": ("wpg.sim_envs.tasks.push:PushEnv", PUSH_STEPS),
    "PandaPickAndPlace": ("wpg.sim_envs.tasks.pick_and_place:PickAndPlaceEnv", PICK_AND_PLACE_STEPS),
    "PandaInsert": ("wpg.sim_envs.tasks.insert:InsertEnv", INSERT_STEPS),
}
"""Class and time limit in steps of each task, by its name."""
TRAIN_STEPS = {
    "PandaReach": 18_000,
    "PandaReachDense": 54_000,
    "PandaPush": 300_000,
    "PandaPickAndPlace": 450_000,
    "PandaInsert": 60_000,
}
"""Default number of environment steps in a training, by the task's name; also with its reward's, where that
one takes more."""


def train_steps(env_id: str) -> int | None:
    """The steps of ``TRAIN_STEPS`` for an id with any engine and reward; None: it is no task of wpg."""
    namespace, _, name = env_id.rpartition("/")
    task = name.partition("-")[0].removesuffix("Bullet")
    steps = TRAIN_STEPS.get(task, TRAIN_STEPS.get(task.removesuffix("Dense")))
    return steps if namespace == "wpg" else None


def register_envs() -> None:
    """Register every task on both engines with both rewards."""
    for task, (entry_point, steps) in TASKS.items():
        for reward, dense in (("sparse", ""), ("dense", "Dense")):
            for engine, suffix in (("mujoco", ""), ("pybullet", "Bullet")):
                env_id = f"wpg/{task}{dense}{suffix}-v0"
                if env_id not in gymnasium.registry:
                    gymnasium.register(
                        id=env_id,
                        entry_point=entry_point,
                        vector_entry_point=f"wpg.sim_envs.tasks.vector:{task.removeprefix('Panda')}VectorEnv",
                        max_episode_steps=steps,
                        kwargs={"engine": engine, "reward": reward},
                    )
