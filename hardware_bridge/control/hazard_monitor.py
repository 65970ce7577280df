"""Watches robot, loop and sources at every tick for what must hold the arm or end the run."""

from collections import deque

import numpy as np

from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.control.target_limiter import TargetLimiter
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import RobotState, RobotStatus, Vector
from wpg.hardware_bridge.sources.source import Feed

PERIODS_MIN = 3
"""Fewer servo periods than this are no hazard, however slow the robot's servos are."""
FINAL = ("device_fault", "device_stop")
"""Names of hazards that end a run, also where they pass."""


def find_hazard(
    config: SafetyConfig,
    state: RobotState | None,
    *,
    state_age_s: float,
    missed_in_a_row: int,
    sent: Vector | None,
    dt_s: float,
) -> Hazard | None:
    """What is wrong now, the cause before what it causes; None where all is well.

    Args:
        config: thresholds.
        state: this tick's state; None when none came.
        state_age_s: age of the last state, counted from when it was asked for.
        missed_in_a_row: deadlines missed up to now.
        sent: (num_joints,) rad last commanded; None while the arm is not to follow commands.
        dt_s: servo period.
    """
    if missed_in_a_row * dt_s >= max(config.overrun_s, PERIODS_MIN * dt_s):
        return Hazard("overrun", f"{missed_in_a_row} deadlines missed in a row")
    if state_age_s > max(config.stale_s, PERIODS_MIN * dt_s):
        return Hazard("stale_state", f"the last state is {state_age_s * 1e3:.0f} ms old")
    if state is None:
        return None
    if state.status is RobotStatus.FAULT:
        return Hazard("device_fault", f"the robot reports a fault{state.fault and ': ' + state.fault}")
    if sent is not None and state.status is not RobotStatus.ARMED:
        return Hazard("device_hold", f"the robot reports {state.status.name} while it is commanded")
    return None if sent is None else tracking_error(config, state, sent)


def tracking_error(config: SafetyConfig, state: RobotState, sent: Vector) -> Hazard | None:
    """The arm is too far from ``sent`` (num_joints,) rad, where it was last commanded to be."""
    error = float(np.max(np.abs(state.joint_pos - sent)))
    if error > config.tracking_error_max_rad:
        return Hazard("tracking_error", f"a joint is {error:.2f} rad from its setpoint")
    return None


class HazardMonitor:
    """Looks at robot, loop, sources, and where the arm goes.

    Args:
        config: thresholds.
        reader: knows how old the last state is.
        motion: what is commanded.
        limiter: knows where the tool may go.
        feed: what comes from outside the robot.
    """

    def __init__(
        self, config: SafetyConfig, reader: StateReader, motion: Motion, limiter: TargetLimiter, feed: Feed
    ) -> None:
        self._config = config
        self._reader = reader
        self._motion = motion
        self._limiter = limiter
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
            state_age_s=self._reader.age_s(),
            missed_in_a_row=missed_in_a_row,
            sent=self._motion.joint_pos if commanded else None,
            dt_s=self._motion.dt_s,
        )
        if hazard is None and fed:
            hazard = self.stale_source()
        if hazard is None and commanded:
            hazard = self._limiter.hazard(self._motion.joint_pos, self._motion.stop_pos)
        return hazard

    def stale_source(self) -> Hazard | None:
        """What came from outside is too old."""
        return self._feed.hazard(self._config.source_stale_s)

    def blocked(self, state: RobotState | None) -> Hazard | None:
        """An arm that follows commands does not get to where they send it."""
        if state is None or state.status is not RobotStatus.ARMED:
            return None
        return tracking_error(self._config, state, self._motion.joint_pos)


class HoldCounter:
    """Keeps count of a run's holds.

    Args:
        config: how many are too many, and how long is too long.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._times: deque[float] = deque(maxlen=config.holds_max + 1)
        self._well_s = 0.0
        self.cause = Hazard("", "")
        """The last hazard that was seen."""

    def begin(self, hazard: Hazard, now_s: float) -> str:
        """Another hold begins; returns why it is one too many, empty where it is not."""
        self._times.append(now_s)
        self.persists(hazard, now_s)
        span_s = self._times[-1] - self._times[0]
        if len(self._times) == self._times.maxlen and span_s <= self._config.holds_window_s:
            return f"held {len(self._times) - 1} times within {span_s:.0f} s: {hazard.detail}"
        return ""

    def persists(self, hazard: Hazard, now_s: float) -> None:
        """Something is still wrong, or something else."""
        self.cause, self._well_s = hazard, now_s

    def is_well(self, now_s: float) -> bool:
        """Nothing has been wrong for long enough to go on."""
        return now_s - self._well_s >= self._config.recover_after_s
