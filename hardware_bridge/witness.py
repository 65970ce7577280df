"""What the robot's own end saw: the evidence that it was never asked to leave its limits."""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from wpg.hardware_bridge.axes import axis_limits, in_row
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import Vector


class EmulatorWitness(msgspec.Struct, kw_only=True):
    """Counts and extremes of one emulator's life; its JSON is what ``wpg emulate --json`` writes."""

    robot: str
    frames_ok: int = 0
    frames_bad: int = 0
    frames_unauthenticated: int = 0
    frames_foreign: int = 0
    """Whole frames outside a session, repeated, or from a client that does not command."""
    commands_ok: int = 0
    commands_refused: dict[str, int] = msgspec.field(default_factory=dict)
    commands_outside_limits: int = 0
    """Commands outside the published limits, whether refused or not."""
    commands_outside_limits_by: dict[str, int] = msgspec.field(default_factory=dict)
    arms: int = 0
    holds: int = 0
    """How often the watchdog held the arm."""
    hold_delay_ms_max: float = 0.0
    """Longest time between the last valid command and the watchdog's hold."""
    first_step_rad_max: float = 0.0
    """Longest way from where a joint stood when it was armed to the first command that it followed."""
    coasting_ms_max: float = 0.0
    """Longest time that a set-point went on moving after the last command."""
    stops: dict[str, int] = msgspec.field(default_factory=dict)
    """Stops that were asked for, by mode."""
    joint_pos_min: list[float] = msgspec.field(default_factory=list)
    """Smallest measured position of each joint, rad."""
    joint_pos_max: list[float] = msgspec.field(default_factory=list)
    joint_vel_max: list[float] = msgspec.field(default_factory=list)
    """Largest measured speed of each joint, rad/s."""
    late_ms_max: float = 0.0
    """How far the emulator's own clock fell behind at worst."""

    def saw_joints(self, joint_pos: Vector, joint_vel: Vector) -> None:
        """Widen the extremes by one measurement."""
        speed = np.abs(joint_vel)
        if not self.joint_pos_min:
            self.joint_pos_min, self.joint_pos_max = joint_pos.tolist(), joint_pos.tolist()
            self.joint_vel_max = speed.tolist()
            return
        self.joint_pos_min = np.minimum(self.joint_pos_min, joint_pos).tolist()
        self.joint_pos_max = np.maximum(self.joint_pos_max, joint_pos).tolist()
        self.joint_vel_max = np.maximum(self.joint_vel_max, speed).tolist()

    def saw_command(self, refusal: Refusal, outside: tuple[str, ...]) -> None:
        """Count one command."""
        if refusal is Refusal.NONE:
            self.commands_ok += 1
        else:
            count(self.commands_refused, refusal.name.lower())
        self.commands_outside_limits += bool(outside)
        for kind in outside:
            count(self.commands_outside_limits_by, kind)


class CommandJudge:
    """Holds successive commands against a robot's published limits, independently of who sent them.

    Speed is judged over the servo periods between two commands, which the commands number themselves, not
    over their arrival: a link's jitter is no speed. Between commands k and k+1, n periods apart::

        v = Δq / (n dt)        a = (v - v_before) / ((n + n_before) dt / 2)

    The first command after arming is judged by the velocity limit from where the arm stands. What velocity it
    stands for is not known, since an arm does not hold exactly where it measures: the second command may
    assume any between rest and the way from there.

    Args:
        description: the robot's limits.
        resolution_rad: what positions arrive rounded to; rounding is no speed either.
        gripper: the opening of a gripper stands behind the joints, and is judged alike.
    """

    def __init__(
        self, description: RobotDescription, resolution_rad: float = 0.0, *, gripper: bool = False
    ) -> None:
        self._resolution_rad = resolution_rad
        self._num_joints = description.num_joints
        limits = axis_limits(description, gripper=gripper)
        self._low, self._high, self._velocity, self._acceleration = limits
        self._dt_s = description.servo_dt_s
        self.start(in_row(description.limits("home_rad"), 0.0 if gripper else None))

    def start(self, joint_pos: Vector) -> None:
        """Begin anew from an arm at rest at ``joint_pos`` (num_axes,).

        A gripper may stand a little outside of its range: what it measures, or holds, is not exact.
        """
        last = joint_pos.copy()
        last[self._num_joints :] = np.clip(last, self._low, self._high)[self._num_joints :]
        self._last = self._before = _Seen(last, np.zeros_like(last), None, 1, starting=True)

    @property
    def last_periods(self) -> int:
        """Servo periods between the last two commands that were followed."""
        return self._last.periods

    def judge(self, joint_pos: Vector, joint_vel: Vector, tick: int) -> tuple[str, ...]:
        """Limits that a command leaves: of ``not_finite``, ``position``, ``velocity``, ``acceleration``."""
        if not (np.isfinite(joint_pos).all() and np.isfinite(joint_vel).all()):
            return ("not_finite",)
        last = self._reference(tick)
        periods = 1 if last.tick is None else max(tick - last.tick, 1)
        span_s = periods * self._dt_s
        velocity = (joint_pos - last.pos) / span_s
        rounding = self._resolution_rad / span_s
        outside = []
        if (joint_pos < self._low).any() or (joint_pos > self._high).any():
            outside.append("position")
        if (np.maximum(np.abs(velocity) - rounding, np.abs(joint_vel)) > self._velocity).any():
            outside.append("velocity")
        if last.tick is not None:
            between_s = (periods + last.periods) * self._dt_s / 2
            before = last.vel
            if last.starting:
                before = np.clip(velocity, np.minimum(before, 0), np.maximum(before, 0))
            rounding += self._resolution_rad / (last.periods * self._dt_s)
            if (np.abs(velocity - before) - rounding > self._acceleration * between_s).any():
                outside.append("acceleration")
        return tuple(outside)

    def accept(self, joint_pos: Vector, tick: int) -> None:
        """The command was followed: the next one is judged against it."""
        last = self._reference(tick)
        periods = 1 if last.tick is None else max(tick - last.tick, 1)
        velocity = (joint_pos - last.pos) / (periods * self._dt_s)
        self._before = last
        self._last = _Seen(joint_pos.copy(), velocity, tick, periods, starting=last.tick is None)

    def _reference(self, tick: int) -> "_Seen":
        """What a command follows on; one of the same period takes the other's place."""
        return self._before if tick == self._last.tick else self._last


class _Seen(NamedTuple):
    """A command that was followed."""

    pos: Vector
    vel: Vector
    """On the way there."""
    tick: int | None
    """None: no command, but where the arm stood."""
    periods: int
    """On the way there."""
    starting: bool
    """It was the first since the arm stood."""


def count(counts: dict[str, int], name: str) -> None:
    """One more of ``name``."""
    counts[name] = counts.get(name, 0) + 1


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return math.ceil(seconds * 1e6) / 1e3
