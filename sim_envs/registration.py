"""The environments' ids; imports no engine."""

import gymnasium

HORIZON_STEPS = 50


def register_envs() -> None:
    """Register every task on both engines, with sparse and with dense reward."""
    for reward, dense in (("sparse", ""), ("dense", "Dense")):
        for engine, suffix in (("mujoco", ""), ("pybullet", "Bullet")):
            gymnasium.register(
                id=f"wpg/PandaReach{dense}{suffix}-v0",
                entry_point="wpg.sim_envs.reach:ReachEnv",
                max_episode_steps=HORIZON_STEPS,
                kwargs={"engine": engine, "reward": reward},
            )
