"""The device's own record of what reached it: evidence that no command was outside the limits."""

import math
from collections import Counter

import msgspec
import numpy as np

from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import Vector


class Witness(msgspec.Struct, kw_only=True):
    """Counts and extremes since a device was started, which is an emulator or the Franka gateway.

    Its JSON is what ``wpg emulate --json`` writes.
    """

    robot: str
    frames_ok: int = 0
    frames_bad: int = 0
    frames_unauthenticated: int = 0
    frames_foreign: int = 0
    """Valid frames that are repeated, outside a session, or from a client that is not in command."""
    commands_ok: int = 0
    # These are Counters while the device runs; decoded from JSON they are plain dictionaries.
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
    """Largest distance of a joint from where it was armed to the first command that it followed."""
    coasting_ms_max: float = 0.0
    """Longest time for which a setpoint kept moving after the last command."""
    stops: dict[str, int] = msgspec.field(default_factory=Counter)
    """Stops that were asked for, by mode."""
    joint_pos_min: list[float] = msgspec.field(default_factory=list)
    """Smallest measured position of each joint, rad."""
    joint_pos_max: list[float] = msgspec.field(default_factory=list)
    joint_vel_max: list[float] = msgspec.field(default_factory=list)
    """Largest measured speed of each joint, rad/s."""
    late_ms_max: float = 0.0
    """Largest delay of an emulator behind its own clock."""

    def saw_joints(self, joint_pos: Vector, joint_vel: Vector) -> None:
        """Take one measurement into the extremes; values that are not finite are ignored."""
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
        """Count a hold by the watchdog, ``silence_s`` after the last valid command."""
        self.holds += 1
        self.hold_delay_ms_max = max(self.hold_delay_ms_max, milliseconds(silence_s))


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, rounded up to the microsecond."""
    return math.ceil(seconds * 1e6) / 1e3
