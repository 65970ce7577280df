"""Registers and units of the servos that the bridge drives."""

import math
from dataclasses import dataclass
from typing import Literal

from wpg.hardware_bridge.description import RobotDescription, ServoBusDescription
from wpg.hardware_bridge.errors import DescriptionError

COUNTS_PER_TURN = 4096
RAD_PER_COUNT = 2 * math.pi / COUNTS_PER_TURN
CENTRE_COUNTS = 2048
"""Zero of a joint, unless a calibration says otherwise."""


@dataclass(frozen=True, slots=True)
class Register:
    """A number in a servo's table, little-endian."""

    address: int
    size: int
    sign: Literal["none", "twos"] | int = "none"
    """``none``, ``twos`` complement, or the number of the sign bit above the magnitude."""

    def encode(self, value: int) -> bytes:
        """Bytes of a value.

        Raises:
            OverflowError: it does not fit.
        """
        if isinstance(self.sign, int):
            if abs(value) >> self.sign:
                raise OverflowError(f"register {self.address}: {value} does not fit")
            value = -value | 1 << self.sign if value < 0 else value
        return value.to_bytes(self.size, "little", signed=self.sign == "twos")

    def decode(self, data: bytes | bytearray) -> int:
        """Value of the first bytes of ``data``."""
        value = int.from_bytes(data[: self.size], "little", signed=self.sign == "twos")
        if isinstance(self.sign, int) and value >> self.sign & 1:
            value = -(value & (1 << self.sign) - 1)
        return value


@dataclass(frozen=True, kw_only=True)
class ServoModel:
    """One kind of servo."""

    protocol: Literal["feetech", "dynamixel"]
    number: int
    """Model number that the servo reports."""
    model: Register
    identifier: Register
    return_delay: Register
    """Return delay, in units of 2 µs."""
    min_position: Register
    max_position: Register
    homing_offset: Register
    operating_mode: Register
    position_modes: tuple[int, ...]
    """Operating modes in which the servo follows a position."""
    limited_modes: tuple[int, ...]
    """Those of them in which the servo keeps its position limits."""
    torque_enable: Register
    goal_position: Register
    goal_speed: Register
    """Largest speed towards the goal, in the velocity's unit; 0 for no limit."""
    speed_limit: Register | None
    """Largest value that may be written there; None for no such limit."""
    drive_mode: Register | None
    timed_drive: int
    """Bit of the drive mode that makes the goal speed a time."""
    present_position: Register
    present_velocity: Register
    present_effort: Register
    velocity_unit_rad_s: float
    effort_unit_nm: float | None
    """None if effort is a share of the full drive, in thousandths."""
    table_size: int
    eeprom_end: int
    eeprom_lock: Register | None
    """While it is 1, writes below the EEPROM's end last until power is cut.

    None if such writes are always kept.
    """
    read_only: tuple[tuple[int, int], ...]
    """Spans of addresses, the end excluded."""
    defaults: tuple[tuple[Register, int], ...]
    """Initial contents of an emulated servo's table."""
    errors: dict[int, str]
    """Meaning of the bits of a servo's hardware error."""


STS3215 = ServoModel(
    protocol="feetech",
    number=777,
    model=Register(3, 2),
    identifier=Register(5, 1),
    return_delay=Register(7, 1),
    min_position=Register(9, 2),
    max_position=Register(11, 2),
    homing_offset=Register(31, 2, 11),
    operating_mode=Register(33, 1),
    position_modes=(0,),
    limited_modes=(0,),
    torque_enable=Register(40, 1),
    goal_position=Register(42, 2, 15),
    goal_speed=Register(46, 2, 15),
    speed_limit=None,
    drive_mode=None,
    timed_drive=0,
    present_position=Register(56, 2, 15),
    present_velocity=Register(58, 2, 15),
    present_effort=Register(60, 2, 10),
    velocity_unit_rad_s=RAD_PER_COUNT,
    effort_unit_nm=None,
    table_size=87,
    eeprom_end=40,
    eeprom_lock=Register(55, 1),
    read_only=((0, 5), (56, 71)),
    defaults=(
        (Register(0, 1), 3),  # firmware 3.10
        (Register(1, 1), 10),
        (Register(8, 1), 1),  # every instruction is answered
        (Register(11, 2), COUNTS_PER_TURN - 1),
        (Register(16, 2), 1000),  # torque limit, thousandths
        (Register(48, 2), 1000),
        (Register(55, 1), 1),  # EEPROM locked
        (Register(62, 1), 74),  # 7.4 V
        (Register(63, 1), 30),  # °C
    ),
    errors={
        0x01: "voltage",
        0x02: "encoder",
        0x04: "temperature",
        0x08: "current",
        0x20: "overload",
    },
)
"""Feetech STS3215; memory table of the "Magnetic Encoding STS Servo", speeds in the unit of its delivery."""

