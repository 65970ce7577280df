"""Checks goals on a servo bus against the limits, although they carry no number and may be delayed."""

from copy import copy
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.robot import Vector

BEHIND_S = 0.1
"""After a gap the line may be late for this long, and goals may be delayed by as much."""
DRIFT = 0.02
"""A late goal moves the time grid of servo periods by this share of a period; an early one resets it."""


class GoalChecker:
    """Checks successive goals by their arrival times.

    Without a gap, a goal belongs to the servo period in which it arrives; of several that arrive in one
    period, the last counts. After a gap of several periods the line may have delayed goals: the next goal may
    belong to any of these periods, and the following ones to any that are left. All these possibilities are
    followed in parallel, for as long as the line may be late. A goal counts as outside the limits only if it
    is outside in every one of them.

    Args:
        checker: checks goals whose periods are known.
        dt_s: servo period.
    """

    def __init__(self, checker: LimitChecker, dt_s: float) -> None:
        self._dt_s = dt_s
        self._left_max = max(1, round(BEHIND_S / dt_s))
        self._courses = [_Course(checker, 0, 0)]
        self._period_s: float | None = None
        """Time at which the period of the last goal began."""
        self._behind_until_s = 0.0

    @property
    def tick(self) -> int:
        """Latest possible period of the last goal."""
        return max(course.tick for course in self._courses)

    def start(self, joint_pos: Vector) -> None:
        """Begin anew with an arm at rest at ``joint_pos`` (num_joints,) rad."""
        checker = self._courses[0].checker
        checker.start(joint_pos)
        self._courses = [_Course(checker, self.tick, 0)]
        self._period_s = None

    def check(self, joint_pos: Vector, now_s: float) -> tuple[str, ...]:
        """Limits that a goal arriving now violates; the goal counts as followed in any case."""
        periods = self._periods_until(now_s)
        if periods > 1:
            self._behind_until_s = now_s + BEHIND_S
        elif periods and now_s > self._behind_until_s:
            # Goals that were delayed would have come by now.
            self._courses = [course._replace(left=0) for course in self._courses]
        options = [option for course in self._courses for option in self._options(course, periods)]
        rest = np.zeros_like(joint_pos)
        verdicts = [option.checker.check(joint_pos, rest, option.tick) for option in options]
        inside = [option for option, verdict in zip(options, verdicts, strict=True) if not verdict]
        # If the goal is outside in all possibilities, the first is reported.
        outside = () if inside else verdicts[0]
        followed = [self._followed(option, joint_pos) for option in inside or options[:1]]
        # Of possibilities with as many periods left and an equal last step, one is enough.
        self._courses = list({(it.left, min(it.checker.last_periods, 2)): it for it in followed}.values())
        return outside

    def _periods_until(self, now_s: float) -> int:
        """Servo periods since the last goal. Lines only delay, so the earliest goals define the time grid."""
        if self._period_s is None:
            self._period_s = now_s - self._dt_s
        periods = round((now_s - self._period_s) / self._dt_s)
        period_s = self._period_s + periods * self._dt_s
        self._period_s = period_s + min(now_s - period_s, DRIFT * self._dt_s)
        return periods

    def _options(self, course: "_Course", periods: int) -> list["_Course"]:
        """Possible periods of the next goal of a course, the latest first."""
        checker, tick, left = course
        free = left + periods
        if not free:
            return [course]
        counts = [free, *range(min(free - 1, self._left_max), 0, -1)]
        return [_Course(checker, tick + count, min(free - count, self._left_max)) for count in counts]

    @staticmethod
    def _followed(option: "_Course", joint_pos: Vector) -> "_Course":
        checker = copy(option.checker)
        checker.accept(joint_pos, option.tick)
        return option._replace(checker=checker)


class _Course(NamedTuple):
    """One possibility of when the goals so far were sent."""

    checker: LimitChecker
    tick: int
    """Period of the last goal."""
    left: int
    """Periods since the gap that no goal belongs to."""
