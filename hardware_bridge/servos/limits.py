"""Limits that the servos keep by themselves: the last line of defence against whatever arrives on the bus.

A damaged packet may fit its checksum; on a Feetech bus one in 256 does. A servo that holds its joint's limits
does not move beyond them, nor faster than its own speed limit, even with a damaged goal.

Feetech STS and SMS: goals beyond the position limits stay in their register, and the servo heads for the
nearer limit (huggingface/lerobot#3585). While the lock is 1, writes to the EEPROM's registers last only until
power is cut, as the goal speed always does (Feetech, memory table of the magnetic encoder STS servo). So the
limits are written when the arm is armed, and the servos' own are restored at the end: the EEPROM does not
wear, and other programs find what calibration has written.

Dynamixel X: goals beyond the position limits are refused, in position mode only. The limits are kept in any
case and can be written only without torque, so this is done only on request. The profile velocity is not
kept; it must not exceed the velocity limit, and is a time if the drive mode says so (ROBOTIS e-Manual,
XM430-W350).
"""

import math
from collections.abc import Mapping

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import ProtocolError
from wpg.hardware_bridge.servos.bus import ATTEMPTS, ServoBus
from wpg.hardware_bridge.servos.calibration import Span
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT, Register, ServoModel

SPEED_MARGIN = 1.1
"""Ratio of a servo's speed limit to its joint's, so that delayed setpoints are caught up with."""
SPEED_TOLERANCE = 0.01
STANCE_RAD = 0.1
"""A joint further outside its limits is refused, because its servo would move it too far by itself."""
ROUNDING_COUNTS = 1
"""Limits that are wider by no more than this are not wider."""

Values = dict[Register, dict[int, int]]
"""Contents of registers, by servo."""


