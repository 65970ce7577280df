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
"""A state that is late by fewer servo periods than this is no hazard, however long the period is."""
FINAL = ("device_fault", "device_stop", "suspended")
"""Names of the hazards that end a run, even if they pass."""
STANDING = ("tracking_error", "suspended")
"""Names of the hazards after which the device holds the arm in place, because setpoints would move it."""


def suspension(config: SafetyConfig, late_s: float) -> Hazard | None:
    """A hazard if this tick is later than a hold may last: the process or the whole machine was suspended.

    Nobody has watched the arm meanwhile, and whoever continues the process may not think of the arm. So the
    run ends, as it does after too long a hold, instead of moving the arm again.
    """
    if late_s <= max(config.hold_timeout_s, config.overrun_s):
        return None
    detail = f"this process was suspended for {late_s:.1f} s: it does not move the arm again by itself"
    return Hazard("suspended", detail)


def find_hazard(
    config: SafetyConfig,
    state: RobotState | None,
    *,
    state_age_s: float,
    missed_in_a_row: int,
    sent: Vector | None,
    dt_s: float,
) -> Hazard | None:
    """The hazard that is present now; None if all is well. A cause is reported before its consequences.

    Args:
        config: thresholds.
        state: this tick's state; None if none came.
        state_age_s: age of the last state, counted from when it was asked for.
        missed_in_a_row: number of deadlines missed in a row up to now.
        sent: (num_joints,) rad, last commanded; None while the arm is not to follow commands.
        dt_s: servo period.
    """
    if missed_in_a_row * dt_s >= max(config.overrun_s, PERIODS_MIN * dt_s):
        return Hazard(
            "overrun",
            f"{missed_in_a_row} deadlines missed in a row: this machine is too busy, see `wpg doctor`",
        )
    # Comparisons are written so that NaN is a hazard.
    if not state_age_s <= max(config.stale_s, PERIODS_MIN * dt_s):
        return Hazard("stale_state", f"the last state is {state_age_s * 1e3:.0f} ms old")
    if state is None:
        return None
    told = state.fault and f": {state.fault}"
    if state.status is RobotStatus.FAULT:
        return Hazard("device_fault", f"the robot reports a fault{told}")
    if sent is not None and state.status is not RobotStatus.ARMED:
        return Hazard("device_hold", f"the robot reports {state.status.name} while it is commanded{told}")
    return None if sent is None else tracking_error(config, state, sent)


def tracking_error(config: SafetyConfig, state: RobotState, sent: Vector) -> Hazard | None:
    """A hazard if a joint is too far from ``sent`` (num_joints,) rad, its last commanded position."""
    error = float(np.max(np.abs(state.joint_pos - sent)))
    if not error <= config.tracking_error_max_rad:
        return Hazard("tracking_error", f"a joint is {error:.2f} rad from its setpoint")
    return None


class HazardMonitor:
    """Looks for hazards of the robot, the loop, the sources, and the tool's workspace.

    Args:
        config: thresholds.
        reader: tells how old the last state is.
        motion: tells what was commanded.
        limiter: tells whether the tool will leave its box.
        feed: tells how old the readings from outside the robot are; None if none are needed.
    """

    def __init__(
        self,
        config: SafetyConfig,
        reader: StateReader,
        motion: Motion,
        limiter: TargetLimiter,
        feed: Feed | None = None,
    ) -> None:
        self._config = config
        self._reader = reader
        self._motion = motion
        self._limiter = limiter
        self._feed = feed

    def hazard(
        self, state: RobotState | None, *, missed_in_a_row: int, commanded: bool, fed: bool
    ) -> Hazard | None:
        """The hazard that is present now; None if all is well.

        Args:
            state: this tick's state; None if none came.
            missed_in_a_row: number of deadlines missed in a row up to now.
            commanded: whether the arm is to follow commands.
            fed: whether the policy needs readings from outside the robot now.
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
        """A hazard if a reading from outside the robot is too old."""
        return None if self._feed is None else self._feed.hazard(self._config.source_stale_s)

    def blocked(self, state: RobotState | None) -> Hazard | None:
        """A hazard if an arm that follows commands does not get to where they send it."""
        if state is None or state.status is not RobotStatus.ARMED:
            return None
        return tracking_error(self._config, state, self._motion.joint_pos)


class HoldCounter:
    """Counts how often a run has held the arm, and tells when the arm may go on.

    Args:
        config: how many holds are too many, and how long all must be well before the arm goes on.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._times: deque[float] = deque(maxlen=config.holds_max + 1)
        self._well_s = 0.0
        self.cause = Hazard("", "")
        """The last hazard that was found."""

    def begin(self, hazard: Hazard, now_s: float) -> str:
        """Count a hold; returns why it is one too many, or "" if it is not."""
        self._times.append(now_s)
        self.persists(hazard, now_s)
        span_s = self._times[-1] - self._times[0]
        if len(self._times) == self._times.maxlen and span_s <= self._config.holds_window_s:
            return f"held {len(self._times) - 1} times within {span_s:.0f} s: {hazard.detail}"
        return ""

    def persists(self, hazard: Hazard, now_s: float) -> None:
        """Note that a hazard is present during the hold, the same as before or another."""
        self.cause, self._well_s = hazard, now_s

    def is_well(self, now_s: float) -> bool:
        """Whether all has been well for long enough to go on."""
        return now_s - self._well_s >= self._config.recover_after_s
