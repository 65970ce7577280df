"""How a run leaves the robot."""

from typing import NamedTuple

from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.robot import Robot, StopMode


class StopResult(NamedTuple):
    """How stopped went."""

    confirmed: bool
    """The robot reports that it has stopped."""
    trouble: str
    """What went wrong on the way; empty when nothing did."""
    detail: str = ""
    """What was seen of it."""


def final_stop(robot: Robot, final: StopMode) -> StopResult:
    """Hold, then stop as ``final`` says; where that is not confirmed, hold again.

    Where holding is not confirmed, the arm is let sink slowly. Never raises: what cannot be confirmed is left
    to the robot's own watchdog.
    """
    stopped = _hold(robot)
    if stopped.trouble or final is StopMode.HOLD:
        return stopped
    try:
        robot.stop(final)
    except BridgeError as error:
        # Of the order, a part may have been done.
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
