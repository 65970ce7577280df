"""How a run leaves the robot."""

from typing import NamedTuple

from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.robot import Robot, StopMode


class Parking(NamedTuple):
    """How parking went."""

    confirmed: bool
    """The robot reports that it has stopped."""
    trouble: str
    """What went wrong on the way; empty when nothing did."""
    detail: str = ""
    """What was seen of it."""


def park(robot: Robot, final: StopMode) -> Parking:
    """Hold, then stop as ``final`` says; where that is not confirmed, hold again.

    Where holding is not confirmed, the arm is let sink slowly. Never raises: what cannot be confirmed is left
    to the robot's own watchdog.
    """
    parking = _hold(robot)
    if parking.trouble or final is StopMode.HOLD:
        return parking
    try:
        robot.stop(final)
    except BridgeError as error:
        # Of the order, a part may have been done.
        parking = _hold(robot)
        troubles = (f"no {final.name.lower()}: {error}", parking.trouble)
        return parking._replace(trouble="; ".join(filter(None, troubles)))
    return parking


def _hold(robot: Robot) -> Parking:
    try:
        robot.stop(StopMode.HOLD)
    except BridgeError as error:
        trouble = str(error)
    else:
        return Parking(confirmed=True, trouble="")
    try:
        robot.stop(StopMode.DAMP)
    except BridgeError:
        return Parking(confirmed=False, trouble=trouble)
    return Parking(confirmed=True, trouble=f"damped instead of held: {trouble}")
