"""Grippers on servo buses: which count is which opening, and how they are read, moved and held."""

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.description import GripperServo, RobotDescription, load_description
from wpg.hardware_bridge.errors import DescriptionError, ProtocolError, StaleStateError
from wpg.hardware_bridge.robot import JointCommand, StopMode
from wpg.hardware_bridge.servos.calibration import (
    GripperCalibration,
    MotorCalibration,
    calibration_of,
    default_calibration,
)

COUNT_M = 2e-4
"""More than one count of either gripper."""


def motors(**gripper):
    """A LeRobot calibration of the SO-101."""
    plain = {"drive_mode": 0, "homing_offset": 0, "range_min": 100, "range_max": 3995}
    named = {
        name: MotorCalibration(id=index, **plain)
        for index, name in enumerate(load_description("so101").joint_names, 1)
    }
    wide = {"drive_mode": 0, "homing_offset": 1407, "range_min": 2031, "range_max": 3476}
    return named | {"gripper": MotorCalibration(id=6, **wide | gripper)}


def drive(bench, gripper_m, ticks=300):
    """Hold the arm and send the gripper somewhere until it is there; returns the last state."""
    home = bench.description.limits("home_rad")
    for _ in range(ticks):
        bench.robot.write(JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=gripper_m))
        bench.clock.advance(bench.description.servo_dt_s)
        state = bench.robot.read()
    return state


class TestCalibration:
    @pytest.mark.parametrize("counts", [(1000.0, 1500.0, 3000.0), (3000.0, 1500.0, 1000.0)])
    def test_straight_between_its_points_and_flat_beyond(self, counts):
        calibration = GripperCalibration(counts=np.array(counts), openings_m=np.array([0.0, 0.04, 0.1]))
        for opening, count in zip((0.0, 0.04, 0.1), counts, strict=True):
            assert calibration.to_m(count) == pytest.approx(opening)
            assert calibration.to_counts(opening) == count
        assert calibration.to_m((counts[0] + counts[1]) / 2) == pytest.approx(0.02)
        assert calibration.to_m(0.0) == pytest.approx(0.0 if counts[0] < counts[1] else 0.1)
        assert (calibration.to_counts(-1.0), calibration.to_counts(1.0)) == (counts[0], counts[-1])

    @pytest.mark.parametrize(("drive_mode", "closed", "opened"), [(0, 2031, 3476), (1, 3476, 2031)])
    def test_lerobots_range_is_used_as_it_is(self, drive_mode, closed, opened):
        found = calibration_of(motors(drive_mode=drive_mode), load_description("so101"), "file").gripper
        assert (found.to_counts(0.0), found.to_counts(0.131)) == (closed, opened)
        described = default_calibration(load_description("so101")).gripper
        for share in (0.2, 0.5, 0.8):
            count = closed + share * (opened - closed)
            assert found.to_m(count) == pytest.approx(described.to_m(1934 + share * (3186 - 1934)))

    def test_file_of_another_gripper(self):
        wrong = motors() | {"gripper": msgspec.structs.replace(motors()["gripper"], id=7)}
        with pytest.raises(DescriptionError, match="motor gripper: expected servo 6, found 7"):
            calibration_of(wrong, load_description("so101"), "file")
        del wrong["gripper"]
        with pytest.raises(DescriptionError, match="no motor 'gripper'"):
            calibration_of(wrong, load_description("so101"), "file")


class TestDescription:
    def test_shipped_arms_have_one(self, shipped):
        assert shipped.description.gripper.servo is not None

    @pytest.mark.parametrize(
        ("counts", "openings_m"),
        [((1, 2), (0.0,)), ((1,), (0.0,)), ((1, 2), (0.1, 0.0)), ((1, 3, 2), (0.0, 0.1, 0.2))],
    )
    def test_points_that_hold_not_together(self, counts, openings_m):
        with pytest.raises(ValueError, match=r"gripper\.servo: expected"):
            GripperServo(counts=counts, openings_m=openings_m)

    def test_counts_lie_on_one_turn(self, shipped):
        described = msgspec.to_builtins(shipped.description)
        described["gripper"]["servo"]["counts"] = [0, 4096]
        with pytest.raises(msgspec.ValidationError, match=r"Expected `int` <= 4095.*gripper\.servo\.counts"):
            msgspec.convert(described, RobotDescription)

    def test_needs_a_servo_of_that_name(self):
        arm = load_description("so101")
        nameless = msgspec.structs.asdict(arm) | {"bus": msgspec.structs.replace(arm.bus, others={"jaw": 6})}
        with pytest.raises(ValueError, match=r"expected a servo named gripper in bus\.others, found none"):
            RobotDescription(**nameless)

    def test_opens_no_further_than_it_says(self):
        arm = load_description("so101")
        narrow = msgspec.structs.asdict(arm) | {
            "gripper": msgspec.structs.replace(arm.gripper, opening_max_m=0.1)
        }
        with pytest.raises(ValueError, match=r"expected openings_m up to opening_max_m 0\.1, found 0\.131"):
            RobotDescription(**narrow)


