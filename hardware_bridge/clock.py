"""Time as the bridge sees it: real in production, driven by hand in tests."""

import time
from typing import Protocol

from wpg.hardware_bridge.robot import SimulatedRobot


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def sleep_until(self, deadline_s: float) -> None:
        """Return at ``deadline_s``, or at once when it has passed."""
        ...


class RealClock:
    """The system's monotonic clock.

    Args:
        spin_s: the last stretch before a deadline is spent spinning, not sleeping: a sleeping thread wakes
            tens of microseconds late.
    """

    def __init__(self, spin_s: float = 100e-6) -> None:
        self._spin_s = spin_s

    def now(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    def sleep_until(self, deadline_s: float) -> None:
        """Sleep to just before the deadline, then spin."""
        # time.sleep waits on an absolute monotonic deadline, so being interrupted does not make it late.
        remaining = deadline_s - time.monotonic() - self._spin_s
        if remaining > 0:
            time.sleep(remaining)
        while time.monotonic() < deadline_s:
            pass


class ManualClock:
    """A clock that stands still until somebody moves it; sleeping moves it."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Where the clock was moved to."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move the clock on."""
        self._now_s += duration_s

    def sleep_until(self, deadline_s: float) -> None:
        """Move the clock to the deadline."""
        self._now_s = max(self._now_s, deadline_s)


class SimulatedClock:
    """A clock that is a simulated robot's own: waiting lets the robot live, and nothing else takes time.

    With it the control loop runs on the robot in process, as fast as the machine can.

    Args:
        robot: whose time it is.
        step_s: physics step, which time advances by.
    """

    def __init__(self, robot: SimulatedRobot, step_s: float) -> None:
        self._robot = robot
        self._step_s = step_s
        self._num_steps = 0

    def now(self) -> float:
        """Simulated time so far."""
        return self._num_steps * self._step_s

    def sleep_until(self, deadline_s: float) -> None:
        """Let the robot live until the physics step nearest to the deadline."""
        steps = round(deadline_s / self._step_s) - self._num_steps
        if steps > 0:
            self._robot.advance(steps * self._step_s)
            self._num_steps += steps
