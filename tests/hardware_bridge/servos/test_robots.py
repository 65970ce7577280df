"""The drivers on emulated servos, and the control loop on top of them."""

import threading

import msgspec
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.checks import check_stance
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulator import Emulator
from wpg.hardware_bridge.errors import (
    BridgeError,
    DescriptionError,
    LinkError,
    ProtocolError,
    StaleStateError,
)
from wpg.hardware_bridge.faults import FaultSpec, parse_faults
from wpg.hardware_bridge.joint_check import check_joints
from wpg.hardware_bridge.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.loop import ControlLoop
from wpg.hardware_bridge.loop_config import LoopConfig
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotStatus, StopMode
from wpg.hardware_bridge.servo_models import DXL_HARDWARE_ERROR, RAD_PER_COUNT
from wpg.hardware_bridge.servo_robot import ServoRobotConfig
from wpg.hardware_bridge.session import open_robot

HALF_COUNT_RAD = RAD_PER_COUNT / 2 + 1e-9


def drive(bench, joint_pos, ticks=100):
    """Send one set-point at the servo rate until the arm is there; returns the last state."""
    for _ in range(ticks):
        bench.robot.write(bench.at(joint_pos))
        bench.clock.advance(bench.description.servo_dt_s)
        state = bench.robot.read()
    return state


class TestConnect:
    def test_reports_the_arm_at_home_without_torque(self, shipped):
        shipped.robot.connect()
        state = shipped.robot.read()
        home = shipped.description.limits("home_rad")
        np.testing.assert_allclose(state.joint_pos, home, atol=HALF_COUNT_RAD)
        assert state.status is RobotStatus.IDLE
        assert shipped.arm.status is RobotStatus.IDLE
        assert isinstance(shipped.robot, Robot)
        assert shipped.robot.frames_bad == 0
        check_stance(state, shipped.description)

    def test_nobody_answers(self, bench):
        bench.link.silent = True
        with pytest.raises(
            LinkError, match="none of the servos 1, 2, 3, 4, 5, 6 answers; is the arm powered"
        ):
            bench.robot.connect()

    def test_one_servo_is_absent(self, bench):
        bench.servo("elbow_flex").is_dead = True
        with pytest.raises(StaleStateError, match="no answer from servo 3; 5 others answer"):
            bench.robot.connect()

    def test_servos_of_another_kind_or_in_another_mode(self, bench):
        servo = bench.servo("wrist_flex")
        servo.set(servo.model.operating_mode, 1)
        with pytest.raises(
            ProtocolError, match=r"servo 4 \(wrist_flex\): operating mode: expected \d.*, found 1"
        ):
            bench.robot.connect()
        servo.set(servo.model.model, 5)
        with pytest.raises(ProtocolError, match=r"servo 4 \(wrist_flex\): model: expected \d+, found 5"):
            bench.robot.connect()

    def test_before_connecting_and_again(self, bench):
        with pytest.raises(LinkError, match="connect"):
            bench.robot.read()
        bench.connected()
        bench.robot.close()
        bench.robot.close()
        bench.robot.connect()
        assert bench.robot.read().sequence == 1

    def test_return_delays_are_waited_for(self, bench):
        for servo in bench.device.servos.values():
            servo.set(servo.model.return_delay, 250)
        assert bench.connected().read().status is RobotStatus.ARMED

    def test_adapter_that_echoes(self, bench):
        bench.link.echo = True
        np.testing.assert_array_equal(bench.connected().read().joint_pos, np.zeros(6))