XM430_W350 = ServoModel(
    protocol="dynamixel",
    number=1020,
    model=Register(0, 2),
    identifier=Register(7, 1),
    return_delay=Register(9, 1),
    min_position=Register(52, 4),
    max_position=Register(48, 4),
    homing_offset=Register(20, 4, "twos"),
    operating_mode=Register(11, 1),
    position_modes=(3, 4, 5),
    limited_modes=(3,),
    torque_enable=Register(64, 1),
    goal_position=Register(116, 4, "twos"),
    goal_speed=Register(112, 4),
    speed_limit=Register(44, 4),
    drive_mode=Register(10, 1),
    timed_drive=4,
    present_position=Register(132, 4, "twos"),
    present_velocity=Register(128, 4, "twos"),
    present_effort=Register(126, 2, "twos"),
    velocity_unit_rad_s=0.229 * 2 * math.pi / 60,
    effort_unit_nm=2.69e-3 * 4.1 / 2.3,  # 2.69 mA a unit; 4.1 Nm at 2.3 A when stalled at 12 V
    table_size=661,
    eeprom_end=64,
    eeprom_lock=None,
    read_only=((0, 7), (70, 71), (120, 147)),
    defaults=(
        (Register(6, 1), 46),  # firmware
        (Register(8, 1), 3),  # 1 Mbaud
        (Register(11, 1), 3),  # position control
        (Register(13, 1), 2),  # protocol 2.0
        (Register(38, 2), 1193),  # current limit
        (Register(44, 4), 200),  # velocity limit
        (Register(48, 4), COUNTS_PER_TURN - 1),
        (Register(68, 1), 2),  # every instruction is answered
        (Register(102, 2), 1193),
        (Register(144, 2), 120),  # 12.0 V
        (Register(146, 1), 30),  # °C
    ),
    errors={
        0x01: "voltage",
        0x04: "temperature",
        0x08: "encoder",
        0x10: "electrical shock",
        0x20: "overload",
    },
)
"""ROBOTIS XM430-W350; control table of the e-Manual."""

DXL_WATCHDOG = Register(98, 1, "twos")
"""Timeout in units of 20 ms; -1 once it has run out, 0 to clear that and to switch it off."""
DXL_WATCHDOG_UNIT_S = 0.02
DXL_HARDWARE_ERROR = Register(70, 1)
DXL_INDIRECT_ADDRESS = 168
"""Two bytes for each of the first 28 indirect data."""
DXL_INDIRECT_DATA = 224
DXL_INDIRECT_COUNT = 28

STS_ACCELERATION = Register(41, 1)
STS_GOAL_TIME = Register(44, 2)
"""0: as fast as the goal speed lets it."""

MODELS = {"sts3215": STS3215, "xm430-w350": XM430_W350}


def servo_bus(description: RobotDescription, protocol: str) -> tuple[ServoBusDescription, ServoModel]:
    """The bus of an arm, and its kind of servo.

    Raises:
        DescriptionError: the arm has no such bus.
    """
    if description.bus is None:
        raise DescriptionError(
            f"robot {description.name}: protocol {protocol} needs a [bus] table that names its servos"
        )
    model = MODELS[description.bus.model]
    if model.protocol != protocol:
        raise DescriptionError(
            f"robot {description.name}: its {description.bus.model} servos speak {model.protocol}, "
            f"not {protocol}"
        )
    return description.bus, model
