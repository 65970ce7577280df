"""Watches robot, loop and sources at every tick for what must hold the arm or end the run."""

from collections import deque

import numpy as np

from wpg.hardware_bridge.control.mode_commander import ModeCommander
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.rate_timer import RateTimer
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.control.target_limiter import TargetLimiter
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import RobotState, RobotStatus
from wpg.hardware_bridge.sources.source import Feed

PERIODS_MIN = 3
"""A state that is late by fewer servo periods than this is no hazard, however long the period is."""
FINAL = ("device_fault", "device_stop", "suspended")
"""Names of the hazards that end a run, even if they pass."""
STANDING = ("tracking_error", "suspended", "device_stop")
"""Names of the hazards after which no setpoints are sent, because they would move an arm that stands."""


class HazardMonitor:
    """Looks for hazards of the robot, the loop, the sources, and the tool's workspace.

    A policy's run and a planned motion are watched in the same way; what they do about a hazard differs.

    Args:
        config: thresholds.
        reader: tells how old the last state is.
        timer: tells how late the loop is.
        motion: tells what was commanded.
        modes: tells whether somebody else has stopped the robot.
        limiter: tells whether the tool will leave its box.
        feed: tells how old the readings from outside the robot are; None if none are needed.
    """

    def __init__(
        self,
        config: SafetyConfig,
        *,
        reader: StateReader,
        timer: RateTimer,
        motion: Motion,
        modes: ModeCommander,
        limiter: TargetLimiter,
        feed: Feed | None = None,
    ) -> None:
        self._config = config
        self._reader = reader
        self._timer = timer
        self._motion = motion
        self._modes = modes
        self._limiter = limiter
        self._feed = feed

    def interruption(self, state: RobotState | None) -> Hazard | None:
        """A hazard that ends every motion, even one that brakes already.

        Either somebody else has stopped the robot, or this tick is later than a hold may last, because the
        process or the whole machine was suspended. Nobody has watched the arm meanwhile, and whoever
        continues the process may not think of the arm. So it is not moved again, as after too long a hold.
        """
        if state is not None and (hazard := self._modes.stop_elsewhere(state)):
            return hazard
        late_s = self._timer.last_lateness_s
        if late_s <= max(self._config.hold_timeout_s, self._config.overrun_s):
            return None
        detail = f"this process was suspended for {late_s:.1f} s: it does not move the arm again by itself"
        return Hazard("suspended", detail)

    def hazard(self, state: RobotState | None, *, commanded: bool, fed: bool = False) -> Hazard | None:
        """The hazard that is present now; None if all is well. A cause is reported before its consequences.

        Args:
            state: this tick's state; None if none came.
            commanded: whether the arm is to follow commands.
            fed: whether the policy needs readings from outside the robot now.
        """
        hazard = self._lateness() or self.fault(state, commanded=commanded)
        if hazard is None and fed:
            hazard = self.stale_source()
        if hazard is None and commanded:
            hazard = self._limiter.hazard(self._motion.joint_pos, self._motion.stop_pos)
        return hazard

    def _lateness(self) -> Hazard | None:
        dt_s, missed = self._motion.dt_s, self._timer.missed_in_a_row
        if missed * dt_s >= max(self._config.overrun_s, PERIODS_MIN * dt_s):
            busy = f"{missed} deadlines missed in a row: this machine is too busy, see `wpg doctor`"
            return Hazard("overrun", busy)
        age_s = self._reader.age_s()
        # Comparisons are written so that NaN is a hazard.
        if not age_s <= max(self._config.stale_s, PERIODS_MIN * dt_s):
            return Hazard("stale_state", f"the last state is {age_s * 1e3:.0f} ms old")
        return None

    def fault(self, state: RobotState | None, *, commanded: bool = True) -> Hazard | None:
        """A hazard that the robot's state shows: a fault, or that it does not follow commands."""
        if state is None:
            return None
        told = state.fault and f": {state.fault}"
        if state.status is RobotStatus.FAULT:
            return Hazard("device_fault", f"the robot reports a fault{told}")
        if commanded and state.status is not RobotStatus.ARMED:
            return Hazard("device_hold", f"the robot reports {state.status.name} while it is commanded{told}")
        return self.blocked(state) if commanded else None

    def blocked(self, state: RobotState | None) -> Hazard | None:
        """A hazard if an arm that follows commands does not get to where they send it."""
        if state is None or state.status is not RobotStatus.ARMED:
            return None
        error = float(np.max(np.abs(state.joint_pos - self._motion.joint_pos)))
        if not error <= self._config.tracking_error_max_rad:
            return Hazard("tracking_error", f"a joint is {error:.2f} rad from its setpoint")
        return None

    def stale_source(self) -> Hazard | None:
        """A hazard if a reading from outside the robot is too old."""
        return None if self._feed is None else self._feed.hazard(self._config.source_stale_s)


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
