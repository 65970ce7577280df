"""The environments' ids; imports no engine."""

import gymnasium

HORIZON_STEPS = 50


def register_envs() -> None:
    """Register every task on both engines, with sparse and with dense reward."""
    for reward, dense in (("sparse", ""), ("dense", "Dense")):
        for engine, suffix in (("mujoco", ""), ("pybullet", "Bullet")):
            env_id = f"wpg/PandaReach{dense}{suffix}-v0"
            if env_id in gymnasium.registry:
                continue
            gymnasium.register(
                id=env_id,
                entry_point="wpg.sim_envs.reach:ReachEnv",
                max_episode_steps=HORIZON_STEPS,
                kwargs={"engine": engine, "reward": reward},
            )
