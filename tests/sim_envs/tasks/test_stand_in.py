import numpy as np
import pytest

from wpg.hardware_bridge.robot import JointCommand, RobotStatus
from wpg.sim_envs.errors import EngineError
from wpg.sim_envs.tasks.stand_in import PATIENCE_S, TableStandIn, upright


@pytest.fixture(params=["mujoco", "pybullet"])
def table(request):
    table = TableStandIn("PandaPush", "panda", request.param, seed=3)
    yield table
    table.robot.close()


def on_table(place) -> bool:
    return bool((place[:2] >= (0.40, -0.15)).all() and (place[:2] <= (0.60, 0.15)).all())


def stand_at_start(table) -> None:
    """Move the arm to where goals begin, as the bridge does."""
    table.robot.reset(table._start.joint_pos)


class TestTable:
    def test_arm_at_home_on_its_brakes_and_the_object_on_the_table(self, table):
        state = table.robot.read()
        home = table.robot.description.limits("home_rad")
        np.testing.assert_allclose(state.joint_pos, home, atol=1e-6)
        assert state.status is RobotStatus.HOLDING
        place, rotation = table.look()
        assert on_table(place)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)

    def test_arms_like_any_robot(self, table):
        home = table.robot.description.limits("home_rad")
        table.robot.arm()
        table.robot.write(JointCommand(joint_pos=home + 0.05, joint_vel=0 * home))
        table.robot.advance(0.5)
        np.testing.assert_allclose(table.robot.read().joint_pos, home + 0.05, atol=0.01)

    def test_object_out_of_reach_is_put_back_while_the_arm_stands_out_of_the_way(self, table):
        far = np.array([0.9, 0.0, 0.02])
        table.robot.place_cube(far, 0.0)
        for now_s in (0.0, PATIENCE_S, 2 * PATIENCE_S):
            table.advance_to(now_s)  # the arm is at home
        np.testing.assert_allclose(table.look()[0], far, atol=1e-6)
        stand_at_start(table)
        table.robot.place_cube(far, 0.0)
        for now_s in (2.1 * PATIENCE_S, 2.9 * PATIENCE_S):
            table.advance_to(now_s)
            assert table.put_backs == 0
        table.advance_to(3.1 * PATIENCE_S)
        assert table.put_backs == 1
        assert on_table(table.look()[0])

    def test_object_in_the_area_is_left_alone(self, table):
        stand_at_start(table)
        table.robot.place_cube(np.array([0.61, 0.1, 0.02]), 0.0)
        for now_s in (0.0, 5.0, 10.0):
            table.advance_to(now_s)
        assert table.put_backs == 0


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cube_on_its_side_looks_upright(axis, sign):
    tipped = np.roll(np.eye(3), axis, axis=1) * sign
    tipped[:, 0] *= np.linalg.det(tipped)
    turned = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ tipped
    seen = upright(turned)
    np.testing.assert_allclose(seen[:, 2], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(seen @ seen.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(seen) == pytest.approx(1.0)
    # The same faces, in another order.
    np.testing.assert_allclose(np.sort(np.abs(seen.T @ turned).ravel()), [0] * 6 + [1] * 3, atol=1e-12)


def test_the_seed_decides_where_the_object_lies():
    places = []
    for seed in (1, 1, 2):
        table = TableStandIn("PandaPush", "panda", seed=seed)
        places.append(table.look()[0])
        table.robot.close()
    np.testing.assert_array_equal(places[0], places[1])
    assert not np.allclose(places[0], places[2])


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("PandaFly", "expected PandaPush, PandaPickAndPlace or PandaInsert"),
        ("wpg/PandaReach-v0", "no task 'wpg/PandaReach-v0' with an object or a hole"),
        ("wpg/PandaPushBullet-v0", "no task 'wpg/PandaPushBullet-v0' with an object or a hole"),
    ],
)
def test_tasks_that_cannot_be_emulated(task, line):
    with pytest.raises(EngineError, match=line):
        TableStandIn(task, "panda")


def test_an_id_names_a_task_too():
    table = TableStandIn("wpg/PandaPush-v0", "panda")
    assert table.robot.cube_state().position_m.shape == (3,)
    table.robot.close()
