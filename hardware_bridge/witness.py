"""What the robot's own end saw: the evidence that it was never asked to leave its limits."""

import math
from collections import Counter

import msgspec
import numpy as np

from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import Vector


class Witness(msgspec.Struct, kw_only=True):
    """Counts and extremes of one device's life, an emulator's or the Franka gateway's.

    Its JSON is what ``wpg emulate --json`` writes.
    """

    robot: str
    frames_ok: int = 0
    frames_bad: int = 0
    frames_unauthenticated: int = 0
    frames_foreign: int = 0
    """Whole frames outside a session, repeated, or from a client that does not command."""
    commands_ok: int = 0
    # Counters while they are counted in; decoding gives plain dictionaries.
    commands_refused: dict[str, int] = msgspec.field(default_factory=Counter)
    commands_outside_limits: int = 0
    """Commands outside the published limits, whether refused or not."""
    commands_outside_limits_by: dict[str, int] = msgspec.field(default_factory=Counter)
    arms: int = 0
    holds: int = 0
    """How often the watchdog held the arm."""
    hold_delay_ms_max: float = 0.0
    """Longest time between the last valid command and the watchdog's hold."""
    first_step_rad_max: float = 0.0
    """Longest way from where a joint stood when it was armed to the first command that it followed."""
    coasting_ms_max: float = 0.0
    """Longest time that a setpoint went on moving after the last command."""
    stops: dict[str, int] = msgspec.field(default_factory=Counter)
    """Stops that were asked for, by mode."""
    joint_pos_min: list[float] = msgspec.field(default_factory=list)
    """Smallest measured position of each joint, rad."""
    joint_pos_max: list[float] = msgspec.field(default_factory=list)
    joint_vel_max: list[float] = msgspec.field(default_factory=list)
    """Largest measured speed of each joint, rad/s."""
    late_ms_max: float = 0.0
    """How far an emulator's own clock fell behind at worst."""

    def saw_joints(self, joint_pos: Vector, joint_vel: Vector) -> None:
        """Widen the extremes by one measurement, as far as it is finite."""
        speed = np.abs(joint_vel)
        if not self.joint_pos_min:
            self.joint_pos_min, self.joint_pos_max = joint_pos.tolist(), joint_pos.tolist()
            self.joint_vel_max = speed.tolist()
            return
        self.joint_pos_min = np.fmin(self.joint_pos_min, joint_pos).tolist()
        self.joint_pos_max = np.fmax(self.joint_pos_max, joint_pos).tolist()
        self.joint_vel_max = np.fmax(self.joint_vel_max, speed).tolist()

    def saw_command(self, refusal: Refusal, outside: tuple[str, ...]) -> None:
        """Count one command."""
        if refusal is Refusal.NONE:
            self.commands_ok += 1
        else:
            self.commands_refused[refusal.name.lower()] += 1
        self.commands_outside_limits += bool(outside)
        for kind in outside:
            self.commands_outside_limits_by[kind] += 1

    def saw_hold(self, silence_s: float) -> None:
        """The watchdog has held the arm after so long without a valid command."""
        self.holds += 1
        self.hold_delay_ms_max = max(self.hold_delay_ms_max, milliseconds(silence_s))


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return math.ceil(seconds * 1e6) / 1e3
