"""Calibration of bus servos: converts counts to angles of joints and openings of grippers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.axes import GRIPPER
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.servos.models import CENTRE_COUNTS, COUNTS_PER_TURN, MODELS, RAD_PER_COUNT


class Span(NamedTuple):
    """A range of counts, both ends included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


class MotorCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """One motor of a LeRobot calibration file."""

    id: int
    drive_mode: int
    """1 if the motor turns against its joint, on a bus whose servos do not invert themselves."""
    homing_offset: int
    """Homing offset that calibration has written into the servo."""
    range_min: int
    """Counts at the ends of the joint, homing offset applied."""
    range_max: int


@dataclass(frozen=True, kw_only=True)
class GripperCalibration:
    """Converts counts of the gripper's servo to openings, piecewise linearly between N points."""

    counts: Vector
    """(N,) rising, or falling."""
    openings_m: Vector
    """(N,) rising."""

    def to_m(self, counts: float) -> float:
        """Opening at a count; beyond the ends, that of the nearer end."""
        turn = np.sign(self.counts[-1] - self.counts[0])
        return float(np.interp(turn * counts, turn * self.counts, self.openings_m))

    def to_counts(self, opening_m: float) -> int:
        """Count nearest to an opening, within the ends."""
        return round(float(np.interp(opening_m, self.openings_m, self.counts)))

    @property
    def counts_per_m(self) -> float:
        """Largest number of counts per metre of opening."""
        return float(np.abs(np.diff(self.counts) / np.diff(self.openings_m)).max())

    def calibrated(self, motor: MotorCalibration, *, inverted: bool) -> "GripperCalibration":
        """The same openings over a motor's range, closed at its low end; at its high end if inverted."""
        share = (self.counts - self.counts[0]) / (self.counts[-1] - self.counts[0])
        closed, opened = motor.range_min, motor.range_max
        if inverted:
            closed, opened = opened, closed
        return GripperCalibration(counts=closed + share * (opened - closed), openings_m=self.openings_m)


@dataclass(frozen=True, kw_only=True)
class ServoCalibration:
    """``q = sign (counts - zero) 2π / 4096`` for every joint.

    Counts are the servo's present position, with its homing offset applied.
    """

    zero_counts: Vector
    """(num_joints,); not always whole, as the middle of a range may lie between two counts."""
    sign: Vector
    """(num_joints,) of -1 and 1."""
    low_rad: Vector
    """(num_joints,) ends of the servos' ranges."""
    high_rad: Vector
    gripper: GripperCalibration | None = None
    """None if the description does not tell how to move a gripper."""
    motors: tuple[MotorCalibration, ...] = ()
    """Expected contents of the servos, from the file; empty without a file."""

    def to_rad(self, counts: NDArray[np.float64]) -> Vector:
        """Angles of counts, (num_joints,)."""
        return self.sign * (counts - self.zero_counts) * RAD_PER_COUNT

    def to_counts(self, joint_pos: Vector) -> NDArray[np.float64]:
        """Counts of angles, not rounded, (num_joints,)."""
        return self.zero_counts + self.sign * joint_pos / RAD_PER_COUNT

    def spans(self, description: RobotDescription) -> tuple[Span, ...]:
        """The widest spans of counts inside the joints' and the servos' ranges.

        Raises:
            DescriptionError: a joint has no two such counts.
        """
        low = np.maximum(description.limits("position_min_rad"), self.low_rad)
        high = np.minimum(description.limits("position_max_rad"), self.high_rad)
        ends = np.stack([self.to_counts(low), self.to_counts(high)])
        # With a small tolerance, so that an end that is a whole count stays one.
        lowest, highest = np.ceil(ends.min(axis=0) - 1e-6), np.floor(ends.max(axis=0) + 1e-6)
        for index in np.flatnonzero((lowest >= highest) | (low > high)):
            raise DescriptionError(
                f"joint {description.joint_names[index]}: no room within both the joint's limits and the "
                "range of its calibration"
            )
        return tuple(map(Span, lowest.astype(int).tolist(), highest.astype(int).tolist()))

    def ends_rad(self, spans: Sequence[Span]) -> tuple[Vector, Vector]:
        """Lowest and highest angle of each joint's span, two (num_joints,)."""
        ends = np.stack([self.to_rad(counts) for counts in np.array(spans, dtype=np.float64).T])
        return ends.min(axis=0), ends.max(axis=0)


