"""The drivers on emulated servos."""

import itertools

import numpy as np
import pytest

from wpg.hardware_bridge.control.checks import check_stance
from wpg.hardware_bridge.errors import (
    BridgeError,
    LinkError,
    LinkUrlError,
    NotConnectedError,
    ProtocolError,
    StaleStateError,
)
from wpg.hardware_bridge.robot import Robot, RobotStatus, StopMode
from wpg.hardware_bridge.servos.models import DXL_WATCHDOG, RAD_PER_COUNT

HALF_COUNT_RAD = RAD_PER_COUNT / 2 + 1e-9


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

    def test_a_link_of_another_baudrate_than_described(self, bench):
        robot = type(bench.robot)(bench.description, "serial:///dev/nonesuch?baudrate=57600")
        with pytest.raises(LinkUrlError, match=r"\[bus\] baudrate = 1000000, the link 57600"):
            robot.connect()

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
        with pytest.raises(NotConnectedError, match=r"not connected: call connect\(\) first"):
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
        servo.on_write = lambda address, data: 0 if address == servo.model.torque_enable.address else None
        with pytest.raises(ProtocolError, match=r"servo 3 \(elbow_flex\): torque: expected 1, found 0"):
            bench.robot.arm()

    @pytest.fixture
    def inrush(self, bench):
        """Does something while the last servo is given torque for the first time."""

        def inrush(act):
            last = bench.servo("gripper")

            def powered(address, data):
                if address == last.model.torque_enable.address:
                    last.on_write = lambda *_: None
                    act()

            last.on_write = powered

        return inrush

    def test_no_torque_is_left_where_a_servo_starts_anew_meanwhile(self, bench, inrush):
        bench.robot.connect()
        inrush(bench.servo("wrist_flex").restart)
        with pytest.raises(ProtocolError, match=r"servo 4 \(wrist_flex\): torque: expected 1, found 0"):
            bench.robot.arm()
        assert not any(servo.torque for servo in bench.device.servos.values())
        bench.robot.arm()
        assert bench.robot.read().status is RobotStatus.ARMED

    def test_torque_of_an_arm_that_was_held_stays(self, bench, inrush):
        bench.connected()
        bench.robot.stop(StopMode.HOLD)
        inrush(bench.servo("wrist_flex").restart)
        with pytest.raises(ProtocolError, match="torque: expected 1, found 0"):
            bench.robot.arm()
        assert [servo.torque for servo in bench.device.servos.values()] == [True] * 3 + [False] + [True] * 2

    def test_a_servo_that_is_lost_meanwhile_may_have_torque(self, bench, inrush):
        bench.robot.connect()
        inrush(lambda: setattr(bench.servo("wrist_flex"), "is_dead", True))
        with pytest.raises(BridgeError, match=r"servo 4.*; torque may be on: cut the power") as raised:
            bench.robot.arm()
        assert not isinstance(raised.value, ProtocolError)
        assert [servo.torque for servo in bench.device.servos.values()] == [False] * 3 + [True] + [False] * 2

    def test_no_torque_is_left_without_watchdogs(self, make_bench):
        bench = make_bench("dynamixel")
        bench.robot.connect()
        bench.servo("shoulder_pan").on_write = lambda address, data: (
            4 if (address, data) == (DXL_WATCHDOG.address, b"\x05") else None
        )
        with pytest.raises(ProtocolError, match="servo 1 refuses to write"):
            bench.robot.arm()
        assert not any(servo.torque for servo in bench.device.servos.values())

    def test_a_damaged_reading_is_no_goal(self, bench):
        bench.robot.connect()
        # Which reads where the joints stand, but for no goal.
        bench.robot._own_limits.tell = lambda: None
        damages = iter([256])
        bench.misread("elbow_flex", lambda count: count + next(damages, 0))
        bench.robot.arm()
        assert not list(damages)
        bench.clock.advance(0.5)
        bench.arm.advance_to(bench.clock.now())
        np.testing.assert_allclose(bench.arm.state.joint_pos, np.zeros(6), atol=HALF_COUNT_RAD)

    def test_readings_that_never_agree(self, bench):
        bench.robot.connect()
        bench.robot._own_limits.tell = lambda: None
        counts = itertools.count(2048, 17)
        bench.misread("elbow_flex", lambda _: next(counts))
        with pytest.raises(ProtocolError, match="no two reads agree on where the servos stand"):
            bench.robot.arm()
        assert not any(it.torque for it in bench.device.servos.values())

    def test_dead_before_arming(self, bench):
        bench.robot.connect()
        bench.servo("wrist_roll").is_dead = True
        with pytest.raises(StaleStateError, match="servo 5"):
            bench.robot.arm()