class TestArm:
    def test_nothing_moves_and_every_servo_has_torque(self, shipped):
        before = shipped.arm.state.joint_pos
        # Where a goal may have been left by whoever was here before.
        for servo in shipped.device.servos.values():
            servo.set(servo.model.goal_position, 3000)
        shipped.connected()
        for _ in range(50):
            shipped.clock.advance(0.01)
            state = shipped.robot.read()
        assert state.status is RobotStatus.ARMED
        np.testing.assert_allclose(shipped.arm.state.joint_pos, before, atol=HALF_COUNT_RAD)
        assert all(servo.torque for servo in shipped.device.servos.values())
        assert shipped.witness.commands_outside_limits == 0

    def test_a_servo_that_does_not_take_torque(self, bench):
        bench.robot.connect()
        servo = bench.servo("elbow_flex")
        store = bench.device._store

        def deaf(which, address, data):
            return (
                0
                if which is servo and address == servo.model.torque_enable.address
                else store(which, address, data)
            )

        bench.device._store = deaf
        with pytest.raises(ProtocolError, match=r"servo 3 \(elbow_flex\): torque: expected 1, found 0"):
            bench.robot.arm()

    def test_dead_before_arming(self, bench):
        bench.robot.connect()
        bench.servo("wrist_roll").is_dead = True
        with pytest.raises(StaleStateError, match="servo 5"):
            bench.robot.arm()


class TestWrite:
    def test_goes_there(self, shipped):
        shipped.connected()
        target = shipped.description.limits("home_rad") + 0.05
        state = drive(shipped, target)
        np.testing.assert_allclose(state.joint_pos, target, atol=2 * RAD_PER_COUNT)

    def test_returns_what_was_sent_inside_the_limits(self, bench):
        bench.connected()
        high, low = (bench.description.limits(f"position_{end}_rad") for end in ("max", "min"))
        for asked, limit, inside in ((high + 1, high, np.less_equal), (low - 1, low, np.greater_equal)):
            sent = bench.robot.write(bench.at(asked))
            assert inside(sent.joint_pos, limit).all()
            np.testing.assert_allclose(sent.joint_pos, limit, atol=RAD_PER_COUNT)
            for joint, servo in enumerate(bench.device.servos.values()):
                goal = (servo.get(servo.model.goal_position) - 2048) * RAD_PER_COUNT
                assert goal == pytest.approx(sent.joint_pos[joint], abs=1e-9)
        assert (sent.joint_vel == 0).all()

    def test_is_one_transaction(self, bench):
        bench.connected()
        bench.link.sent.clear()
        bench.robot.read()
        bench.robot.write(bench.at(np.zeros(6)))
        assert len(bench.link.sent) == 2


