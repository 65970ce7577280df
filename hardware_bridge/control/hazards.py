"""What makes the loop hold the arm."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.robot import RobotState, RobotStatus, Vector

PERIODS_MIN = 3
"""Fewer servo periods than this are no hazard, however slow the robot's servos are."""


class Hazard(NamedTuple):
    """Something that is wrong now."""

    name: str
    detail: str


def find_hazards(
    config: SafetyConfig,
    state: RobotState | None,
    *,
    state_age_s: float,
    missed_in_a_row: int,
    sent: Vector | None,
    dt_s: float,
) -> Iterator[Hazard]:
    """Everything that is wrong, what causes the others first.

    Args:
        config: thresholds.
        state: this tick's state; None when none came.
        state_age_s: age of the last state, counted from when it was asked for.
        missed_in_a_row: deadlines missed up to now.
        sent: (num_joints,) rad last commanded; None while the arm is not to follow commands.
        dt_s: servo period.
    """
    if missed_in_a_row * dt_s >= max(config.overrun_s, PERIODS_MIN * dt_s):
        yield Hazard("overrun", f"{missed_in_a_row} deadlines missed in a row")
    if state_age_s > max(config.stale_s, PERIODS_MIN * dt_s):
        yield Hazard("stale_state", f"the last state is {state_age_s * 1e3:.0f} ms old")
    if state is not None and state.status is RobotStatus.FAULT:
        yield Hazard("device_fault", f"the robot reports a fault{state.fault and ': ' + state.fault}")
    if state is not None and sent is not None:
        if state.status is not RobotStatus.ARMED:
            yield Hazard("device_hold", f"the robot reports {state.status.name} while it is commanded")
        error = float(np.max(np.abs(state.joint_pos - sent)))
        if error > config.tracking_error_max_rad:
            yield Hazard("tracking_error", f"a joint is {error:.2f} rad from its setpoint")