class ServoLimits:
    """Position and speed limits of the joints, kept by their servos.

    Args:
        bus: bus of the servos.
        model: kind of servo.
        description: names and speeds of the joints.
        spans: the joints' limits, by servo, in order.
        gripper: counts between which the gripper's servo is moved, by that servo; empty where none is.

    Raises:
        ProtocolError: a servo lets no two goals of its joint pass.
        StaleStateError: a servo does not answer.
        LinkError: the link is dead.
    """

    def __init__(
        self,
        bus: ServoBus,
        model: ServoModel,
        description: RobotDescription,
        spans: Mapping[int, Span],
        gripper: Mapping[int, Span],
    ) -> None:
        self._bus, self._model, self._spans = bus, model, spans
        self._servos = tuple(spans)
        self._names = dict(zip(spans, description.joint_names, strict=True))
        self._told = False
        self._remarks: list[str] = []
        self._untaken: dict[str, None] = {}
        optional = (it for it in (model.speed_limit, model.drive_mode) if it is not None)
        held = bus.values(
            self._servos, (model.min_position, model.max_position, model.operating_mode, *optional)
        )
        low, high = held[model.min_position], held[model.max_position]
        self._found = {servo: Span(low[servo], high[servo]) for servo in self._servos}
        modes = held[model.operating_mode]
        self._heeding = {servo: modes[servo] in model.limited_modes for servo in self._servos}
        self.allowed = {servo: self._allowed(servo, modes[servo]) for servo in self._servos}
        """Goals that both the joint and its servo let pass, by servo."""
        self._gripper = self._gripper_allowed(gripper)
        speeds_rad_s = dict(zip(spans, description.limits("velocity_max_rad_s").tolist(), strict=True))
        self._speeds = {servo: self._speed(servo, speed, held) for servo, speed in speeds_rad_s.items()}

    @property
    def notices(self) -> tuple[str, ...]:
        """Where the servos do not keep their joints' limits, or narrower ones."""
        return (*self._remarks, *self._untaken)

    def clip(self, goals: Mapping[int, int]) -> dict[int, int]:
        """Goals as the servos take them; those of servos that move nothing stay as they are."""
        spans = self.allowed | self._gripper
        return {
            servo: min(max(goal, spans[servo].low), spans[servo].high) if servo in spans else goal
            for servo, goal in goals.items()
        }

    def tell(self) -> None:
        """Write the joints' limits into servos that forget them without power, while the arm is driven.

        Raises:
            ProtocolError: a joint stands outside its limits, where its servo would not let it stand.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        model, lock, wider = self._model, self._model.eeprom_lock, self._wider
        wanted: Values = {model.goal_speed: self._speeds}
        if lock is not None and wider:
            wanted |= {lock: dict.fromkeys(wider, 1)} | self._limits(self.allowed)
        left: Values = {}
        for _ in range(ATTEMPTS):
            held = self._bus.values(self._servos, (model.present_position, *wanted))
            self._check_stance(held[model.present_position])
            left = _differing(wanted, held)
            if not left:
                return
            if lock is not None and lock in left:
                # Before the limits: without it they would be kept.
                left = {lock: left[lock]}
            self._told |= model.min_position in left or model.max_position in left
            self._write(left)
        self._untaken |= dict.fromkeys(
            f"{self._name(servo)}: register {register.address} does not take {value}"
            for register, values in left.items()
            for servo, value in values.items()
        )

    def put_back(self) -> None:
        """The limits that :meth:`tell` has found are in force again; nobody answers.

        Raises:
            LinkError: the link is dead.
        """
        if self._told:
            self._told = False
            self._write(self._limits(self._found))

    def keep(self) -> list[str]:
        """Write the joints' limits permanently into servos whose own are wider and cannot be set temporarily.

        Returns:
            What was changed, one line per servo.

        Raises:
            ProtocolError: torque is on, or a servo does not take its limits.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        if self._model.eeprom_lock is not None:
            return []
        changed = []
        for servo in self._wider:
            if self._bus.read(servo, self._model.torque_enable):
                raise ProtocolError(
                    f"{self._name(servo)}: its limits can be written without torque only: support the arm, "
                    "release it with `wpg check … --stop release`, and try again"
                )
            for register, values in self._limits(self.allowed).items():
                value = values[servo]
                self._bus.write(servo, register, value)
                if (found := self._bus.read(servo, register)) != value:
                    raise ProtocolError(
                        f"{self._name(servo)}: register {register.address}: wrote {value}, found {found}"
                    )
            was, now = self._found[servo], self.allowed[servo]
            changed.append(f"{self._name(servo)}: took goals from {was}, now {now}")
        return changed

    @property
    def _wider(self) -> list[int]:
        return [
            servo
            for servo in self._servos
            if self._heeding[servo] and _is_wider(self._found[servo], self.allowed[servo])
        ]

    def _allowed(self, servo: int, mode: int) -> Span:
        joint, found = self._spans[servo], self._found[servo]
        if not self._heeding[servo]:
            self._remarks.append(f"{self._name(servo)}: heeds no position limits in operating mode {mode}")
            return joint
        if found.low >= found.high:
            # A Feetech servo that counts turns has 0 for both.
            return joint
        both = Span(max(joint.low, found.low), min(joint.high, found.high))
        if both.low >= both.high:
            raise ProtocolError(
                f"{self._name(servo)}: takes goals from {found}, no two of them within its joint's {joint}"
            )
        if _is_wider(joint, both):
            self._remarks.append(
                f"{self._name(servo)}: takes goals from {found} only, its joint's limits are {joint}: "
                "setpoints stop there"
            )
        elif self._model.eeprom_lock is None and _is_wider(found, joint):
            self._remarks.append(
                f"{self._name(servo)}: takes goals from {found}, its joint's limits are {joint}: "
                "`wpg check … --set-limits` writes them into a servo without torque; "
                "`wpg check … --stop release` leaves a supported arm so"
            )
        return both

    def _gripper_allowed(self, moved: Mapping[int, Span]) -> dict[int, Span]:
        """Goals that the gripper's servo lets pass; its own limits, where it heeds them, may be narrower."""
        model = self._model
        allowed = {}
        for servo, span in moved.items():
            registers = (model.min_position, model.max_position, model.operating_mode)
            low, high, mode = (self._bus.read(servo, register) for register in registers)
            heeds = mode in model.limited_modes and low < high
            allowed[servo] = Span(max(span.low, low), min(span.high, high)) if heeds else span
            if allowed[servo].low >= allowed[servo].high:
                raise ProtocolError(
                    f"servo {servo} (gripper): takes goals from {Span(low, high)}, "
                    f"no two of them within its openings' {span}"
                )
            if _is_wider(span, allowed[servo]):
                self._remarks.append(
                    f"servo {servo} (gripper): takes goals from {Span(low, high)} only, "
                    f"its openings are {span}: it opens and closes no further"
                )
        return allowed

    def _speed(self, servo: int, speed_rad_s: float, held: Values) -> int:
        """Speed limit of a servo, in its unit; 0 where it has to do without."""
        model, unit_rad_s = self._model, self._model.velocity_unit_rad_s
        speed, reason = math.ceil(SPEED_MARGIN * speed_rad_s / unit_rad_s), ""
        if model.speed_limit is not None:
            most = held[model.speed_limit][servo]
            speed = min(speed, most)
            if most * unit_rad_s < speed_rad_s * (1 - SPEED_TOLERANCE):
                reason = f"its velocity limit is {most}, below its joint's"
        if model.drive_mode is not None and (mode := held[model.drive_mode][servo]) & model.timed_drive:
            reason = f"its profile goes by time, drive mode {mode}"
        if not reason:
            return speed
        self._remarks.append(f"{self._name(servo)}: has no speed limit of its own: {reason}")
        return 0

    def _check_stance(self, present: Mapping[int, int]) -> None:
        for servo, inside in self.clip(present).items():
            if abs(present[servo] - inside) * RAD_PER_COUNT > STANCE_RAD:
                raise ProtocolError(
                    f"{self._name(servo)}: is at {present[servo]}, outside its limits, "
                    f"{self.allowed[servo]}: move it back by hand"
                )

    def _limits(self, spans: Mapping[int, Span]) -> Values:
        """Position limits of the servos whose own are wider than their joints'."""
        return {
            self._model.min_position: {servo: spans[servo].low for servo in self._wider},
            self._model.max_position: {servo: spans[servo].high for servo in self._wider},
        }

    def _write(self, wanted: Values) -> None:
        for register, values in wanted.items():
            data = {servo: register.encode(value) for servo, value in values.items()}
            self._bus.sync_write(register.address, data)

    def _name(self, servo: int) -> str:
        return f"servo {servo} ({self._names[servo]})"


def _differing(wanted: Values, held: Values) -> Values:
    """What is wanted and not held."""
    left = {
        register: {servo: value for servo, value in values.items() if held[register][servo] != value}
        for register, values in wanted.items()
    }
    return {register: values for register, values in left.items() if values}


def _is_wider(span: Span, other: Span) -> bool:
    return span.low < other.low - ROUNDING_COUNTS or span.high > other.high + ROUNDING_COUNTS
