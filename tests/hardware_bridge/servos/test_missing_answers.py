"""Servos that answer late, wrongly or not at all, and servos in trouble."""

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.faults import FaultSpec
from wpg.hardware_bridge.errors import (
    DescriptionError,
    LinkError,
    ProtocolError,
    StaleStateError,
)
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.models import DXL_HARDWARE_ERROR, DXL_WATCHDOG, RAD_PER_COUNT
from wpg.hardware_bridge.servos.robot import ServoRobotConfig
from wpg.hardware_bridge.session import open_robot

HALF_COUNT_RAD = RAD_PER_COUNT / 2 + 1e-9


class TestPartialResults:
    def test_a_servo_that_misses_is_stood_in_for_and_counted(self, bench):
        bench.connected()
        before = bench.drive(np.full(6, 0.1))
        bench.servo("elbow_flex").is_dead = True
        bench.robot.write(bench.at(np.full(6, 0.2)))
        bench.clock.advance(0.05)
        state = bench.robot.read()
        assert state.joint_pos[2] == before.joint_pos[2]
        assert (np.delete(state.joint_pos, 2) > 0.15).all()
        assert bench.robot.misses["elbow_flex"] == 1
        bench.servo("elbow_flex").is_dead = False
        assert bench.drive(np.full(6, 0.2)).joint_pos[2] > 0.15
        assert bench.robot.misses["elbow_flex"] == 1

    def test_a_position_that_no_joint_comes_to_so_fast_is_not_believed(self, bench):
        bench.connected().read()
        bench.clock.advance(0.01)
        bench.stand_at(256 * RAD_PER_COUNT * np.eye(6)[2])
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

    def test_ends_although_noise_never_does(self, bench):
        bench.connected()
        bench.link.receive = lambda timeout_s: bench.clock.advance(1e-4) or b"noise"
        before_s = bench.clock.now()
        with pytest.raises(StaleStateError):
            bench.robot.read()
        assert bench.clock.now() - before_s < 0.05

    def test_goals_that_are_still_on_the_wire_take_no_time_from_the_answers(self, bench):
        bus = msgspec.structs.replace(bench.description.bus, baudrate=57_600)
        slow = type(bench)(msgspec.structs.replace(bench.description, bus=bus))
        slow.connected()
        slow.robot.write(slow.at(np.zeros(6)))
        slow.robot.read()
        assert not any(slow.robot.misses.values())

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
        state = bench.drive(target)
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


class TestTrouble:
    def test_complaints_are_a_fault_that_is_named(self, bench):
        bench.connected()
        servo = bench.servo("elbow_flex")
        if bench.description.protocol == "feetech":
            servo.error = 0x20
        else:
            servo.set(DXL_HARDWARE_ERROR, 0x20)
        state = bench.robot.read()
        assert state.status is RobotStatus.FAULT
        assert bench.robot.fault == state.fault == "servo 3 (elbow_flex): overload"
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
        bench.drive(np.full(6, 0.05), ticks=30)
        assert bench.robot.read().status is RobotStatus.ARMED

    @pytest.mark.parametrize("watchdog_s", [5.0, 0.019])
    def test_dynamixel_watchdog_that_no_servo_has(self, watchdog_s):
        arm = msgspec.structs.replace(load_description("omx"), watchdog_s=watchdog_s)
        with pytest.raises(DescriptionError, match=rf"expected 0\.02 to 2\.54, .*; found {watchdog_s:g}$"):
            open_robot(arm, "udp://127.0.0.1:1")

    @pytest.mark.parametrize(("watchdog_s", "units"), [(0.03, 1), (0.0599, 2), (0.06, 3), (0.1, 5)])
    def test_dynamixel_watchdog_is_no_slower_than_described(self, make_bench, watchdog_s, units):
        arm = msgspec.structs.replace(make_bench("dynamixel").description, watchdog_s=watchdog_s)
        bench = type(make_bench("dynamixel"))(arm)
        bench.connected()
        assert {servo.get(DXL_WATCHDOG) for servo in bench.device.servos.values()} == {units}
