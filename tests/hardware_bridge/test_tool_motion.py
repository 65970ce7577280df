"""Displacements of the tool as joint targets."""

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.export.interface import ToolControl
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.checks import check_interface
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.tool_motion import LONGEST_STEP_RAD, ToolMotion
from wpg.sim_envs.tasks.reach import reach_interface

WAYS_M = 0.02 * np.vstack([np.eye(3), -np.eye(3)])


def control_of(description, low_m=(-1.0, -1.0, -1.0), high_m=(1.0, 1.0, 1.0)):
    home = description.limits("home_rad")
    return ToolControl(
        axis=description.approach, posture_rad=tuple(home.tolist()), low_m=low_m, high_m=high_m
    )


@pytest.fixture(params=["panda", "xarm6", "iiwa14", "so101", "omx"])
def arm(request):
    """Joints at home, kinematics, what moves the tool from there."""
    description = load_description(request.param)
    home = description.limits("home_rad")
    chain = description.kinematics()
    return home, ForwardKinematics(chain), ToolMotion(chain, control_of(description))


def test_tool_goes_where_it_is_told(arm):
    """A little short where the arm has too few joints to keep its direction."""
    home, kinematics, motion = arm
    before = kinematics.tool_position(home)
    for way in WAYS_M:
        moved = kinematics.tool_position(motion.joint_target(way, home)) - before
        assert moved @ way > 0.6 * way @ way
        assert np.linalg.norm(moved - way) < 0.4 * np.linalg.norm(way)


def test_direction_is_kept_on_a_long_way():
    description = load_description("panda")
    home = description.limits("home_rad")
    chain = description.kinematics()
    kinematics = ForwardKinematics(chain)
    motion = ToolMotion(chain, control_of(description))
    joint_pos = home
    for way in [[0.0, 0.02, 0.0]] * 8 + [[-0.02, 0.0, 0.0]] * 4 + [[0.0, 0.0, -0.02]] * 6:
        joint_pos = motion.joint_target(np.array(way), joint_pos)
    went = kinematics.tool_position(joint_pos) - kinematics.tool_position(home)
    np.testing.assert_allclose(went, [-0.08, 0.16, -0.12], atol=0.01)
    tilt = kinematics.tool_pose(joint_pos)[:3, 2] @ kinematics.tool_pose(home)[:3, 2]
    assert tilt > np.cos(0.05)


def test_arm_at_its_posture_stays(arm):
    home, _, motion = arm
    np.testing.assert_allclose(motion.joint_target(np.zeros(3), home), home, atol=1e-9)


def test_tool_is_not_sent_out_of_its_box():
    description = load_description("panda")
    joint_pos, chain = description.limits("home_rad"), description.kinematics()
    kinematics = ForwardKinematics(chain)
    low, high = kinematics.tool_position(joint_pos) + np.array([[-0.1], [0.05]])
    motion = ToolMotion(chain, control_of(description, tuple(low.tolist()), tuple(high.tolist())))
    for way in np.random.default_rng(0).uniform(-0.05, 0.05, (300, 3)).repeat(5, axis=0):
        joint_pos = motion.joint_target(way, joint_pos)
        tool = kinematics.tool_position(joint_pos)
        assert (tool > low - 0.01).all()
        assert (tool < high + 0.01).all()


def test_joints_stay_calm_when_the_arm_is_stretched_out(arm):
    home, _, motion = arm
    for stance in (np.zeros(len(home)), home):
        for way in 25.0 * WAYS_M:
            target = motion.joint_target(way, stance)
            assert np.abs(target - stance).max() <= LONGEST_STEP_RAD + 1e-9


def test_posture_of_another_arm_is_refused():
    description = load_description("panda")
    interface = reach_interface(description, "tool")
    check_interface(interface, description)
    tool = msgspec.structs.replace(interface.action.tool, posture_rad=(0.0,) * 6)
    action = msgspec.structs.replace(interface.action, tool=tool)
    with pytest.raises(ContractError, match="action posture: expected 7 joints of panda, found 6"):
        check_interface(msgspec.structs.replace(interface, action=action), description)


def test_tool_control_goes_with_its_mode():
    action = reach_interface(load_description("panda"), "tool").action
    for changes in ({"tool": None}, {"mode": "joint_position"}):
        with pytest.raises(ValueError, match="tool control goes with tool_position_delta alone"):
            msgspec.structs.replace(action, **changes).__post_init__()


def test_inverted_box_is_refused():
    with pytest.raises(ValueError, match="tool's box is inverted"):
        control_of(load_description("panda"), high_m=(1.0, 1.0, -2.0))
