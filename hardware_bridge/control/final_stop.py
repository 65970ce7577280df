"""The stop that a run ends with: holds the robot, then stops it as configured."""

from typing import NamedTuple

from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.robot import Robot, StopMode


class StopResult(NamedTuple):
    """How stopping the robot went."""

    confirmed: bool
    """Whether the robot reports that it has stopped."""
    trouble: str
    """What went wrong on the way; empty if nothing did."""
    detail: str = ""
    """What was observed of the stop; empty if nothing was."""


def final_stop(robot: Robot, final: StopMode) -> StopResult:
    """Hold the robot, then stop it as ``final`` says; if that is not confirmed, hold it again.

    If holding is not confirmed, the arm is damped, so that it sinks slowly. Never raises: a robot that
    confirms nothing is left to its own watchdog.
    """
    stopped = _hold(robot)
    if stopped.trouble or final is StopMode.HOLD:
        return stopped
    try:
        robot.stop(final)
    except BridgeError as error:
        # The order may have been carried out in part.
        stopped = _hold(robot)
        troubles = (f"no {final.name.lower()}: {error}", stopped.trouble)
        return stopped._replace(trouble="; ".join(filter(None, troubles)))
    return stopped


def _hold(robot: Robot) -> StopResult:
    try:
        robot.stop(StopMode.HOLD)
    except BridgeError as error:
        trouble = str(error)
    else:
        return StopResult(confirmed=True, trouble="")
    try:
        robot.stop(StopMode.DAMP)
    except BridgeError:
        return StopResult(confirmed=False, trouble=trouble)
    return StopResult(confirmed=True, trouble=f"damped instead of held: {trouble}")
