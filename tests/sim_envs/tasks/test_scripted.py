"""Scripted policies solve the tasks on both engines, so the tasks are solvable and their frames are right."""

import gymnasium
import numpy as np
import pytest

from wpg.sim_envs.tasks.interface import term_slice
from wpg.sim_envs.tasks.scripts import Inserter, Picker, Pusher

EPISODES = 20


def successes(env, script, episodes):
    """Whether the script solves each episode."""
    found = []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        policy = script(env.unwrapped)
        for _ in range(env.spec.max_episode_steps):
            obs, _, _, _, info = env.step(policy(obs))
        found.append(info["is_success"])
    env.close()
    return found


@pytest.mark.parametrize("engine", ["", "Bullet"])
@pytest.mark.parametrize("control", ["joints", "tool"])
@pytest.mark.parametrize(
    ("task", "script"),
    [("Push", Pusher), ("PickAndPlace", Picker), ("Insert", Inserter)],
    ids=["push", "pick", "insert"],
)
def test_scripted_policy_solves_it(task, script, control, engine):
    found = successes(gymnasium.make(f"wpg/Panda{task}{engine}-v0", control=control), script, EPISODES)
    assert np.mean(found) >= 0.95, found


def test_a_cube_on_its_side_has_faces_too():
    env = gymnasium.make("wpg/PandaPickAndPlace-v0", control="joints")
    obs, _ = env.reset(seed=0)
    rotation = term_slice(env.unwrapped.interface, "object_rot6d")
    obs["observation"][rotation] = [0, 0, -1, 0, 1, 0]  # its x axis points down
    assert np.isfinite(Picker(env.unwrapped)(obs)).all()
    env.close()


@pytest.mark.parametrize("engine", ["", "Bullet"])
@pytest.mark.parametrize(
    ("task", "script", "robot"),
    [
        *(("Push", Pusher, robot) for robot in ("iiwa14", "xarm6", "so101", "omx")),
        *(("Insert", Inserter, robot) for robot in ("iiwa14", "xarm6")),
    ],
)
def test_other_arms_do_it_too(task, script, robot, engine):
    env = gymnasium.make(f"wpg/Panda{task}{engine}-v0", robot=robot, control="tool")
    found = successes(env, script, EPISODES)
    assert np.mean(found) >= 0.95, found
