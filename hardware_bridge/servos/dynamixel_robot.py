"""An arm of ROBOTIS Dynamixel X servos."""

import contextlib
import math
import struct
from collections.abc import Callable, Iterator

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError, ProtocolError, StaleStateError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.protocols.dynamixel import ALERT, DynamixelProtocol
from wpg.hardware_bridge.protocols.servo import Instruction, Status
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.calibration import ServoCalibration
from wpg.hardware_bridge.servos.models import (
    DXL_HARDWARE_ERROR,
    DXL_INDIRECT_ADDRESS,
    DXL_INDIRECT_DATA,
    DXL_WATCHDOG,
    DXL_WATCHDOG_UNIT_S,
    Register,
)
from wpg.hardware_bridge.servos.readings import Measurement
from wpg.hardware_bridge.servos.robot import ServoRobot, ServoRobotConfig

_MEASURED = struct.Struct("<BbBhii")
"""Torque enable, watchdog, hardware error, current, velocity and position, as indirect addresses map them."""
_SWITCHES = struct.Struct("<Bb")
"""The first two of them."""


class DynamixelRobot(ServoRobot):
    """Driver of Dynamixel X servos, Protocol 2.0.

    By indirect addresses, every read returns torque, watchdog and hardware error with the measurement. While
    the arm is armed, each servo's bus watchdog runs: the servo stops by itself when the bridge falls silent,
    and takes no goal until it is armed again.

    Reads are fast sync reads (firmware 45 and later) unless the configuration says otherwise, or a servo has
    just missed.
    """

    protocol = DynamixelProtocol()

    def __init__(
        self,
        description: RobotDescription,
        link: str | Callable[[], Link],
        config: ServoRobotConfig | None = None,
        *,
        calibration: ServoCalibration | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(description, link, config, calibration=calibration, clock=clock)
        # Rounded down, so that no servo waits longer than described; whole numbers have a tolerance.
        self._watchdog = math.floor(description.watchdog_s / DXL_WATCHDOG_UNIT_S + 1e-9)
        if not 1 <= self._watchdog <= 127:
            raise DescriptionError(
                f"robot {description.name}: watchdog_s: expected 0.02 to 2.54, all that the servos' "
                f"own watchdog offers; found {description.watchdog_s:g}"
            )

    def _ask(self, servos: tuple[int, ...]) -> Iterator[Status]:
        restarted = []
        for answer in self._answers(servos):
            torque, watchdog = _SWITCHES.unpack_from(answer.data)
            if not any(answer.data):
                # All zeros are no measurement: the servo has lost its indirect addresses with its supply.
                restarted.append(answer.servo)
                if answer.servo not in self._mended:
                    continue
            if self._status is RobotStatus.ARMED:
                if watchdog < 0:
                    self._status = RobotStatus.HOLDING
                elif torque != 1:
                    self._status = RobotStatus.RELEASED
            yield answer
        self._mend(restarted)

    def _answers(self, servos: tuple[int, ...]) -> Iterator[Status]:
        left = list(servos)
        if self._config.fast_read and self._readings.complete:
            span = (DXL_INDIRECT_DATA, _MEASURED.size)
            for answer in self._connected.answers(servos, *span, Instruction.FAST_SYNC_READ):
                left.remove(answer.servo)
                yield answer
            if len(left) == len(servos):
                return
        # A missing servo silences those after it in a fast answer, but not in a plain one.
        if left:
            yield from self._connected.answers(left, DXL_INDIRECT_DATA, _MEASURED.size)

    def _mend(self, restarted: list[int]) -> None:
        """Map measurements again in a servo that reports all zeros; one per read, because it takes time."""
        self._mended &= set(restarted)
        lost = [servo for servo in restarted if servo not in self._mended]
        if lost:
            if self._status is RobotStatus.ARMED:
                self._status = RobotStatus.RELEASED
            with contextlib.suppress(StaleStateError, ProtocolError):
                self._map_measurements(lost[0])
                self._mended.add(lost[0])

    def _measurement(self, data: bytes) -> Measurement:
        _, _, _, current, velocity, position = _MEASURED.unpack(data)
        return Measurement(position, velocity, current)

    def _complaint(self, status: Status) -> str:
        if not status.error & ALERT:
            return ""
        found = status.data[2]
        bits = [meaning for bit, meaning in self._model.errors.items() if found & bit]
        return ", ".join(bits) or f"hardware error {found:#04x}"

    def _configure(self) -> None:
        self._mended: set[int] = set()
        """Servos whose zeros are taken for measurements."""
        self._set_watchdogs(0)
        for servo in self._servos:
            self._map_measurements(servo)

    def _map_measurements(self, servo: int) -> None:
        """Map the registers of a measurement to the indirect data."""
        model = self._model
        registers = (
            model.torque_enable,
            DXL_WATCHDOG,
            DXL_HARDWARE_ERROR,
            model.present_effort,
            model.present_velocity,
            model.present_position,
        )
        addresses = [register.address + at for register in registers for at in range(register.size)]
        indirect = b"".join(address.to_bytes(2, "little") for address in addresses)
        register = Register(DXL_INDIRECT_ADDRESS, len(indirect))
        self._connected.write(servo, register, int.from_bytes(indirect, "little"))

    def _before_torque(self) -> None:
        """Clear the watchdogs, which make servos refuse goals, and map measurements again after a restart."""
        self._configure()

    def _after_torque(self) -> None:
        """Start the watchdogs, so that the servos stop by themselves when the bridge falls silent."""
        self._set_watchdogs(self._watchdog)

    def _set_watchdogs(self, value: int) -> None:
        for servo in self._servos:
            self._connected.write(servo, DXL_WATCHDOG, value)
