"""One emulated servo: its table of registers, and what of a goal it takes."""

import math

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
        """What the EEPROM's registers are after switching on."""
        self.pending: tuple[int, bytes] | None = None
        """A write that waits for action."""
        self.error = 0
        """Error bits of every status; a test or a fault sets them."""
        self.is_dead = False
        """Its cable is off: it neither hears nor answers."""
        self.restart()
        self.set(model.model, model.number)
        self.set(model.identifier, identifier)
        self.set(model.present_position, CENTRE_COUNTS)
        self.set(model.goal_position, CENTRE_COUNTS)

    def restart(self) -> None:
        """All that is not in the EEPROM is as after switching on; the goal is where the servo stands."""
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
        """Change a register, whoever may write it, for good."""
        span = slice(register.address, register.address + register.size)
        self.table[span] = register.encode(value)
        if span.stop <= self.model.eeprom_end:
            self._kept[span] = register.encode(value)

    def write(self, address: int, data: bytes) -> None:
        """What the bus may write; read-only bytes stay as they are, locked ones are not kept."""
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
        """The goal as the servo takes it, within its position limits; both 0: it counts turns without."""
        goal = self.get(self.model.goal_position)
        low, high = self.get(self.model.min_position), self.get(self.model.max_position)
        if self.get(self.model.operating_mode) not in self.model.limited_modes or low >= high:
            return goal
        return min(max(goal, low), high)

    @property
    def speed_rad_s(self) -> float:
        """How fast it lets itself go there; infinite where nobody has said, or its profile goes by time."""
        speed = self.get(self.model.goal_speed)
        return math.inf if self.is_timed or speed == 0 else speed * self.model.velocity_unit_rad_s

    @property
    def is_timed(self) -> bool:
        """Its profile goes by time: the goal speed is none."""
        mode = self.model.drive_mode
        return mode is not None and bool(self.get(mode) & self.model.timed_drive)
