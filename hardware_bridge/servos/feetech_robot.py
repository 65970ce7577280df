"""An arm of Feetech STS servos, such as the SO-101."""

from collections.abc import Iterator

from wpg.hardware_bridge.protocols.feetech import FeetechProtocol
from wpg.hardware_bridge.protocols.servo import Status
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.models import STS_ACCELERATION, STS_GOAL_TIME
from wpg.hardware_bridge.servos.readings import Measurement
from wpg.hardware_bridge.servos.robot import ServoRobot

TORQUE_CHECK_READS = 10
"""Every so many reads the servos are asked whether their torque is still on."""
ACCELERATION_MAX = 254

MEASURED_SIZE = 6
"""Bytes of position, velocity and load, whose registers follow each other."""


class FeetechRobot(ServoRobot):
    """Driver of Feetech STS and SMS servos.

    They have no watchdog: an arm whose bridge dies stands at its last setpoint, torque on. A servo that was
    reset by a dip of its supply has lost its torque; this is noticed within ten reads. Joint torques are the
    load, which is the drive's duty, times the torque limit: an indication, no measurement.
    """

    protocol = FeetechProtocol()

    def _ask(self, servos: tuple[int, ...]) -> Iterator[Status]:
        # Torque goes first: nothing has to be made of its answers before the next question.
        if self._status is RobotStatus.ARMED and (self._sequence + 1) % TORQUE_CHECK_READS == 0:
            enabled = self._connected.sync_read(servos, self._model.torque_enable.address, 1)
            if not enabled:
                return
            if any(status.data != b"\1" for status in enabled.values()):
                self._status = RobotStatus.RELEASED
        yield from self._connected.answers(servos, self._model.present_position.address, MEASURED_SIZE)

    def _measurement(self, data: bytes) -> Measurement:
        model = self._model
        return Measurement(
            position=model.present_position.decode(data),
            velocity=model.present_velocity.decode(data[2:]),
            effort=model.present_effort.decode(data[4:]),
        )

    def _complaint(self, status: Status) -> str:
        bits = (meaning for bit, meaning in self._model.errors.items() if status.error & bit)
        return ", ".join(bits) or f"error {status.error:#04x}"

    def _before_torque(self) -> None:
        """No ramp of the servo's own: the setpoints have theirs."""
        ramp = STS_ACCELERATION.encode(ACCELERATION_MAX)
        self._connected.sync_write(STS_ACCELERATION.address, dict.fromkeys(self._servos, ramp))
        self._connected.sync_write(STS_GOAL_TIME.address, dict.fromkeys(self._servos, bytes(2)))
        if others := tuple(self._servo_bus.others.values()):
            self._connected.sync_write(self._model.goal_speed.address, dict.fromkeys(others, bytes(2)))
