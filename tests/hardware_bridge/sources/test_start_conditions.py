"""Where a goal may begin, for a policy that pushes."""

import numpy as np
import pytest
from msgspec.structs import replace

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.start_conditions import StartConditions
from wpg.hardware_bridge.robot import RobotState
from wpg.hardware_bridge.tool_motion import ToolMotion

CUBE = np.array([0.5, 0.0, 0.02])


@pytest.fixture(scope="module")
def interface(description):
    from wpg.sim_envs.tasks.push import push_interface, push_table

    return push_interface(description, push_table(description))


@pytest.fixture(scope="module")
def start(interface, description):
    return StartConditions(interface, description)


@pytest.fixture(scope="module")
def kinematics(description):
    return ForwardKinematics(description.kinematics())


def standing(joint_pos, gripper_m=None) -> RobotState:
    blank = np.zeros_like(joint_pos)
    return RobotState(
        joint_pos=joint_pos,
        joint_vel=blank,
        joint_torque=blank,
        time_s=0.0,
        sequence=0,
        gripper_m=gripper_m,
    )


@pytest.fixture(scope="module")
def low(interface, description, kinematics, start):
    """Joints with the tool beside the cube, just over the table."""
    motion, joint_pos = ToolMotion(description.kinematics(), interface.action.tool), start.joint_pos
    place = CUBE + np.array([0.0, 0.05, 0.0])
    for _ in range(20):
        joint_pos = motion.joint_target(place - kinematics.tool_position(joint_pos), joint_pos)
    return joint_pos


class TestArm:
    def test_starts_from_the_posture_not_from_home(self, start, interface, description):
        home = description.limits("home_rad")
        assert not start.allow(standing(home), CUBE)
        assert start.joint_pos.tolist() == list(interface.action.tool.posture_rad)
        assert start.allow(standing(start.joint_pos), CUBE)

    @pytest.mark.parametrize("side", [-1, 1])
    def test_not_far_from_the_posture_on_either_side(self, interface, description, side):
        goal = replace(interface.goal, start_spread_rad=0.1)
        start = StartConditions(replace(interface, goal=goal), description)
        for turn_rad, begins in ((0.099, True), (0.101, False)):
            turned = start.joint_pos.copy()
            turned[6] += side * turn_rad
            assert start.allow(standing(turned), CUBE) is begins

    def test_not_beside_the_object(self, start, low):
        assert not start.allow(standing(low), CUBE)
        assert start.allow(standing(low), CUBE - np.array([0.0, 0.02, 0.0]))

    def test_rises_before_it_leaves(self, start, low, kinematics, interface):
        top = interface.action.tool.high_m[2]
        joint_pos, steps = low, 0
        while (up := start.way_up(joint_pos)) is not None:
            joint_pos, steps = up, steps + 1
        assert 1 <= steps <= 4
        risen = kinematics.tool_position(joint_pos)
        np.testing.assert_allclose(risen, [*kinematics.tool_position(low)[:2], top], atol=0.02)
        # From there on the way in joint space stays over the cube.
        way = [joint_pos + share * (start.joint_pos - joint_pos) for share in np.linspace(0, 1, 50)]
        assert min(kinematics.tool_position(q)[2] for q in way) > 2 * CUBE[2]

    def test_a_policy_without_an_object_does_not(self, interface, description, low):
        goal = replace(interface.goal, achieved="tool_pos", start_clearance_m=None)
        start = StartConditions(replace(interface, goal=goal), description)
        assert start.way_up(low) is None
        assert start.misplaced(CUBE + 10.0) == ""


class TestObject:
    @pytest.mark.parametrize(
        ("place", "well"),
        [
            ((0.5, 0.0, 0.02), True),
            ((0.36, -0.19, 0.02), True),
            ((0.34, 0.0, 0.02), False),
            ((0.5, 0.21, 0.02), False),
            ((0.5, 0.0, -0.5), False),
            ((np.nan, 0.0, 0.02), False),
        ],
    )
    def test_lies_in_the_goals_area_give_or_take_the_tolerance(self, start, place, well):
        assert (start.misplaced(np.array(place)) == "") is well
        assert start.allow(standing(start.joint_pos), np.array(place)) is well

    def test_rests(self, start):
        assert not start.rests(CUBE, 0.0)
        assert not start.rests(CUBE + 0.001, 0.4)
        assert start.rests(CUBE, 0.6)
        assert not start.rests(CUBE + 0.02, 0.7)

    def test_does_not_rest_while_nobody_looks(self, start):
        assert not start.rests(CUBE, 0.0)
        assert not start.rests(CUBE, 5.0)
        assert start.rests(CUBE, 5.5)


class TestGripper:
    @pytest.fixture
    def picking(self, interface, description):
        return StartConditions(interface, description, opens=True)

    def test_begins_open(self, picking):
        for gripper_m, begins in ((0.08, True), (0.073, True), (0.071, False), (0.0, False)):
            state = standing(picking.joint_pos, gripper_m)
            assert picking.allow(state, CUBE) is begins
            assert picking.is_open(state) is begins

    def test_is_of_no_matter_to_a_policy_that_moves_none(self, start):
        assert start.is_open(standing(start.joint_pos, 0.0))
        assert start.is_open(standing(start.joint_pos))

    def test_what_it_holds_is_set_down(self, picking, kinematics):
        joint_pos = picking.joint_pos
        place = kinematics.tool_position(joint_pos)
        offset = np.array([0.01, 0.0, 0.0])
        steps = 0
        while (down := picking.way_down(joint_pos, place + offset)) is not None:
            joint_pos, steps = down, steps + 1
            place = kinematics.tool_position(joint_pos)
        assert 1 <= steps <= 5
        assert 0.015 < place[2] < 0.026

    def test_what_it_does_not_hold_is_not(self, picking, kinematics):
        tool = kinematics.tool_position(picking.joint_pos)
        assert picking.way_down(picking.joint_pos, tool + np.array([0.05, 0.0, 0.0])) is None
        assert picking.way_down(picking.joint_pos, CUBE) is None