class TestDriver:
    def test_arming_moves_nothing(self, shipped):
        before = shipped.arm.state.gripper_m
        servo = shipped.servo("gripper")
        servo.set(servo.model.goal_position, 2300)
        shipped.connected()
        shipped.clock.advance(0.5)
        state = shipped.robot.read()
        assert servo.torque
        assert shipped.arm.state.gripper_m == pytest.approx(before, abs=COUNT_M)
        assert state.gripper_m == pytest.approx(before, abs=COUNT_M)

    def test_opens_and_closes(self, shipped):
        shipped.connected()
        gripper = shipped.description.gripper
        for asked in (0.06, gripper.opening_max_m, 0.03):
            state = drive(shipped, asked)
            assert state.gripper_m == pytest.approx(asked, abs=COUNT_M)
            assert shipped.arm.state.gripper_m == pytest.approx(asked, abs=COUNT_M)
        assert shipped.witness.commands_outside_limits == 0

    @pytest.mark.parametrize("asked", [-1.0, 1.0])
    def test_is_sent_nothing_outside_its_range(self, shipped, asked):
        shipped.connected()
        drive(shipped, asked, ticks=1)
        servo = shipped.servo("gripper")
        counts = shipped.description.gripper.servo.counts
        assert servo.get(servo.model.goal_position) == counts[0 if asked < 0 else -1]

    def test_goes_no_faster_than_it_can(self, shipped):
        shipped.connected()
        gripper, before = shipped.description.gripper, shipped.arm.state
        drive(shipped, gripper.opening_max_m, ticks=10)
        after = shipped.arm.state
        furthest_m = (after.time_s - before.time_s) * gripper.speed_max_m_s
        assert 0 < after.gripper_m - before.gripper_m <= furthest_m

    def test_stays_where_nothing_is_said_of_it(self, shipped):
        shipped.connected()
        drive(shipped, 0.05)
        assert drive(shipped, None, ticks=50).gripper_m == pytest.approx(0.05, abs=COUNT_M)

    def test_is_read_and_written_with_the_joints(self, shipped):
        shipped.connected()
        shipped.link.sent.clear()
        drive(shipped, 0.05, ticks=1)
        assert len(shipped.link.sent) == 2
        assert shipped.robot.misses == dict.fromkeys((*shipped.description.joint_names, "gripper"), 0)

    def test_a_hold_goes_on_squeezing(self, shipped):
        shipped.connected()
        drive(shipped, 0.06)
        drive(
            shipped, 0.03, ticks=2
        )  # further closed than it has come: as if something were between the pads
        servo = shipped.servo("gripper")
        goal = servo.get(servo.model.goal_position)
        shipped.robot.stop(StopMode.HOLD)
        assert servo.get(servo.model.goal_position) == goal
        assert servo.torque

    def test_narrower_limits_of_its_servo_bound_its_goals(self, shipped):
        servo = shipped.servo("gripper")
        model, counts = servo.model, shipped.description.gripper.servo.counts
        servo.set(model.operating_mode, model.limited_modes[0])
        opened, inside = (model.max_position, -300) if counts[-1] > counts[0] else (model.min_position, 300)
        servo.set(opened, counts[-1] + inside)
        shipped.connected()
        assert [notice for notice in shipped.robot.notices if "opens and closes no further" in notice]
        home = shipped.description.limits("home_rad")
        shipped.robot.write(
            JointCommand(
                joint_pos=home, joint_vel=0 * home, gripper_m=shipped.description.gripper.opening_max_m
            )
        )
        assert servo.get(model.goal_position) == counts[-1] + inside
        shipped.robot.stop(StopMode.HOLD)
        shipped.robot.stop(StopMode.RELEASE)

    def test_limits_without_an_opening_between_them(self, shipped):
        servo = shipped.servo("gripper")
        model, counts = servo.model, shipped.description.gripper.servo.counts
        servo.set(model.operating_mode, model.limited_modes[0])
        servo.set(model.min_position, max(counts) + 10)
        servo.set(model.max_position, max(counts) + 20)
        with pytest.raises(ProtocolError, match=r"servo \d+ \(gripper\): takes goals from"):
            shipped.robot.connect()

    def test_release_lets_go_of_it(self, shipped):
        shipped.connected()
        shipped.robot.stop(StopMode.RELEASE)
        assert not shipped.servo("gripper").torque

    def test_its_silence_makes_states_stale(self, shipped):
        shipped.connected()
        shipped.servo("gripper").is_dead = True
        for _ in range(3):
            shipped.robot.read()
        with pytest.raises(StaleStateError, match=r"no answer from servo (6|15) \(gripper\)"):
            shipped.robot.read()

    def test_another_calibration_than_its_servos(self, make_so101):
        bench = make_so101(calibration=calibration_of(motors(), load_description("so101"), "file"))
        for name, motor in motors().items():
            servo = bench.servo(name)
            servo.set(servo.model.homing_offset, motor.homing_offset if name != "gripper" else 3)
            servo.set(servo.model.min_position, motor.range_min)
            servo.set(servo.model.max_position, motor.range_max)
        with pytest.raises(ProtocolError, match=r"servo 6 \(gripper\): .* says 1407, found 3"):
            bench.robot.connect()

    def test_without_points_it_is_held_where_it_stands(self, make_bench):
        bench = make_bench("feetech")
        bench.connected()
        home = np.zeros(6)
        sent = bench.robot.write(JointCommand(joint_pos=home, joint_vel=home, gripper_m=0.05))
        assert sent.gripper_m is None
        assert bench.robot.read().gripper_m is None
