import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.pipeline import ActionPipeline
from wpg.hardware_bridge.robot import JointCommand
from wpg.sim_envs.engines import make_robot
from wpg.sim_envs.models.scene import Scene
from wpg.sim_envs.tasks.insert import InsertEnv
from wpg.sim_envs.tasks.pick_and_place import PickAndPlaceEnv, pick_and_place_interface, pick_and_place_table


@pytest.fixture
def robot(engine, description):
    robot = make_robot(description, engine, scene=Scene(gripper=True))
    robot.reset(description.limits("home_rad"))
    yield robot
    robot.close()


def hold(robot, gripper_m, *, seconds):
    home = robot.description.limits("home_rad")
    for _ in range(round(seconds / robot.description.servo_dt_s)):
        robot.write(JointCommand(joint_pos=home, joint_vel=np.zeros_like(home), gripper_m=gripper_m))
        robot.advance(robot.description.servo_dt_s)
    return robot.read().gripper_m


def test_starts_open_and_closes_at_its_speed(robot, description):
    gripper = description.gripper
    assert robot.read().gripper_m == pytest.approx(gripper.opening_max_m)
    half = hold(robot, 0.0, seconds=0.4)
    assert half == pytest.approx(gripper.opening_max_m - 0.4 * gripper.speed_max_m_s, abs=0.008)
    assert hold(robot, 0.0, seconds=0.6) == pytest.approx(0.0, abs=2e-3)
    assert hold(robot, 0.03, seconds=0.6) == pytest.approx(0.03, abs=2e-3)
    assert hold(robot, None, seconds=0.2) == pytest.approx(0.03, abs=2e-3)


def test_fingers_leave_the_arm_alone(robot, description):
    hold(robot, 0.0, seconds=1.0)
    np.testing.assert_allclose(robot.read().joint_pos, description.limits("home_rad"), atol=1e-3)


def test_without_one_the_state_has_none(engine, description):
    robot = make_robot(description, engine)
    assert robot.read().gripper_m is None
    robot.close()


def test_arm_without_gripper_cannot_grasp(engine):
    with pytest.raises(DescriptionError, match=r"xarm6 cannot pick and place: it has no \[gripper\] table"):
        PickAndPlaceEnv(engine=engine, robot="xarm6")


def test_scene_with_gripper_needs_one(engine, description):
    bare = msgspec.structs.replace(description, gripper=None)
    with pytest.raises(DescriptionError, match=r"panda cannot grasp: it has no \[gripper\] table"):
        make_robot(bare, engine, scene=Scene(gripper=True))


@pytest.mark.parametrize("control", ["joints", "tool"])
def test_last_entry_of_the_action_is_the_opening(description, control):
    interface = pick_and_place_interface(description, pick_and_place_table(description), control)
    pipeline = ActionPipeline(interface, description)
    assert pipeline.moves_gripper
    action = np.append(np.zeros(interface.action.size - 1, np.float32), np.float32(0.03))
    assert pipeline.gripper_opening_m(action) == np.float32(0.03)
    bare = msgspec.structs.replace(description, gripper=None)
    with pytest.raises(ContractError, match="gripper: the policy needs one"):
        ActionPipeline(interface, bare)


def test_gripper_that_no_engine_can_move_is_named(engine, description):
    unmodelled = msgspec.structs.replace(
        description, gripper=msgspec.structs.replace(description.gripper, joints=None)
    )
    with pytest.raises(DescriptionError, match=r"panda cannot grasp: its \[gripper\] names no joints"):
        make_robot(unmodelled, engine, scene=Scene(gripper=True))


@pytest.mark.parametrize("clearance_m", [0.0, -0.001, 1.0])
def test_bad_clearance_is_named(clearance_m):
    with pytest.raises(
        ValueError, match=rf"clearance_m: expected above 0, at most 0\.05, found {clearance_m}"
    ):
        InsertEnv(clearance_m=clearance_m)
