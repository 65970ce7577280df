"""What is wrong at a tick, wherever it comes from."""

from wpg.hardware_bridge.control.guard import Guard
from wpg.hardware_bridge.control.hazards import Hazard, find_hazard, tracking_error
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.sensing import Sensor
from wpg.hardware_bridge.robot import RobotState, RobotStatus
from wpg.hardware_bridge.sources.source import Feed


class Lookout:
    """Looks at robot, loop, sources, and where the arm goes.

    Args:
        config: thresholds.
        sensor: knows how old the last state is.
        motion: what is commanded.
        guard: knows where the tool may go.
        feed: what comes from outside the robot.
    """

    def __init__(
        self, config: SafetyConfig, sensor: Sensor, motion: Motion, guard: Guard, feed: Feed
    ) -> None:
        self._config = config
        self._sensor = sensor
        self._motion = motion
        self._guard = guard
        self._feed = feed

    def hazard(
        self, state: RobotState | None, *, missed_in_a_row: int, commanded: bool, fed: bool
    ) -> Hazard | None:
        """What is wrong now.

        Args:
            state: this tick's state; None when none came.
            missed_in_a_row: deadlines missed up to now.
            commanded: the arm is to follow commands.
            fed: the policy needs what comes from outside.
        """
        hazard = find_hazard(
            self._config,
            state,
            state_age_s=self._sensor.age_s(),
            missed_in_a_row=missed_in_a_row,
            sent=self._motion.joint_pos if commanded else None,
            dt_s=self._motion.dt_s,
        )
        if hazard is None and fed:
            hazard = self.stale_source()
        if hazard is None and commanded:
            hazard = self._guard.hazard(self._motion.joint_pos, self._motion.stop_pos)
        return hazard

    def stale_source(self) -> Hazard | None:
        """What came from outside is too old."""
        return self._feed.hazard(self._config.source_stale_s)

    def blocked(self, state: RobotState | None) -> Hazard | None:
        """An arm that follows commands does not get to where they send it."""
        if state is None or state.status is not RobotStatus.ARMED:
            return None
        return tracking_error(self._config, state, self._motion.joint_pos)
