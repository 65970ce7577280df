"""Checks of a servo bus before anything is commanded: the right servos, in the right state."""

from collections.abc import Mapping

from wpg.hardware_bridge.errors import LinkError, ProtocolError
from wpg.hardware_bridge.servos.bus import ServoBus
from wpg.hardware_bridge.servos.calibration import ServoCalibration, Span
from wpg.hardware_bridge.servos.models import Register, ServoModel

ROUNDS = 20
"""How often every servo is pinged before the bus counts as empty; for six servos this takes 0.3 s."""


def check_servos(
    bus: ServoBus,
    names: Mapping[int, str],
    model: ServoModel,
    calibration: ServoCalibration,
    spans: Mapping[int, Span],
) -> None:
    """Check that all servos answer, are of the right model and mode, and hold the given calibration.

    Args:
        bus: bus of the servos.
        names: name of every servo.
        model: expected kind of servo.
        calibration: expected contents of the servos' tables, if it was read from a file.
        spans: limits of the joints, which the servos hold instead if a driver ended without closing.

    Raises:
        LinkError: no servo answers.
        StaleStateError: some do not answer; names them.
        ProtocolError: other servos, in another mode, or calibrated otherwise.
    """
    if not any(bus.ping(servo) for _ in range(ROUNDS) for servo in names):
        damaged = bus.decoder.packets_bad
        also = f", but {damaged} damaged packets came" if damaged else ""
        raise LinkError(
            f"link {bus.url}: none of the servos {', '.join(map(str, names))} answers{also}; "
            "is the arm powered, and is this its port and its baudrate?"
        )
    check_register(bus, names, model.model, "model", (model.number,))
    check_register(bus, names, model.operating_mode, "operating mode", model.position_modes)
    for motor in calibration.motors:
        servo = motor.id
        told = spans.get(servo, Span(motor.range_min, motor.range_max))
        for register, expected in (
            (model.homing_offset, (motor.homing_offset,)),
            (model.min_position, (motor.range_min, told.low)),
            (model.max_position, (motor.range_max, told.high)),
        ):
            found = bus.read(servo, register)
            if found not in expected:
                raise ProtocolError(
                    f"servo {servo} ({names[servo]}): register {register.address}: the calibration says "
                    f"{expected[0]}, found {found}; the file is another arm's, or the arm was calibrated anew"
                )


def check_register(
    bus: ServoBus, names: Mapping[int, str], register: Register, what: str, expected: tuple[int, ...]
) -> None:
    """Check that a register has one of these values in every servo.

    Raises:
        ProtocolError: names the servo, what was expected and what was found.
        StaleStateError: a servo does not answer.
        LinkError: the link is dead.
    """
    for servo, found in bus.registers(tuple(names), register).items():
        if found not in expected:
            choice = " or ".join(map(str, expected))
            raise ProtocolError(f"servo {servo} ({names[servo]}): {what}: expected {choice}, found {found}")
