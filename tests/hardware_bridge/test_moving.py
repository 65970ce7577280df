"""What moves by a plan ends like a run: braked, held, and said to be so only where it is."""

import dataclasses

import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import BridgeError, LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.motions.excitation import MotionPath
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.motions.playing import play_path
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import STATUS_AFTER_STOP, RobotStatus, StopMode
from wpg.hardware_bridge.run_log.recorder import NoRecorder

LAST = 301
"""Number of commands of a motion that begins at home: homing, resting, and the path."""


def _play(robot, **options):
    """From where the arm stands to its home, and a second there."""
    home = np.tile(robot.description.limits("home_rad"), (200, 1))
    return play_path(robot, MotionPath(joint_pos=home, joint_vel=0 * home), NoRecorder(), **options)


@pytest.fixture(params=[check_joints, _play], ids=["check", "play"])
def move(request, bench, description):
    """Moves the arm of the bench; ``act`` is called while it moves fast, ``then`` two commands later."""
    bench.simulated.place(description.limits("home_rad") + 0.3)
    bench.arm.begin(0.0)
    write, last = bench.robot.write, []

    def move(act=lambda: None, then=lambda: None, **options):
        def writing(command):
            last.append(command.joint_pos)
            if len(last) in (50, 52):
                (act if len(last) == 50 else then)()
            return write(command)

        bench.robot.write = writing
        return request.param(bench.robot, clock=bench.clock, **options)

    move.commands = last
    return move


def test_a_request_to_stop_brakes_then_holds(move, bench):
    reasons = []
    with pytest.raises(BridgeError, match=r"^stopped by SIGTERM$"):
        move(lambda: reasons.append("SIGTERM"), should_stop=lambda: "".join(reasons))
    assert len(move.commands) > 51
    assert np.abs(move.commands[-1] - move.commands[-2]).max() < 1e-5
    assert bench.arm.status is RobotStatus.HOLDING
    assert bench.witness.commands_outside_limits == 0


@pytest.mark.parametrize("mode", StopMode)
def test_a_check_leaves_the_arm_as_asked(bench, mode):
    assert all(joint.ok for joint in check_joints(bench.robot, clock=bench.clock, final_stop=mode))
    assert bench.arm.status is STATUS_AFTER_STOP[mode]


def test_an_emergency_stop_leaves_the_arm_holding_whatever_was_asked(bench):
    emergency, arm = EmergencyStop(), bench.robot.arm
    bench.robot.arm = lambda: (arm(), emergency.trigger("the test"))
    with pytest.raises(BridgeError, match=r"^emergency stop by the test"):
        check_joints(bench.robot, clock=bench.clock, emergency=emergency, final_stop=StopMode.RELEASE)
    assert bench.arm.status is RobotStatus.HOLDING


def test_an_emergency_stop_holds_at_once(move, bench):
    emergency = EmergencyStop()
    with pytest.raises(BridgeError, match=r"^emergency stop by the test: at rest \d+ ms later$"):
        move(lambda: emergency.trigger("the test"), emergency=emergency)
    assert len(move.commands) == 50
    assert bench.arm.status is RobotStatus.HOLDING


def test_an_emergency_stop_ends_braking(move, bench):
    emergency, reasons = EmergencyStop(), []

    def should_stop():
        if reasons:
            emergency.trigger("the second SIGINT")
        return "".join(reasons)

    with pytest.raises(BridgeError, match=r"^emergency stop by the second SIGINT: at rest"):
        move(lambda: reasons.append("SIGINT"), should_stop=should_stop, emergency=emergency)
    assert len(move.commands) == 50


@pytest.mark.parametrize(
    "asked", [{"should_stop": lambda: "SIGTERM"}, {"emergency": EmergencyStop(lambda: "a key")}]
)
def test_asked_for_before_arming_torque_stays_off(move, bench, asked):
    with pytest.raises(BridgeError, match=r"stop.* by"):
        move(**asked)
    assert bench.witness.arms == 0
    assert bench.witness.stops == {}


def test_a_suspended_process_does_not_move_the_arm_again(move, bench):
    with pytest.raises(BridgeError, match=r"^stopped by suspended: this process was suspended for 2\.1 s"):
        move(lambda: bench.clock.advance(2.1))
    assert len(move.commands) == 50
    assert bench.arm.status is RobotStatus.HOLDING


def test_a_blocked_arm_ends_it(move, bench):
    read = bench.robot.read

    def block():
        stuck = read().joint_pos + 0.6
        bench.robot.read = lambda: dataclasses.replace(read(), joint_pos=stuck)

    with pytest.raises(BridgeError, match=r"tracking_error: a joint is 0\.\d\d rad from its setpoint$"):
        move(block)
    assert len(move.commands) == 50, "it would be pressed on while it brakes"
    assert bench.arm.status is RobotStatus.HOLDING


