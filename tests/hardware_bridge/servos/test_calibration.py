import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import DescriptionError, ProtocolError
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.calibration import (
    MotorCalibration,
    calibration_of,
    default_calibration,
    load_calibration,
)
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.session import open_robot

SO101 = load_description("so101")
MOTORS = {
    "shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -46, "range_min": 758, "range_max": 3292},
    "shoulder_lift": {"id": 2, "drive_mode": 0, "homing_offset": 214, "range_min": 862, "range_max": 3128},
    "elbow_flex": {"id": 3, "drive_mode": 1, "homing_offset": -1103, "range_min": 921, "range_max": 3180},
    "wrist_flex": {"id": 4, "drive_mode": 0, "homing_offset": 68, "range_min": 880, "range_max": 3244},
    "wrist_roll": {"id": 5, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": 4095},
    "gripper": {"id": 6, "drive_mode": 0, "homing_offset": 1407, "range_min": 2031, "range_max": 3476},
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        motors = {name: {**motor, **changes.get(name, {})} for name, motor in MOTORS.items()}
        path = tmp_path / "my_follower.json"
        path.write_text(json.dumps(motors, indent=4))
        return path

    return write


class TestFile:
    @pytest.mark.parametrize("kind", [Path, str])
    def test_lerobots_as_it_is(self, write, kind):
        calibration = load_calibration(kind(write()), SO101)
        assert calibration.zero_counts.tolist() == [2025.0, 1995.0, 2050.5, 2062.0, 2047.5]
        assert calibration.sign.tolist() == [1, 1, -1, 1, 1]
        assert calibration.motors[0] == MotorCalibration(**MOTORS["shoulder_pan"])
        np.testing.assert_allclose(
            calibration.to_rad(np.array([2025.0 + 1024, 1995, 2050.5 + 1024, 2062, 2047.5])),
            [np.pi / 2, 0, -np.pi / 2, 0, 0],
        )

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"elbow_flex": {"id": 9}}, "motor elbow_flex: expected servo 3, found 9"),
            ({"elbow_flex": {"range_min": 3200}}, "motor elbow_flex: expected a range within 0 to 4095"),
            ({"elbow_flex": {"range_max": "far"}}, "no LeRobot calibration"),
        ],
    )
    def test_another_arms(self, write, change, reason):
        with pytest.raises(DescriptionError, match=reason):
            load_calibration(write(**change), SO101)

    def test_joint_missing(self, tmp_path):
        path = tmp_path / "leader.json"
        path.write_text(json.dumps({"pan": MOTORS["shoulder_pan"]}))
        with pytest.raises(DescriptionError, match="no motor 'shoulder_pan'; it has pan"):
            load_calibration(path, SO101)
        with pytest.raises(DescriptionError, match="cannot be read: No such file"):
            load_calibration(tmp_path / "none.json", SO101)

    def test_range_that_leaves_nothing(self, write):
        calibration = load_calibration(write(wrist_flex={"range_min": 100, "range_max": 101}), SO101)
        low, high = calibration.ends_rad(calibration.spans(SO101))
        assert (low <= high).all()
        assert high[3] - low[3] == pytest.approx(2 * np.pi / 4096)


@given(st.lists(st.integers(0, 4095), min_size=5, max_size=5), st.booleans())
def test_counts_are_exact(counts, calibrated):
    calibration = default_calibration(SO101)
    if calibrated:
        motors = {name: MotorCalibration(**motor) for name, motor in MOTORS.items()}
        calibration = calibration_of(motors, SO101, "test")
    there = calibration.to_rad(np.array(counts, dtype=np.float64))
    assert np.rint(calibration.to_counts(there)).astype(int).tolist() == counts


def test_limits_are_whole_counts_inside(write):
    for calibration in (default_calibration(SO101), load_calibration(write(), SO101)):
        low, high = calibration.ends_rad(calibration.spans(SO101))
        for limit in (low, high):
            counts = calibration.to_counts(limit)
            np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
        assert (low >= SO101.limits("position_min_rad") - 1e-9).all()
        assert (high <= SO101.limits("position_max_rad") + 1e-9).all()
        wide = SO101.limits("position_min_rad") + 2 * np.pi / 4096
        assert (low <= np.maximum(wide, calibration.low_rad + 2 * np.pi / 4096)).all()


@pytest.mark.parametrize(
    ("robot", "drive_mode", "sign"),
    [("so101", 0, 1), ("so101", 1, -1), ("so101", 4, 1), *(("omx", mode, 1) for mode in (0, 1, 4, 5))],
)
def test_only_servos_that_do_not_invert_themselves_are_inverted(robot, drive_mode, sign):
    description = load_description(robot)
    servos = dict(zip(description.joint_names, description.bus.servos, strict=True)) | description.bus.others
    motors = {
        name: MotorCalibration(
            id=servo, drive_mode=drive_mode, homing_offset=0, range_min=500, range_max=3500
        )
        for name, servo in servos.items()
    }
    calibration = calibration_of(motors, description, "test")
    assert set(calibration.sign) == {sign}
    assert calibration.gripper.to_counts(0.0) == (500 if sign > 0 else 3500)


class TestDriver:
    @pytest.fixture
    def bench(self, make_so101, write):
        bench = make_so101(calibration=load_calibration(write(), SO101))
        for name, motor in MOTORS.items():
            # What calibrating leaves in the servos.
            servo = bench.servo(name)
            servo.set(servo.model.homing_offset, motor["homing_offset"])
            servo.set(servo.model.min_position, motor["range_min"])
            servo.set(servo.model.max_position, motor["range_max"])
        return bench

    def test_angles_are_the_calibrations(self, bench):
        counts = [
            bench.servo(name).get(bench.servo(name).model.present_position) for name in SO101.joint_names
        ]
        bench.robot.connect()
        state = bench.robot.read()
        zero = np.array([2025.0, 1995.0, 2050.5, 2062.0, 2047.5])
        expected = np.array([1, 1, -1, 1, 1]) * (np.array(counts) - zero) * 2 * np.pi / 4096
        np.testing.assert_allclose(state.joint_pos, expected, atol=1e-12)
        assert state.status is RobotStatus.IDLE

    @pytest.mark.parametrize("register", ["homing_offset", "min_position", "max_position"])
    def test_servos_that_hold_another_calibration(self, bench, register):
        servo = bench.servo("wrist_flex")
        servo.set(getattr(servo.model, register), 7)
        with pytest.raises(ProtocolError, match=r"servo 4 \(wrist_flex\): .* found 7; .* calibrated anew"):
            bench.robot.connect()


def test_open_robot_reads_it(write):
    robot = open_robot(SO101, "serial:///dev/null", calibration=str(write()))
    half_rad = (3128 - 862) / 2 * RAD_PER_COUNT
    assert robot.description.joints[1].position_max_rad == pytest.approx(half_rad)
    with pytest.raises(DescriptionError, match="expected servo 3"):
        open_robot(SO101, "serial:///dev/null", calibration=write(elbow_flex={"id": 8}))
