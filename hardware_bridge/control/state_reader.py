"""Reads the robot's state, and keeps the last good one when a read brings nothing."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.robot import Robot, RobotState

FIRST_POLLS = 20


class StateReader:
    """Keeps the last good state and tells how old it is.

    Args:
        robot: the robot that is read.
    """

    def __init__(self, robot: Robot, clock: Clock) -> None:
        self._robot = robot
        self._clock = clock
        self._asked_s = clock.now()
        self.stale_reads = 0
        """Number of reads that brought no usable state."""
        self.state: RobotState | None = None
        """Last good state."""

    def read(self) -> RobotState | None:
        """The present state; None if none came in time or it is not finite.

        A measurement that is reported again, under the same number, keeps its age.

        Raises:
            LinkError: the link is dead.
        """
        asked_s = self._clock.now()
        try:
            state = self._robot.read()
        except StaleStateError:
            self.stale_reads += 1
            return None
        # A sum is finite only if all its terms are, and costs a third of three calls of isfinite.
        total = float(state.joint_pos.sum() + state.joint_vel.sum() + state.joint_torque.sum())
        total += (state.gripper_m or 0.0) + state.age_s
        if total - total != 0.0:
            self.stale_reads += 1
            return None
        if self.state is None or state.sequence != self.state.sequence:
            self._asked_s = asked_s - state.age_s
        self.state = state
        return state

    def first(self) -> RobotState:
        """The first state, before anything moves; up to ``FIRST_POLLS`` reads are tried.

        Raises:
            StaleStateError: none of them brought a state.
            LinkError: the link is dead.
        """
        for _ in range(FIRST_POLLS):
            state = self.read()
            if state is not None:
                return state
        raise StaleStateError(f"the robot answers, but reports no finite state in {FIRST_POLLS} polls")

    def age_s(self) -> float:
        """Time since the last good measurement was first asked for."""
        return self._clock.now() - self._asked_s