@pytest.mark.parametrize("urgent", [False, True])
def test_an_arm_that_is_not_seen_to_hold_is_said_so(move, bench, urgent):
    emergency, reasons = EmergencyStop(), []

    def fail():
        reasons.append("SIGTERM")
        if urgent:
            emergency.trigger("the test")
        bench.arm.stop = lambda mode: None

    said = "emergency stop by the test: .*" if urgent else "stopped by SIGTERM; .*"
    with pytest.raises(BridgeError, match=said + "not confirmed, cut the power: .*HOLD"):
        move(fail, emergency=emergency, should_stop=lambda: "".join(reasons))


def test_no_state_once_armed(move, bench):
    arm = bench.robot.arm

    def silent():
        arm()
        bench.robot.read = lost

    def lost():
        raise StaleStateError("nothing")

    bench.robot.arm = silent
    with pytest.raises(StaleStateError, match="reports no finite state"):
        move()
    assert move.commands == []
    assert bench.witness.stops == {"hold": 1}


@pytest.mark.parametrize("error", [StaleStateError, LinkError])
def test_arming_that_is_not_answered_still_stops(move, bench, error):
    arm = bench.robot.arm

    def unanswered():
        arm()
        raise error("no answer")

    bench.robot.arm = unanswered
    with pytest.raises(error, match=r"^no answer$"):
        move()
    assert bench.witness.stops == {"hold": 1}


def test_what_another_client_commands_is_left_alone(move, bench):
    other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
    other.connect()
    other.arm()
    with pytest.raises(ProtocolError, match="another client"):
        move()
    assert bench.witness.stops == {}


@pytest.mark.parametrize("mode", StopMode)
def test_what_another_client_has_stopped_is_left_as_it_is(move, bench, mode):
    other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
    other.connect()
    with pytest.raises(BridgeError, match=r"^stopped by device_stop: somebody else has stopped the robot"):
        move(lambda: other.stop(mode))
    assert bench.witness.stops == {mode.name.lower(): 1}
    assert bench.arm.status is STATUS_AFTER_STOP[mode]


@pytest.fixture
def brake(move):
    """Moves the arm of the bench, brakes it because of SIGINT, and calls ``then`` while it brakes."""
    reasons = []

    def brake(then):
        move(lambda: reasons.append("SIGINT"), then, should_stop=lambda: "".join(reasons))

    return brake


@pytest.mark.parametrize("mode", StopMode)
def test_what_is_stopped_by_another_client_while_it_brakes_is_left_as_it_is(brake, move, bench, mode):
    other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
    other.connect()
    with pytest.raises(BridgeError, match=r"^stopped by SIGINT; device_stop: somebody else has stopped"):
        brake(lambda: other.stop(mode))
    assert len(move.commands) == 52
    assert bench.witness.stops == {mode.name.lower(): 1}
    assert bench.arm.status is STATUS_AFTER_STOP[mode]


def test_an_arm_that_is_blocked_while_it_brakes_is_not_pressed_on(brake, move, bench):
    read = bench.robot.read

    def block():
        stuck = read().joint_pos + 0.6
        bench.robot.read = lambda: dataclasses.replace(read(), joint_pos=stuck)

    with pytest.raises(BridgeError, match=r"^stopped by SIGINT; tracking_error: a joint is 0\.\d\d rad"):
        brake(block)
    assert len(move.commands) == 52
    assert bench.arm.status is RobotStatus.HOLDING


def test_an_arm_is_not_braked_on_after_a_suspension(brake, move, bench):
    with pytest.raises(BridgeError, match=r"^stopped by SIGINT; suspended: this process was suspended for 3"):
        brake(lambda: bench.clock.advance(3.0))
    assert len(move.commands) == 52
    assert bench.arm.status is RobotStatus.HOLDING


def test_a_fault_while_it_brakes_is_told(brake, bench):
    read = bench.robot.read

    def fail():
        bench.robot.read = lambda: dataclasses.replace(read(), status=RobotStatus.FAULT, fault="too hot")

    with pytest.raises(BridgeError, match=r"^stopped by SIGINT; device_fault: .*too hot$"):
        brake(fail)
    assert bench.witness.stops == {"hold": 1}


def test_what_is_released_while_it_rests_is_not_held_afterwards(bench):
    other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
    other.connect()
    asked = []

    def release_and_stop():
        asked.append("SIGINT")
        if len(asked) == 100:
            other.stop(StopMode.RELEASE)
        return asked[0] if len(asked) >= 100 else ""

    with pytest.raises(BridgeError, match=r"^stopped by SIGINT; device_stop: "):
        _play(bench.robot, clock=bench.clock, should_stop=release_and_stop)
    assert bench.witness.stops == {"release": 1}


def test_what_is_released_after_the_last_command_is_not_held_afterwards(bench):
    other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
    other.connect()
    write, sent = bench.robot.write, []

    def writing(command):
        sent.append(write(command))
        if len(sent) == LAST:
            other.stop(StopMode.RELEASE)
        return sent[-1]

    bench.robot.write = writing
    with pytest.raises(BridgeError, match=r"^device_stop: somebody else has stopped the robot"):
        _play(bench.robot, clock=bench.clock)
    assert len(sent) == LAST
    assert bench.witness.stops == {"release": 1}


