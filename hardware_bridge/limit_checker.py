"""Checks commands against a robot's published limits; used at both ends of the link."""

import math
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.axes import axis_limits, in_row
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector


class LimitChecker:
    """Checks successive commands against a robot's published limits, independently of who sent them.

    Speed is computed from the servo periods between two commands, by the numbers that the commands carry, not
    from their arrival times, because a link's jitter is no motion. Between commands n periods apart::

        v = Δq / (n dt)        a = (v - v_before) / ((n + n_before) dt / 2)

    The sender could send any number, so n is taken to be at most one more than the periods that the watchdog
    waits for.

    The first command after arming is checked by the velocity limit from where the arm stands. Because an arm
    does not hold exactly where it measures, the velocity of that first command is not known: for the
    acceleration of the second one, the most favourable velocity between rest and the measured one counts.

    Args:
        description: the robot's limits.
        resolution_rad: resolution of the positions that arrive; rounding is not counted as speed.
        gripper: whether the opening of a gripper follows the joints; it is checked in the same way.
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
        """Begin anew with an arm at rest at ``joint_pos`` (num_axes,).

        A gripper may measure a little outside its range; its opening is clipped.
        """
        last = joint_pos.copy()
        last[self._num_joints :] = np.clip(last, self._low, self._high)[self._num_joints :]
        self._last = self._before = _Seen(last, np.zeros_like(last), None, 1, starting=True)

    @property
    def last_periods(self) -> int:
        """Servo periods between the last two accepted commands."""
        return self._last.periods

    def check(self, joint_pos: Vector, joint_vel: Vector, tick: int) -> tuple[str, ...]:
        """Limits that a command violates: of ``not_finite``, ``position``, ``velocity``, ``acceleration``."""
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
        # Both are written so that NaN, from an arm whose position was not finite, counts as a violation.
        if not (np.maximum(np.abs(velocity) - rounding, np.abs(joint_vel)) <= self._velocity).all():
            outside.append("velocity")
        if last.tick is not None:
            between_s = (periods + last.periods) * self._dt_s / 2
            before = last.vel
            if last.starting:
                before = np.clip(velocity, np.minimum(before, 0), np.maximum(before, 0))
            rounding += self._resolution_rad / (last.periods * self._dt_s)
            if not (np.abs(velocity - before) - rounding <= self._acceleration * between_s).all():
                outside.append("acceleration")
        return tuple(outside)

    def accept(self, joint_pos: Vector, tick: int) -> None:
        """Note that the command was followed: the next one is checked against it."""
        last = self._reference(tick)
        periods = self._periods(last, tick)
        velocity = (joint_pos - last.pos) / (periods * self._dt_s)
        self._before = last
        self._last = _Seen(joint_pos.copy(), velocity, tick, periods, starting=last.tick is None)

    def _periods(self, last: "_Seen", tick: int) -> int:
        return 1 if last.tick is None else min(max(tick - last.tick, 1), self._periods_max)

    def _reference(self, tick: int) -> "_Seen":
        """The command before this one; a second command in the same period replaces the first."""
        return self._before if tick == self._last.tick else self._last


class _Seen(NamedTuple):
    """A command that was followed."""

    pos: Vector
    vel: Vector
    """Mean velocity on the way there, rad/s."""
    tick: int | None
    """Number of the servo period; None for the position that the arm started from."""
    periods: int
    """Servo periods on the way there."""
    starting: bool
    """Whether it was the first command after the start."""
