import gymnasium
import numpy as np
import pytest
from msgspec.structs import replace

from wpg.hardware_bridge.description import load_description, shipped_robots
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.errors import EffectsError
from wpg.sim_envs.tasks.interface import term_slice
from wpg.sim_envs.tasks.poses import tool_down
from wpg.sim_envs.tasks.push import DISTANCE_MIN_M, push_table
from wpg.sim_envs.tasks.table import CUBE, LOWEST_TOOL_M, SMALL_CUBE

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
            assert (place[:2] >= np.float32([0.40, -0.15])).all()
            assert (place[:2] <= np.float32([0.60, 0.15])).all()
            assert place[2] == pytest.approx(CUBE.half_size_m)
        assert np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"]) > DISTANCE_MIN_M - 1e-6
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


@pytest.mark.parametrize("task", ["Push", "PickAndPlace"])
def test_tool_starts_above_a_raised_table(task):
    env = gymnasium.make(f"wpg/Panda{task}-v0", effects={"table_height_m": 0.05})
    for seed in range(30):
        env.reset(seed=seed)
        assert env.unwrapped.robot.tool_position()[2] > 0.05 + LOWEST_TOOL_M - 2e-3
    env.close()


@pytest.mark.parametrize(
    ("task", "height", "found"),
    [
        ("Push", -0.03, "-0.018 to 0.06 .* found -0.03"),
        ("Push", [-0.01, 0.1], "-0.018 to 0.06 .* found 0.1"),
        ("PickAndPlace", [-0.02, 0.0], "-0.018 to 0.08 .* found -0.02"),
    ],
)
def test_table_out_of_the_tools_reach_is_refused(task, height, found):
    with pytest.raises(EffectsError, match=f"table_height_m: expected {found}"):
        gymnasium.make(f"wpg/Panda{task}-v0", effects={"table_height_m": height})


@pytest.mark.parametrize(("task", "highest"), [("Push", 0.06), ("PickAndPlace", 0.08)])
def test_table_at_the_ends_of_the_range_is_taken(task, highest):
    gymnasium.make(f"wpg/Panda{task}-v0", effects={"table_height_m": [-0.018, highest]}).close()


@pytest.mark.parametrize("robot", shipped_robots())
@pytest.mark.parametrize("env_id", ["wpg/PandaPush-v0", "wpg/PandaPushBullet-v0"])
def test_every_arm_has_a_table_that_it_reaches(env_id, robot):
    """It reaches every corner pointing down, and starts clear of the cube; doing nothing never succeeds."""
    env = gymnasium.make(env_id, robot=robot)
    description = load_description(robot)
    table = push_table(description)
    assert table.cube == (SMALL_CUBE if description.bus is not None else CUBE)
    assert 0.35 <= table.scale <= (1.0 if description.bus is None else 0.5)
    for x in (table.low_m[0], table.high_m[0]):
        for y in (table.low_m[1], table.high_m[1]):
            tool_down(description, np.array([x, y, table.cube.half_size_m]))
    tool = term_slice(env.unwrapped.interface, "tool_pos")
    for seed in range(10):
        obs, info = env.reset(seed=seed)
        for place in (obs["achieved_goal"], obs["desired_goal"]):
            assert (place[:2] >= np.float32(table.low_m) - 1e-6).all()
            assert (place[:2] <= np.float32(table.high_m) + 1e-6).all()
        away = np.linalg.norm(obs["observation"][tool][:2] - obs["achieved_goal"][:2])
        assert away > table.clearance_m - 2e-3
        assert not info["is_success"]
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    env.close()


def test_arm_that_points_down_but_reaches_nowhere_is_told_so():
    """An OpenMANIPULATOR-X whose hand is as wide as its reach."""
    omx = load_description("omx")
    wide = replace(omx, simulation=replace(omx.simulation, tool_radius_m=0.1))
    with pytest.raises(
        DescriptionError, match=r"omx has too little room on the table: .* from 0\.\d\d to 0\.\d\d m"
    ):
        push_table(wide)


def test_arm_that_cannot_is_told_so():
    with pytest.raises(DescriptionError, match=r"so101 cannot point its tool down at \[0\.5, 0\.0, 0\.18\]"):
        gymnasium.make("wpg/PandaInsert-v0", robot="so101")