def box_around(description, joint_pos, low_m, high_m):
    """Thresholds with a box whose corners are this far from where the tool is at ``joint_pos``."""
    tool = ForwardKinematics(description.kinematics()).tool_position(joint_pos)
    low, high = (tuple((tool + corner).tolist()) for corner in (low_m, high_m))
    return SafetyConfig(workspace_m=(low, high))


def test_an_arm_outside_its_box_is_not_armed(move, bench):
    safety = box_around(bench.description, bench.simulated._pos, [0.1] * 3, [0.5] * 3)
    with pytest.raises(BridgeError, match=r"^workspace: expected the tool between|brings the tool out of"):
        move(safety=safety)
    assert bench.witness.arms == 0


@pytest.mark.parametrize(("low_y_m", "high_y_m", "expected"), [(-0.01, 0.3, 0.05), (-0.3, 0.01, -0.05)])
def test_a_check_moves_a_joint_to_where_the_tool_stays_in_its_box(bench, low_y_m, high_y_m, expected):
    home = bench.description.limits("home_rad")
    safety = box_around(bench.description, home, [-0.5, low_y_m, -0.5], [0.5, high_y_m, 0.5])
    write, first_joint = bench.robot.write, []
    bench.robot.write = lambda command: first_joint.append(command.joint_pos[0]) or write(command)
    assert all(joint.ok for joint in check_joints(bench.robot, clock=bench.clock, safety=safety))
    assert max(np.array(first_joint) - home[0], key=abs) == pytest.approx(expected, abs=1e-3)


def test_a_check_that_cannot_stay_in_the_box_is_refused(bench):
    home = bench.description.limits("home_rad")
    safety = box_around(bench.description, home, [-0.5, -0.01, -0.5], [0.5, 0.01, 0.5])
    with pytest.raises(BridgeError, match=r"^workspace: moving joint panda_joint1 by 0\.05 rad brings"):
        check_joints(bench.robot, clock=bench.clock, safety=safety)
    assert bench.witness.arms == 0
    assert all(
        joint.ok for joint in check_joints(bench.robot, clock=bench.clock, travel_rad=0.01, safety=safety)
    )


@pytest.fixture
def aside(bench, description):
    """Places the arm to the right; where it is then, and the same to the left."""
    right, left = description.limits("home_rad"), description.limits("home_rad")
    right[0], left[0] = -0.6, 0.6
    bench.simulated.place(right)
    bench.arm.begin(0.0)
    return right, left


def test_a_planned_motion_outside_the_box_is_refused(aside, bench):
    right, _ = aside
    safety = box_around(bench.description, right, [-0.1] * 3, [0.1] * 3)
    with pytest.raises(BridgeError, match=r"^workspace: the planned motion brings the tool out of its box$"):
        _play(bench.robot, clock=bench.clock, safety=safety)
    assert bench.witness.arms == 0


def test_the_way_to_the_motion_may_not_leave_the_box_either(aside, bench):
    right, left = aside
    # On its way the tool goes along an arc, farther forward than it begins and ends.
    safety = box_around(bench.description, right, [-0.5, -0.1, -0.5], [0.02, 2.0, 0.5])
    path = np.tile(left, (10, 1))
    with pytest.raises(BridgeError, match=r"^stopped by workspace: the tool is about to leave its box by"):
        play_path(
            bench.robot,
            MotionPath(joint_pos=path, joint_vel=0 * path),
            NoRecorder(),
            clock=bench.clock,
            safety=safety,
        )
    assert bench.arm.status is RobotStatus.HOLDING
    assert bench.simulated.tool_position()[0] < safety.workspace_m[1][0] + 0.01


@pytest.mark.parametrize("stale_s", [None, 0.1])
def test_thresholds_are_those_of_a_run(move, bench, stale_s):
    read, asked = bench.robot.read, []

    def late():
        asked.append(None)
        if len(asked) <= 8:
            raise StaleStateError("late")
        return read()

    def act():
        bench.robot.read = late

    if stale_s is None:
        with pytest.raises(BridgeError, match=r"^stopped by stale_state: the last state is 2\d ms old$"):
            move(act)
    else:
        move(act, safety=SafetyConfig(stale_s=stale_s))
    assert bench.arm.status is RobotStatus.HOLDING


def test_what_is_no_trouble_of_the_robot_holds_too(move, bench):
    def broken():
        bench.arm.stop = lambda mode: None
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        move(broken)
    assert "cut the power" in raised.value.__notes__[0]


def test_damped_instead_of_held(move, bench):
    stop = bench.arm.stop
    bench.arm.stop = lambda mode: stop(mode) if mode is StopMode.DAMP else None
    with pytest.raises(BridgeError, match=r"^damped instead of held: "):
        move()
