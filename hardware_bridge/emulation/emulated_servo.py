"""One emulated servo: its table of registers, and how it clips goals."""

import math
from collections.abc import Callable

from wpg.hardware_bridge.servos.models import CENTRE_COUNTS, Register, ServoModel


class EmulatedServo:
    """One servo's table.

    Args:
        identifier: its address on the bus.
        joint: the joint it turns; None for one that the simulated arm does not have.
    """

    def __init__(self, model: ServoModel, identifier: int, joint: int | None) -> None:
        self.model = model
        self.identifier = identifier
        self.joint = joint
        self.table = bytearray(model.table_size)
        self._kept = bytearray(model.eeprom_end)
        """Contents of the EEPROM, which the registers have after switching on."""
        self.pending: tuple[int, bytes] | None = None
        """A write that waits for the action instruction."""
        self.error = 0
        """Error bits of every status; a test or a fault sets them."""
        self.on_read: Callable[[int, bytes], bytes] = lambda _, data: data
        """What is answered to a read of ``data`` at an address; faults may change it."""
        self.on_write: Callable[[int, bytes], int | None] = lambda *_: None
        """Error with which a write of data at an address is answered instead of being done; None does it."""
        self.is_dead = False
        """Whether its cable is off, so that it neither hears nor answers."""
        self.restart()
        self.set(model.model, model.number)
        self.set(model.identifier, identifier)
        self.set(model.present_position, CENTRE_COUNTS)
        self.set(model.goal_position, CENTRE_COUNTS)

    def restart(self) -> None:
        """Reset all that is not in the EEPROM; the goal becomes the present position."""
        present = self.get(self.model.present_position)
        end = self.model.eeprom_end
        is_new = not any(self.table)
        self.table[:] = self._kept + bytes(len(self.table) - end)
        for register, value in self.model.defaults:
            if is_new or register.address >= end:
                self.set(register, value)
        self.set(self.model.present_position, present)
        self.set(self.model.goal_position, present)
        self.pending, self.error = None, 0

    def get(self, register: Register) -> int:
        """Value of a register."""
        return register.decode(self.table[register.address : register.address + register.size])

    def set(self, register: Register, value: int) -> None:
        """Set a register, even a read-only one, and keep it in the EEPROM."""
        span = slice(register.address, register.address + register.size)
        self.table[span] = register.encode(value)
        if span.stop <= self.model.eeprom_end:
            self._kept[span] = register.encode(value)

    def write(self, address: int, data: bytes) -> None:
        """Write from the bus: read-only bytes stay as they are, and locked ones are not kept."""
        lock = self.model.eeprom_lock
        unlocked = lock is None or not self.get(lock)
        for at, value in enumerate(data, address):
            if any(start <= at < end for start, end in self.model.read_only):
                continue
            self.table[at] = value
            if unlocked and at < self.model.eeprom_end:
                self._kept[at] = value

    @property
    def torque(self) -> bool:
        """Whether the servo holds and follows its goal."""
        return self.get(self.model.torque_enable) == 1

    @property
    def target(self) -> int:
        """The goal clipped to the position limits; if both are 0, the servo counts turns without limits."""
        goal = self.get(self.model.goal_position)
        low, high = self.get(self.model.min_position), self.get(self.model.max_position)
        if self.get(self.model.operating_mode) not in self.model.limited_modes or low >= high:
            return goal
        return min(max(goal, low), high)

    @property
    def speed_rad_s(self) -> float:
        """Speed limit on the way to the goal; infinite if none is set, or if the profile is by time."""
        speed = self.get(self.model.goal_speed)
        return math.inf if self.is_timed or speed == 0 else speed * self.model.velocity_unit_rad_s

    @property
    def is_timed(self) -> bool:
        """Whether the goal speed register holds a time instead of a speed."""
        mode = self.model.drive_mode
        return mode is not None and bool(self.get(mode) & self.model.timed_drive)