def narrowed(description: RobotDescription, low_rad: Vector, high_rad: Vector) -> RobotDescription:
    """The same robot with these position limits, (num_joints,) each; a home outside is clipped."""
    joints = tuple(
        msgspec.structs.replace(
            joint,
            position_min_rad=low,
            position_max_rad=high,
            home_rad=min(max(joint.home_rad, low), high),
        )
        for joint, low, high in zip(description.joints, low_rad.tolist(), high_rad.tolist(), strict=True)
    )
    return msgspec.structs.replace(description, joints=joints)


def default_calibration(description: RobotDescription) -> ServoCalibration:
    """Calibration with zero in the middle of the turn and no sign changed."""
    count = description.num_joints
    half_turn = CENTRE_COUNTS * RAD_PER_COUNT
    return ServoCalibration(
        zero_counts=np.full(count, float(CENTRE_COUNTS)),
        sign=np.ones(count),
        low_rad=np.full(count, -half_turn),
        high_rad=np.full(count, half_turn - RAD_PER_COUNT),
        gripper=_described_gripper(description),
    )


def _described_gripper(description: RobotDescription) -> GripperCalibration | None:
    if description.gripper is None or description.gripper.servo is None:
        return None
    servo = description.gripper.servo
    return GripperCalibration(counts=np.array(servo.counts, float), openings_m=np.array(servo.openings_m))


def load_calibration(path: str | Path, description: RobotDescription) -> ServoCalibration:
    """Read the JSON file that LeRobot writes when an arm is calibrated.

    Joints are found by name. As in LeRobot's degrees, a joint's zero is the middle of its range. A gripper
    that the description tells how to move is closed where its range begins, and open where it ends.

    Raises:
        DescriptionError: the file cannot be read, or is not this arm's; names file, joint and expectation.
    """
    try:
        motors = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, MotorCalibration])
    except OSError as error:
        raise DescriptionError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"{path}: no LeRobot calibration: {error}") from error
    return calibration_of(motors, description, str(path))


def calibration_of(
    motors: dict[str, MotorCalibration], description: RobotDescription, origin: str
) -> ServoCalibration:
    """Calibration of a description's joints from that of motors by name.

    Raises:
        DescriptionError: a joint is missing, has another servo, or has no range.
    """
    bus, gripper = description.bus, _described_gripper(description)
    expected = {} if bus is None else dict(zip(description.joint_names, bus.servos, strict=True))
    if bus is not None and gripper is not None:
        expected[GRIPPER] = bus.others[GRIPPER]
    found = []
    for name, servo in expected.items():
        motor = motors.get(name)
        if motor is None:
            raise DescriptionError(f"{origin}: no motor {name!r}; it has {', '.join(motors) or 'none'}")
        if motor.id != servo:
            raise DescriptionError(f"{origin}: motor {name}: expected servo {servo}, found {motor.id}")
        if not 0 <= motor.range_min < motor.range_max < COUNTS_PER_TURN:
            raise DescriptionError(
                f"{origin}: motor {name}: expected a range within 0 to {COUNTS_PER_TURN - 1}, "
                f"found {motor.range_min} to {motor.range_max}"
            )
        found.append(motor)
    joints = found[: description.num_joints]
    inverted = [_is_inverted(motor, description) for motor in found]
    half_rad = np.array([(motor.range_max - motor.range_min) / 2 for motor in joints]) * RAD_PER_COUNT
    return ServoCalibration(
        zero_counts=np.array([(motor.range_min + motor.range_max) / 2 for motor in joints]),
        sign=np.array([-1.0 if inverts else 1.0 for inverts in inverted[: description.num_joints]]),
        low_rad=-half_rad,
        high_rad=half_rad,
        gripper=None if gripper is None else gripper.calibrated(found[-1], inverted=inverted[-1]),
        motors=tuple(found),
    )


def _is_inverted(motor: MotorCalibration, description: RobotDescription) -> bool:
    """Whether angles decrease with counts; servos with a drive mode of their own invert themselves."""
    inverts_itself = description.bus is not None and MODELS[description.bus.model].drive_mode is not None
    return not inverts_itself and motor.drive_mode == 1