class TestWrite:
    def test_goes_there(self, shipped):
        shipped.connected()
        target = shipped.description.limits("home_rad") + 0.05
        state = shipped.drive(target)
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


class TestStop:
    def test_hold_is_read_back(self, shipped):
        shipped.connected()
        target = shipped.description.limits("home_rad") + 0.05
        shipped.drive(target)
        shipped.robot.stop(StopMode.HOLD)
        for _ in range(50):
            shipped.clock.advance(0.01)
            state = shipped.robot.read()
        assert state.status is RobotStatus.HOLDING
        np.testing.assert_allclose(state.joint_pos, target, atol=2 * RAD_PER_COUNT)
        assert all(servo.torque for servo in shipped.device.servos.values())

    def test_a_damaged_reading_is_nowhere_to_hold(self, bench):
        bench.connected()
        bench.drive(np.full(6, 0.2))
        damages = iter([256])
        bench.misread("elbow_flex", lambda count: count + next(damages, 0))
        bench.robot.stop(StopMode.HOLD)
        assert not list(damages)
        bench.clock.advance(0.5)
        bench.arm.advance_to(bench.clock.now())
        np.testing.assert_allclose(bench.arm.state.joint_pos, np.full(6, 0.2), atol=2 * RAD_PER_COUNT)

    def test_hold_of_a_blocked_arm_is_where_it_stands(self, bench):
        bench.connected()
        bench.robot.write(bench.at(np.full(6, 0.5)))
        bench.robot.stop(StopMode.HOLD)
        for servo in bench.device.servos.values():
            assert abs(servo.get(servo.model.goal_position) - 2048) < 0.1 / RAD_PER_COUNT

    def test_a_silent_servo_keeps_no_other_from_holding(self, bench):
        bench.connected()
        bench.robot.write(bench.at(np.full(6, 0.5)))
        bench.servo("wrist_roll").is_dead = True
        with pytest.raises(StaleStateError, match="servo 5"):
            bench.robot.stop(StopMode.HOLD)
        for servo in bench.device.servos.values():
            goal = servo.get(servo.model.goal_position)
            assert servo.is_dead or abs(goal - 2048) < 0.1 / RAD_PER_COUNT

    def test_held_twice_it_keeps_its_goals(self, bench):
        bench.connected()
        bench.drive(np.full(6, 0.2))
        bench.robot.stop(StopMode.HOLD)
        servo = bench.servo("elbow_flex")
        goal = servo.model.goal_position
        held = servo.get(goal)
        # It sags.
        bench.misread("elbow_flex", lambda _: held - 20)
        bench.robot.stop(StopMode.HOLD)
        assert servo.get(goal) == held

    def test_release_is_read_back(self, bench):
        bench.connected()
        bench.robot.stop(StopMode.RELEASE)
        assert bench.robot.read().status is RobotStatus.RELEASED
        assert bench.arm.status is RobotStatus.RELEASED

    def test_servos_cannot_damp(self, bench):
        bench.connected()
        with pytest.raises(ProtocolError, match="servos cannot damp; expected hold or release"):
            bench.robot.stop(StopMode.DAMP)
        assert bench.robot.stop_modes == {StopMode.HOLD, StopMode.RELEASE}

    def test_not_confirmed(self, bench):
        bench.connected()
        bench.servo("elbow_flex").is_dead = True
        for mode in (StopMode.HOLD, StopMode.RELEASE):
            with pytest.raises(StaleStateError, match="servo 3"):
                bench.robot.stop(mode)
        assert [it.torque for it in bench.device.servos.values()] == [False] * 2 + [True] + [False] * 3

    def test_release_gets_through_damage(self, bench):
        bench.connected()
        lost, losses = bench.servo("wrist_flex"), iter([0, 0])
        lost.on_write = lambda address, data: (
            next(losses, None) if address == lost.model.torque_enable.address else None
        )
        bench.robot.stop(StopMode.RELEASE)
        assert not any(servo.torque for servo in bench.device.servos.values())
