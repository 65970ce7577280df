"""Judges goals on a bus, which carry no number and which the line may hold up."""

from copy import copy
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.robot import Vector

BEHIND_S = 0.1
"""How long a line may be behind after a gap, and for how long goals may be held up."""
DRIFT = 0.02
"""Share of a period by which the periods follow a goal that is late; one that is early begins them anew."""


class GoalChecker:
    """Holds successive goals against the limits, as far as their arrival tells when they were sent.

    Without a gap a goal is of the servo period that it arrives in; of those that arrive in one the last
    counts. Behind a gap of several periods the line may have held goals up: the next may be of any of them,
    and those on its heels of any that are left. All that this allows is followed up side by side, for as long
    as the line may be behind. A goal is outside the limits when it is so however it was sent.

    Args:
        checker: of goals whose periods are known.
        dt_s: the servo period.
    """

    def __init__(self, checker: LimitChecker, dt_s: float) -> None:
        self._dt_s = dt_s
        self._left_max = max(1, round(BEHIND_S / dt_s))
        self._courses = [_Course(checker, 0, 0)]
        self._period_s: float | None = None
        """When the period of the last goal began."""
        self._behind_until_s = 0.0

    @property
    def tick(self) -> int:
        """Period of the last goal, at the latest."""
        return max(course.tick for course in self._courses)

    def start(self, joint_pos: Vector) -> None:
        """Begin anew from an arm at rest at ``joint_pos`` (num_joints,) rad."""
        checker = self._courses[0].checker
        checker.start(joint_pos)
        self._courses = [_Course(checker, self.tick, 0)]
        self._period_s = None

    def check(self, joint_pos: Vector, now_s: float) -> tuple[str, ...]:
        """Limits that a goal leaves that arrives now; it is followed in any case."""
        periods = self._periods_until(now_s)
        if periods > 1:
            self._behind_until_s = now_s + BEHIND_S
        elif periods and now_s > self._behind_until_s:
            # Whatever was held up would have come by now.
            self._courses = [course._replace(left=0) for course in self._courses]
        options = [option for course in self._courses for option in self._options(course, periods)]
        rest = np.zeros_like(joint_pos)
        verdicts = [option.checker.check(joint_pos, rest, option.tick) for option in options]
        inside = [option for option, verdict in zip(options, verdicts, strict=True) if not verdict]
        # If none explains it, it has come as it was sent.
        outside = () if inside else verdicts[0]
        followed = [self._followed(option, joint_pos) for option in inside or options[:1]]
        # Those that have as much left go on alike, whether the last step took one period or several.
        self._courses = list({(it.left, min(it.checker.last_periods, 2)): it for it in followed}.values())
        return outside

    def _periods_until(self, now_s: float) -> int:
        """Servo periods since the last goal. A line only delays: the earliest goals tell when periods are."""
        if self._period_s is None:
            self._period_s = now_s - self._dt_s
        periods = round((now_s - self._period_s) / self._dt_s)
        period_s = self._period_s + periods * self._dt_s
        self._period_s = period_s + min(now_s - period_s, DRIFT * self._dt_s)
        return periods

    def _options(self, course: "_Course", periods: int) -> list["_Course"]:
        """The periods that the next goal of a course may be of, the latest first."""
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
    """When the goals so far may have been sent."""

    checker: LimitChecker
    tick: int
    """Period of the last one."""
    left: int
    """Periods since the gap that none was of."""