class TestPartialResults:
    def test_a_servo_that_misses_is_stood_in_for_and_counted(self, bench):
        bench.connected()
        before = drive(bench, np.full(6, 0.1))
        bench.servo("elbow_flex").is_dead = True
        bench.robot.write(bench.at(np.full(6, 0.2)))
        bench.clock.advance(0.05)
        state = bench.robot.read()
        assert state.joint_pos[2] == before.joint_pos[2]
        assert (np.delete(state.joint_pos, 2) > 0.15).all()
        assert bench.robot.misses["elbow_flex"] == 1
        bench.servo("elbow_flex").is_dead = False
        assert drive(bench, np.full(6, 0.2)).joint_pos[2] > 0.15
        assert bench.robot.misses["elbow_flex"] == 1

    def test_a_position_that_no_joint_comes_to_so_fast_is_not_believed(self, bench):
        bench.connected().read()
        bench.clock.advance(0.01)
        servo = bench.servo("elbow_flex")
        measure = bench.device._measure

        def damaged():
            measure()
            servo.set(servo.model.present_position, 2048 + 256)

        bench.device._measure = damaged
        assert bench.robot.read().joint_pos[2] == 0.0
        assert bench.robot.misses["elbow_flex"] == 1
        # A tenth of a second later it may be true.
        bench.clock.advance(0.08)
        assert bench.robot.read().joint_pos[2] == pytest.approx(256 * RAD_PER_COUNT)

    def test_for_a_while_only(self, make_bench, protocol):
        bench = make_bench(protocol, config=ServoRobotConfig(patience=3))
        bench.connected().read()
        bench.servo("elbow_flex").is_dead = True
        for _ in range(3):
            bench.robot.read()
        with pytest.raises(StaleStateError, match=r"no answer from servo 3 \(elbow_flex\)"):
            bench.robot.read()

    def test_two_at_once_are_too_many(self, bench):
        bench.connected().read()
        for name in ("elbow_flex", "wrist_flex"):
            bench.servo(name).is_dead = True
        with pytest.raises(StaleStateError, match=r"3 \(elbow_flex\), 4 \(wrist_flex\)"):
            bench.robot.read()

    def test_is_stale_after_its_deadline_and_no_later(self, bench):
        bench.connected()
        bench.link.silent = True
        before_s = bench.clock.now()
        with pytest.raises(StaleStateError):
            bench.robot.read()
        assert bench.clock.now() - before_s < 0.005

    def test_who_missed_is_asked_last(self, make_bench):
        bench = make_bench("feetech")
        bench.connected().read()
        bench.servo("shoulder_pan").is_dead = True
        bench.robot.read()
        bench.robot.read()
        assert bench.link.sent[-1][7:13] == bytes((2, 3, 4, 5, 6, 1))

    def test_late_answers_are_not_taken_for_fresh_ones(self, bench):
        bench.connected().read()
        bench.link.silent = True
        with pytest.raises(StaleStateError):
            bench.robot.read()
        bench.link.silent = False
        target = np.full(6, 0.1)
        state = drive(bench, target)
        np.testing.assert_allclose(state.joint_pos, target, atol=2 * RAD_PER_COUNT)

    def test_dead_link(self, bench):
        bench.connected()
        bench.link.dead = True
        with pytest.raises(LinkError, match="unplugged"):
            bench.robot.read()

    def test_over_a_bad_line_states_are_right_or_missing(self, make_bench, protocol):
        spec = FaultSpec(corrupt=0.1, drop=0.05, truncate=0.05, garbage=0.05)
        bench = make_bench(protocol, faults=spec, seed=3)
        for _ in range(50):
            try:
                bench.connected()
                break
            except (LinkError, ProtocolError, StaleStateError):
                continue
        good = 0
        for _ in range(300):
            bench.clock.advance(0.01)
            try:
                state = bench.robot.read()
            except StaleStateError:
                continue
            good += 1
            # One changed byte in 256 that an 8-bit sum lets pass is what Feetech's framing allows.
            assert (np.abs(state.joint_pos) < 1e-9).sum() >= 5
        assert good > 100


class TestStop:
    def test_hold_is_read_back(self, shipped):
        shipped.connected()
        target = shipped.description.limits("home_rad") + 0.05
        drive(shipped, target)
        shipped.robot.stop(StopMode.HOLD)
        for _ in range(50):
            shipped.clock.advance(0.01)
            state = shipped.robot.read()
        assert state.status is RobotStatus.HOLDING
        np.testing.assert_allclose(state.joint_pos, target, atol=2 * RAD_PER_COUNT)
        assert all(servo.torque for servo in shipped.device.servos.values())

    def test_hold_of_a_blocked_arm_is_where_it_stands(self, bench):
        bench.connected()
        bench.robot.write(bench.at(np.full(6, 0.5)))
        bench.robot.stop(StopMode.HOLD)
        for servo in bench.device.servos.values():
            assert abs(servo.get(servo.model.goal_position) - 2048) < 0.1 / RAD_PER_COUNT

    def test_release_is_read_back(self, bench):
        bench.connected()
        bench.robot.stop(StopMode.RELEASE)
        assert bench.robot.read().status is RobotStatus.RELEASED
        assert bench.arm.status is RobotStatus.RELEASED

    def test_servos_cannot_damp(self, bench):
        bench.connected()
        with pytest.raises(ProtocolError, match="servos cannot damp; expected hold or release"):
            bench.robot.stop(StopMode.DAMP)

    def test_not_confirmed(self, bench):
        bench.connected()
        bench.servo("elbow_flex").is_dead = True
        for mode in (StopMode.HOLD, StopMode.RELEASE):
            with pytest.raises(StaleStateError, match="servo 3"):
                bench.robot.stop(mode)


