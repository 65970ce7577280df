"""The stop that a run ends with: holds the robot, then stops it as configured."""

from collections.abc import Callable
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


def final_stop(robot: Robot, final: StopMode, *, stay: Callable[[], bool] = lambda: False) -> StopResult:
    """Hold the robot, then stop it as ``final`` says; if that is not confirmed, hold it again.

    If holding is not confirmed, the arm is damped, so that it sinks slowly. Never raises, whatever the driver
    does: a robot that confirms nothing is left to its own watchdog.

    Args:
        robot: the robot to stop.
        final: the mode to leave it in.
        stay: asked once the robot holds; where it says so, the robot is left holding.
    """
    stopped = _hold(robot)
    if stopped.trouble or final is StopMode.HOLD or stay():
        return stopped
    try:
        robot.stop(final)
    except Exception as error:
        # The order may have been carried out in part.
        stopped = _hold(robot)
        troubles = (f"no {final.name.lower()}: {described(error)}", stopped.trouble)
        return stopped._replace(trouble="; ".join(filter(None, troubles)))
    return stopped


def _hold(robot: Robot) -> StopResult:
    try:
        robot.stop(StopMode.HOLD)
    except Exception as error:
        trouble = described(error)
    else:
        return StopResult(confirmed=True, trouble="")
    try:
        robot.stop(StopMode.DAMP)
    except Exception:
        return StopResult(confirmed=False, trouble=trouble)
    return StopResult(confirmed=True, trouble=f"damped instead of held: {trouble}")


def described(error: Exception) -> str:
    """What went wrong; an error that is not ours is named, too."""
    return str(error) if isinstance(error, BridgeError) else f"{type(error).__name__}: {error}"
