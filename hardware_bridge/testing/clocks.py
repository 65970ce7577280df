"""Clocks for tests: moved by hand, by an emulated arm, or by a simulated robot."""

from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.robot import SimulatedRobot


class ManualClock:
    """A clock that stands still until it is moved; sleeping moves it to the deadline.

    Args:
        start_s: first time that it shows.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Time that the clock was moved to, s."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move the clock on."""
        self._now_s += duration_s

    def sleep_until(self, deadline_s: float) -> None:
        """Move the clock to the deadline."""
        self._now_s = max(self._now_s, deadline_s)


class EmulationClock(ManualClock):
    """A manual clock that advances an emulated arm while the bridge waits, as if the arm ran in parallel.

    Args:
        start_s: first time that it shows.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__(start_s)
        self.arm: EmulatedArm | None = None
        """The emulated arm; to be set once it has been made with this clock's time."""

    def sleep_until(self, deadline_s: float) -> None:
        """Move to the deadline, one physics step of the arm after the other."""
        while self.arm is not None and self.arm.next_step_s < deadline_s:
            super().sleep_until(self.arm.next_step_s)
            self.arm.advance_to(self.now())
        super().sleep_until(deadline_s)
        if self.arm is not None:
            self.arm.advance_to(self.now())


class SimulatedClock:
    """The time of a simulated robot: waiting advances the simulation, and nothing else takes time.

    With this clock the control loop runs on the robot in process, as fast as the machine can.

    Args:
        robot: the robot that is advanced.
        step_s: physics step of the robot.
    """

    def __init__(self, robot: SimulatedRobot, step_s: float) -> None:
        self._robot = robot
        self._step_s = step_s
        self._num_steps = 0

    def now(self) -> float:
        """Simulated time so far."""
        return self._num_steps * self._step_s

    def sleep_until(self, deadline_s: float) -> None:
        """Advance the robot to the physics step nearest to the deadline."""
        steps = round(deadline_s / self._step_s) - self._num_steps
        if steps > 0:
            self._robot.advance(steps * self._step_s)
            self._num_steps += steps
