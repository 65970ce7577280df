import gymnasium
import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.object_env import AREA_HIGH_M, AREA_LOW_M, CUBE, table_scale
from wpg.sim_envs.poses import tool_down
from wpg.sim_envs.push import SHORTEST_WAY_M

DOWN = np.array([0.0, 0.0, -1.0])
UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture(params=["wpg/PandaPush-v0", "wpg/PandaPushBullet-v0"])
def env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


def test_cube_and_goal_lie_apart_on_the_table(env):
    for seed in range(50):
        obs, info = env.reset(seed=seed)
        for place in (obs["achieved_goal"], obs["desired_goal"]):
            assert (place[:2] >= np.float32(AREA_LOW_M)).all()
            assert (place[:2] <= np.float32(AREA_HIGH_M)).all()
            assert place[2] == pytest.approx(CUBE.half_size_m)
        assert np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"]) > SHORTEST_WAY_M - 1e-6
        assert not info["is_success"]


def test_cube_stays_put_when_left_alone(env):
    obs, _ = env.reset(seed=0)
    for _ in range(40):
        later, *_ = env.step(np.zeros(3, np.float32))
    np.testing.assert_allclose(later["observation"][17:], obs["observation"][17:], atol=1e-3)


def test_observation_has_the_cubes_rotation(env):
    obs, _ = env.reset(seed=3)
    first, second = obs["observation"][20:26].reshape(2, 3)
    np.testing.assert_allclose([first @ first, second @ second, first @ second], [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(np.cross(first, second), UP, atol=1e-6)


@pytest.mark.parametrize("robot", ["iiwa14", "xarm6"])
def test_other_arms_push_too(robot):
    env = gymnasium.make("wpg/PandaPush-v0", robot=robot)
    obs, _ = env.reset(seed=0)
    size = load_description(robot).num_joints
    tool = obs["observation"][2 * size : 2 * size + 3]
    assert np.linalg.norm(tool - obs["achieved_goal"]) > 0.04
    env.step(np.zeros(3, np.float32))
    env.close()


@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("env_id", ["wpg/PandaPush-v0", "wpg/PandaPushBullet-v0"])
def test_small_arms_push_on_a_smaller_table(env_id, robot):
    """Everywhere a cube or a goal may lie the arm gets to, pointing down; doing nothing never succeeds."""
    env = gymnasium.make(env_id, robot=robot)
    description = load_description(robot)
    scale = table_scale(description)
    assert 0.3 < scale < 0.5
    for x in (AREA_LOW_M[0], AREA_HIGH_M[0]):
        for y in (AREA_LOW_M[1], AREA_HIGH_M[1]):
            tool_down(description, np.array([scale * x, scale * y, CUBE.half_size_m]))
    for seed in range(20):
        obs, info = env.reset(seed=seed)
        for place in (obs["achieved_goal"], obs["desired_goal"]):
            assert (place[:2] >= np.float32(scale * np.array(AREA_LOW_M)) - 1e-6).all()
            assert (place[:2] <= np.float32(scale * np.array(AREA_HIGH_M)) + 1e-6).all()
        assert not info["is_success"]
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    env.close()


def test_arm_that_cannot_is_told_so():
    with pytest.raises(DescriptionError, match=r"so101 cannot point its tool down at \[0\.5, 0\.0, 0\.18\]"):
        gymnasium.make("wpg/PandaInsert-v0", robot="so101")