class TestTrouble:
    def test_complaints_are_a_fault_that_is_named(self, bench):
        bench.connected()
        servo = bench.servo("elbow_flex")
        if bench.description.protocol == "feetech":
            servo.error = 0x20
        else:
            servo.set(DXL_HARDWARE_ERROR, 0x20)
        assert bench.robot.read().status is RobotStatus.FAULT
        assert bench.robot.fault == "servo 3 (elbow_flex): overload"
        servo.error = 0
        if bench.description.protocol == "dynamixel":
            servo.set(DXL_HARDWARE_ERROR, 0)
        assert bench.robot.read().status is RobotStatus.ARMED

    def test_lost_torque_is_noticed_and_mended_by_arming(self, bench):
        bench.connected()
        servo = bench.servo("elbow_flex")
        servo.set(servo.model.torque_enable, 0)
        for _ in range(10):
            status = bench.robot.read().status
        assert status is RobotStatus.RELEASED
        bench.robot.arm()
        assert servo.torque
        assert bench.robot.read().status is RobotStatus.ARMED

    def test_dynamixel_watchdog_holds_a_silent_bridge(self, make_bench):
        bench = make_bench("dynamixel")
        bench.connected()
        for _ in range(20):
            bench.clock.advance(0.01)
            bench.link.receive(0.0)
        assert bench.arm.status is RobotStatus.HOLDING
        assert bench.witness.hold_delay_ms_max <= 112
        assert bench.robot.read().status is RobotStatus.HOLDING
        bench.robot.arm()
        drive(bench, np.full(6, 0.05), ticks=30)
        assert bench.robot.read().status is RobotStatus.ARMED

    def test_dynamixel_watchdog_that_no_servo_has(self):
        arm = msgspec.structs.replace(load_description("omx"), watchdog_s=5.0)
        with pytest.raises(DescriptionError, match=r"watchdog_s: expected 0\.02 to 2\.54, found 5"):
            open_robot(arm, "udp://127.0.0.1:1")


class TestLoop:
    @pytest.fixture
    def reach(self, make_reach_policy):
        def run(bench, **options):
            policy = make_reach_policy(bench.description)
            return ControlLoop(bench.robot, policy, LoopConfig(goals=2, **options), clock=bench.clock).run()

        return run

    def test_reaches_goals_and_the_witness_agrees(self, shipped, reach):
        report = reach(shipped)
        assert (report.end_reason, report.final_phase) == ("goals_done", "parked")
        assert report.successes == 2
        assert report.limit_violations == 0
        assert shipped.witness.commands_outside_limits_by == {}
        assert shipped.witness.commands_ok > 100
        assert shipped.witness.frames_bad == 0

    def test_a_dead_servo_ends_the_run_by_name(self, shipped, reach):
        shipped.robot.connect()
        name = shipped.description.joint_names[2]
        count = 0
        read = shipped.robot.read

        def dying():
            nonlocal count
            count += 1
            shipped.servo(name).is_dead = count > 100
            return read()

        shipped.robot.read = dying
        report = reach(shipped)
        assert (report.end_reason, report.final_phase) == ("stale_state", "fault")
        assert report.limit_violations == 0

    def test_one_flaky_servo_does_not_stop_it(self, shipped, reach):
        name = shipped.description.joint_names[1]
        rng = np.random.default_rng(0)
        read = shipped.robot.read

        def flaky():
            shipped.servo(name).is_dead = rng.random() < 0.2
            try:
                return read()
            finally:
                shipped.servo(name).is_dead = False

        shipped.robot.read = flaky
        report = reach(shipped)
        assert (report.end_reason, report.successes) == ("goals_done", 2)
        assert shipped.robot.misses[name] > 20

    def test_joint_check(self, shipped):
        found = check_joints(shipped.robot, clock=shipped.clock)
        assert [check.joint for check in found] == list(shipped.description.joint_names)
        assert all(check.ok for check in found), found


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_over_a_real_pty(robot):
    description = load_description(robot)
    emulator = Emulator(KinematicRobot(description), "pty:", protocol=description.protocol)
    assert emulator.hello()["protocol"] == description.protocol
    stop = threading.Event()
    thread = threading.Thread(target=emulator.serve, args=(stop.is_set,))
    thread.start()
    try:
        driver = type(open_robot(description, emulator.url))
        arm = driver(description, emulator.url, ServoRobotConfig(margin_s=2.0))
        arm.connect()
        arm.arm()
        home = description.limits("home_rad")
        sent = arm.write(JointCommand(joint_pos=home, joint_vel=0 * home))
        np.testing.assert_allclose(sent.joint_pos, home, atol=1e-9)
        np.testing.assert_allclose(arm.read().joint_pos, home, atol=2 * RAD_PER_COUNT)
        arm.stop(StopMode.RELEASE)
        arm.close()
    finally:
        stop.set()
        thread.join()
        emulator.close()
    assert emulator.witness.arms >= 1
    assert emulator.witness.frames_bad == 0


