"""What makes the loop hold the arm."""

from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.robot import RobotState, RobotStatus, Vector

PERIODS_MIN = 3
"""Fewer servo periods than this are no hazard, however slow the robot's servos are."""
FINAL = ("device_fault", "device_stop")
"""Names of hazards that end a run, also where they pass."""


class Hazard(NamedTuple):
    """Something that is wrong now."""

    name: str
    detail: str


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
