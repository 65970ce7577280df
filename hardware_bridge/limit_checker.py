"""Judges commands against a robot's published limits, at both ends of the link."""

import math
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.axes import axis_limits, in_row
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector


class LimitChecker:
    """Holds successive commands against a robot's published limits, independently of who sent them.

    Speed is judged over the servo periods between two commands, which the commands number themselves, not
    over their arrival: a link's jitter is no speed. Between commands k and k+1, n periods apart::

        v = Δq / (n dt)        a = (v - v_before) / ((n + n_before) dt / 2)

    The numbers are the sender's word: n is no more than the periods that the watchdog waits for, and one.

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
        self._periods_max = math.ceil(round(description.watchdog_s * description.servo_rate_hz, 6)) + 1
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

    def check(self, joint_pos: Vector, joint_vel: Vector, tick: int) -> tuple[str, ...]:
        """Limits that a command leaves: of ``not_finite``, ``position``, ``velocity``, ``acceleration``."""
        if not (np.isfinite(joint_pos).all() and np.isfinite(joint_vel).all()):
            return ("not_finite",)
        last = self._reference(tick)
        periods = self._periods(last, tick)
        span_s = periods * self._dt_s
        velocity = (joint_pos - last.pos) / span_s
        rounding = self._resolution_rad / span_s
        outside = []
        if (joint_pos < self._low).any() or (joint_pos > self._high).any():
            outside.append("position")
        # Not finite, where the arm stood at no number, is no less outside.
        if not (np.maximum(np.abs(velocity) - rounding, np.abs(joint_vel)) <= self._velocity).all():
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
        periods = self._periods(last, tick)
        velocity = (joint_pos - last.pos) / (periods * self._dt_s)
        self._before = last
        self._last = _Seen(joint_pos.copy(), velocity, tick, periods, starting=last.tick is None)

    def _periods(self, last: "_Seen", tick: int) -> int:
        return 1 if last.tick is None else min(max(tick - last.tick, 1), self._periods_max)

    def _reference(self, tick: int) -> "_Seen":
        """What a command follows on; one of the same period takes the other's place."""
        return self._before if tick == self._last.tick else self._last


class _Seen(NamedTuple):
    """A command that was followed."""

    pos: Vector
    vel: Vector
    """Mean velocity on the way there, rad/s."""
    tick: int | None
    """None: no command, but where the arm stood."""
    periods: int
    """Servo periods on the way there."""
    starting: bool
    """It was the first since the arm stood."""
