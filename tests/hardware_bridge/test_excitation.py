"""The excitation stays inside every limit of every shipped robot; playing it is safe."""

import msgspec
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description, shipped_robots
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import BridgeError, DescriptionError
from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.motions.excitation import ExcitationPlan, excitation
from wpg.hardware_bridge.motions.playing import play_path
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.testing.clocks import ManualClock

SHORT = ExcitationPlan(rounds=1, slow_s=2.0, steps_s=2.0, fast_s=1.0)


class LivingClock(ManualClock):
    """Sleeping lets a simulated robot live."""

    def __init__(self, robot):
        super().__init__()
        self._robot = robot

    def sleep_until(self, deadline_s):
        if deadline_s > self.now():
            self._robot.advance(deadline_s - self.now())
        super().sleep_until(deadline_s)


class Ticks:
    """A recorder that keeps phases and commands."""

    def __init__(self):
        self.phases, self.commands = [], []

    def tick(self, *, phase, command, **_):
        self.phases.append(phase)
        self.commands.append(command.joint_pos)


@pytest.mark.parametrize("name", shipped_robots())
def test_inside_the_limits_of_every_robot(name):
    description = load_description(name)
    path = excitation(description, ExcitationPlan(rounds=1))
    home, dt_s = description.limits("home_rad"), description.servo_dt_s
    pos = np.concatenate([[home], path.joint_pos, [home]])
    checker = LimitChecker(description)
    checker.start(home)
    for tick, (row, vel) in enumerate(zip(path.joint_pos, path.joint_vel, strict=True)):
        assert checker.check(row, vel, tick) == ()
        checker.accept(row, tick)
    share = 1.02 * description.motion_fraction
    velocity = np.diff(pos, axis=0) / dt_s
    acceleration = np.diff(velocity, axis=0) / dt_s
    jerk = np.diff(acceleration, axis=0) / dt_s
    assert (np.abs(velocity) <= share * description.limits("velocity_max_rad_s")).all()
    assert (np.abs(acceleration) <= share * description.limits("acceleration_max_rad_s2")).all()
    assert (np.abs(jerk) <= share * description.limits("jerk_max_rad_s3")).all()
    assert np.ptp(pos, axis=0).min() > 0.1
    np.testing.assert_allclose(path.joint_pos[-1], home, atol=1e-6)


def test_as_slow_as_it_is_told():
    description = msgspec.structs.replace(load_description("panda"), motion_fraction=0.02)
    path = excitation(description, SHORT)
    home, dt_s = description.limits("home_rad"), description.servo_dt_s
    pos = np.concatenate([[home], path.joint_pos, [home]])
    speed_rad_s = np.abs(np.diff(pos, axis=0)).max(axis=0) / dt_s
    assert (speed_rad_s <= 0.02 * description.limits("velocity_max_rad_s") * 1.001).all()


def lowered(by_m):
    """The Panda, mounted this much lower."""
    description = load_description("panda")
    first, *others = description.joints
    x, y, z = first.frame.xyz_m
    frame = msgspec.structs.replace(first.frame, xyz_m=(x, y, z - by_m))
    return msgspec.structs.replace(description, joints=(msgspec.structs.replace(first, frame=frame), *others))


def test_an_arm_that_hangs_moves_too():
    hanging, standing = (excitation(lowered(by_m), SHORT) for by_m in (1.0, 0.0))
    np.testing.assert_array_equal(hanging.joint_pos, standing.joint_pos)


def test_an_arm_that_may_not_go_down_at_all():
    description = load_description("panda")
    kinematics = ForwardKinematics(description.kinematics())
    height_m = float(kinematics.tool_position(description.limits("home_rad"))[2])
    with pytest.raises(DescriptionError, match="any motion brings it lower: choose another home_rad"):
        excitation(lowered(height_m), SHORT)


@pytest.mark.parametrize("half_m", [0.02, 0.05])
def test_the_tool_stays_in_its_box(half_m):
    description = load_description("panda")
    kinematics, home = ForwardKinematics(description.kinematics()), description.limits("home_rad")
    tool = kinematics.tool_position(home)
    low, high = tool - half_m, tool + half_m
    safety = SafetyConfig(workspace_m=(tuple(low.tolist()), tuple(high.tolist())))
    path = excitation(description, SHORT, safety)
    tools = np.array([kinematics.tool_position(row) for row in path.joint_pos])
    outside_m = np.maximum(low - tools, tools - high).max(axis=1)
    assert -0.6 * half_m < outside_m.max() < 1e-3, "most of the box is used"
    robot, ticks = KinematicRobot(description), Ticks()
    robot.reset(home)
    assert play_path(robot, path, ticks, clock=LivingClock(robot), safety=safety) == 0


def test_a_home_outside_the_box():
    safety = SafetyConfig(workspace_m=((1.0, 1.0, 1.0), (2.0, 2.0, 2.0)))
    with pytest.raises(DescriptionError, match=r"workspace: .* at home has its tool outside its box"):
        excitation(load_description("panda"), SHORT, safety)


def test_rounds_differ_and_the_seed_decides():
    description = load_description("panda")
    first, again, other = (
        excitation(description, ExcitationPlan(rounds=1, slow_s=2.0, steps_s=1.0, fast_s=1.0, seed=seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.joint_pos, again.joint_pos)
    assert not np.array_equal(first.joint_pos[:200], other.joint_pos[:200])


def test_goes_home_slowly_first_and_is_left_holding():
    description = load_description("panda")
    robot, ticks = KinematicRobot(description), Ticks()
    robot.reset(description.limits("home_rad") + 0.3)
    path = excitation(description, SHORT)
    assert play_path(robot, path, ticks, clock=LivingClock(robot)) == 0
    homing = np.array(
        [row for row, phase in zip(ticks.commands, ticks.phases, strict=True) if phase == "homing"]
    )
    pace = np.abs(np.diff(homing, axis=0)).max(axis=0) / description.servo_dt_s
    assert (pace <= 0.31 * description.motion_fraction * description.limits("velocity_max_rad_s")).all()
    np.testing.assert_allclose(ticks.commands[-len(path.joint_pos) :], path.joint_pos, atol=1e-6)
    assert robot.read().status is RobotStatus.HOLDING


def test_something_in_the_way_ends_the_motion_at_rest():
    description = load_description("panda")
    robot, ticks = KinematicRobot(description), Ticks()
    path = excitation(description, SHORT)
    robot.reset(description.limits("home_rad"))
    with pytest.raises(BridgeError, match="stopped by the operator"):
        play_path(
            robot,
            path,
            ticks,
            clock=LivingClock(robot),
            should_stop=lambda: "the operator" if len(ticks.phases) == 500 else "",
        )
    assert len(ticks.phases) == 500
    assert robot.read().status is RobotStatus.HOLDING
    assert np.abs(robot.read().joint_vel).max() < 1e-2


def test_an_emergency_stop_holds_at_once():
    description = load_description("panda")
    robot, ticks, emergency = KinematicRobot(description), Ticks(), EmergencyStop()
    robot.reset(description.limits("home_rad"))

    def press():
        if len(ticks.phases) == 600:
            emergency.trigger("the space bar")
        return ""

    with pytest.raises(BridgeError, match="emergency stop by the space bar"):
        play_path(
            robot,
            excitation(description, SHORT),
            ticks,
            clock=LivingClock(robot),
            should_stop=press,
            emergency=emergency,
        )
    assert len(ticks.phases) <= 601
    assert robot.read().status is RobotStatus.HOLDING