def test_is_not_served_to_other_machines_since_nothing_is_authenticated():
    description = load_description("so101")
    with pytest.raises(LinkError, match="protocol feetech knows no key: only this machine"):
        Emulator(KinematicRobot(description), "udp://0.0.0.0:0", protocol="feetech", key=b"secret")


class TestDeadServoFault:
    def emulator(self, spec: str, robot: str = "so101") -> Emulator:
        faults, description = parse_faults(spec), load_description(robot)
        return Emulator(
            KinematicRobot(description),
            "udp://127.0.0.1:0",
            protocol=description.protocol,
            faults=faults,
        )

    def test_by_its_specification(self):
        emulator = self.emulator("dead_servo=3")
        assert [number for number, servo in emulator._device._inner.servos.items() if servo.is_dead] == [3]
        emulator.close()

    def test_no_such_servo(self):
        with pytest.raises(BridgeError, match="dead_servo: expected one of 1, 2, 3, 4, 5, 6, found 9"):
            self.emulator("dead_servo=9")

    def test_arms_without_servos_have_none(self):
        self.emulator("dead_servo=3", "panda").close()


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_model_for_the_engines_is_the_description(robot):
    """Frames and ranges of the URDF beside it."""
    from pathlib import Path
    from xml.etree import ElementTree

    import wpg.hardware_bridge.description as module

    description = load_description(robot)
    path = Path(module.__file__).parent / "robots" / f"{robot}.urdf"
    root = ElementTree.parse(path).getroot()
    joints = {joint.get("name"): joint for joint in root.iter("joint")}

    def numbers(element, name):
        return [float(number) for number in (element.get(name) or "0 0 0").split()]

    for joint in description.joints:
        origin, limit = joints[joint.name].find("origin"), joints[joint.name].find("limit")
        np.testing.assert_allclose(numbers(origin, "xyz"), joint.frame.xyz_m)
        np.testing.assert_allclose(numbers(origin, "rpy"), joint.frame.rpy_rad)
        np.testing.assert_allclose(numbers(joints[joint.name].find("axis"), "xyz"), joint.axis)
        assert float(limit.get("lower")) == joint.position_min_rad
        assert float(limit.get("upper")) == joint.position_max_rad
    np.testing.assert_allclose(numbers(joints["tool"].find("origin"), "xyz"), description.tool.xyz_m)


def test_the_so101_reaches_as_far_as_published():
    """Stretched out, the tool is 0.391 m in front of the base and 0.227 m above it."""
    tool = ForwardKinematics(load_description("so101").kinematics()).tool_position(np.zeros(5))
    np.testing.assert_allclose(tool, [0.3914, 0.0, 0.2266], atol=1e-3)
