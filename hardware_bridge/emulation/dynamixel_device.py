"""The device's side of a Dynamixel bus: the features that Feetech servos do not have."""

import math

from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulated_servo import EmulatedServo
from wpg.hardware_bridge.emulation.servo_device import ServoDevice
from wpg.hardware_bridge.protocols.dynamixel import ALERT, DynamixelProtocol, fast_size
from wpg.hardware_bridge.protocols.servo import BROADCAST, Instruction, Packet, Status
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.models import (
    DXL_HARDWARE_ERROR,
    DXL_INDIRECT_ADDRESS,
    DXL_INDIRECT_COUNT,
    DXL_INDIRECT_DATA,
    DXL_WATCHDOG,
    DXL_WATCHDOG_UNIT_S,
    Register,
)

ERROR_RANGE = 4
ERROR_ACCESS = 7
_FIRMWARE = Register(6, 1)


class DynamixelDevice(ServoDevice):
    """X-series servos: bus watchdog, indirect addresses, refusals, fast and bulk instructions, reboot.

    Range errors refuse goals outside the position limits in position mode, and profile velocities over the
    velocity limit; access errors refuse EEPROM registers while torque is on (ROBOTIS e-Manual, XM430-W350).
    """

    def __init__(self, arm: EmulatedArm, protocol: DynamixelProtocol) -> None:
        super().__init__(arm, protocol)
        arm.watchdog_s = math.inf
        self._protocol2 = protocol
        self._held_by_watchdog = False
        self._instructions |= {
            Instruction.REBOOT: self._reboot,
            Instruction.FAST_SYNC_READ: self._fast_sync_read,
            Instruction.BULK_READ: self._bulk_read,
            Instruction.BULK_WRITE: self._bulk_write,
        }
        self._map_directly()

    def brown_out(self, now_s: float) -> None:
        """Restart every servo; torque, watchdog and indirect addresses are lost."""
        super().brown_out(now_s)
        self._map_directly()
        self._set_watchdog()

    def _map_directly(self) -> None:
        for servo in self.servos.values():
            for index in range(DXL_INDIRECT_COUNT):
                servo.set(Register(DXL_INDIRECT_ADDRESS + 2 * index, 2), DXL_INDIRECT_DATA + index)

    def _before(self, now_s: float) -> None:
        super()._before(now_s)
        self._arm.heard(now_s)
        held = self._arm.status is RobotStatus.HOLDING
        if held and not self._held_by_watchdog:
            for servo in self.servos.values():
                if servo.get(DXL_WATCHDOG) > 0:
                    servo.set(DXL_WATCHDOG, -1)
        self._held_by_watchdog = held
        for servo in self.servos.values():
            servo.error = ALERT if servo.get(DXL_HARDWARE_ERROR) else 0

    def _ping_data(self, servo: EmulatedServo) -> bytes:
        return self.model.number.to_bytes(2, "little") + bytes((servo.get(_FIRMWARE),))

    def _refused_range(self) -> int:
        return ERROR_ACCESS

    def _registers(self, servo: EmulatedServo, address: int, size: int) -> bytes | None:
        data = super()._registers(servo, address, size)
        first, end = DXL_INDIRECT_DATA, DXL_INDIRECT_DATA + DXL_INDIRECT_COUNT
        if data is None or address >= end or address + size <= first:
            return data
        return bytes(servo.table[self._direct(servo, at)] for at in range(address, address + size))

    @staticmethod
    def _direct(servo: EmulatedServo, address: int) -> int:
        """The address of the register that an indirect address stands for; others as they are."""
        index = address - DXL_INDIRECT_DATA
        if not 0 <= index < DXL_INDIRECT_COUNT:
            return address
        target = servo.get(Register(DXL_INDIRECT_ADDRESS + 2 * index, 2))
        return target if target < len(servo.table) else address

    def _store(self, servo: EmulatedServo, address: int, data: bytes) -> int:
        at = self._direct(servo, address)
        if at < self.model.eeprom_end and servo.torque:
            return ERROR_ACCESS
        if any(start <= at < end for start, end in self.model.read_only):
            return ERROR_ACCESS
        goals = range(100, 120)
        if at in goals and servo.get(DXL_WATCHDOG) < 0:
            return ERROR_RANGE
        if at == self.model.goal_position.address and not self._in_range(servo, data):
            return ERROR_RANGE
        if at == self.model.goal_speed.address and not self._is_speed(servo, data):
            return ERROR_RANGE
        enabling = at == self.model.torque_enable.address and data[:1] == b"\1" and not servo.torque
        error = super()._store(servo, at, data)
        if enabling:
            servo.set(self.model.goal_position, servo.get(self.model.present_position))
        if at == DXL_WATCHDOG.address:
            self._set_watchdog()
        return error

    def _in_range(self, servo: EmulatedServo, data: bytes) -> bool:
        goal = self.model.goal_position.decode(data)
        if servo.get(self.model.operating_mode) != 3:
            return True
        return servo.get(self.model.min_position) <= goal <= servo.get(self.model.max_position)

    def _is_speed(self, servo: EmulatedServo, data: bytes) -> bool:
        limit = self.model.speed_limit
        return limit is None or servo.is_timed or self.model.goal_speed.decode(data) <= servo.get(limit)

    def _set_watchdog(self) -> None:
        """Let the arm hold as soon as the servo with the shortest watchdog would."""
        values = [servo.get(DXL_WATCHDOG) for servo in self.servos.values()]
        periods = [value for value in values if value > 0]
        self._arm.watchdog_s = min(periods) * DXL_WATCHDOG_UNIT_S if periods else math.inf

    def _reboot(self, packet: Packet, now_s: float) -> None:
        for servo in self._addressed(packet):
            if packet.servo != BROADCAST:
                self._reply(servo)
            servo.set(self.model.torque_enable, 0)
            servo.set(DXL_HARDWARE_ERROR, 0)
            servo.set(DXL_WATCHDOG, 0)
            self._commanded = True
        self._set_watchdog()
        self._follow(now_s)

    def _fast_sync_read(self, packet: Packet, now_s: float) -> None:
        """Answer in one packet, to which each servo adds its part; the packet ends at a missing servo."""
        address, size, numbers = self._codec.split_read(packet.params)
        statuses = []
        for number in numbers:
            servo = self._alive(number)
            data = None if servo is None else self._told(servo, address, size)
            if servo is None or data is None:
                break
            statuses.append(Status(number, servo.error, data))
        if not statuses:
            return
        whole = [*statuses, *(Status(number, 0, bytes(size)) for number in numbers[len(statuses) :])]
        data, start = self._protocol2.encode_fast(whole), 0
        for index, status in enumerate(statuses, 1):
            end = fast_size(index, size)
            self._send(self.servos[status.servo], data[start:end], waits=index == 1)
            start = end

    def _bulk_read(self, packet: Packet, now_s: float) -> None:
        for number, address, size in self._protocol2.split_bulk_read(packet.params):
            if (servo := self._alive(number)) is not None:
                self._answer_read(servo, address, size)

    def _bulk_write(self, packet: Packet, now_s: float) -> None:
        for number, address, data in self._protocol2.split_bulk_write(packet.params):
            if (servo := self._alive(number)) is not None:
                self._write_to(servo, address, data)
        self._follow(now_s)
