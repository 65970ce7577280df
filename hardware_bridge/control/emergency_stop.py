"""The emergency stop: who asked for it, and an arm that is seen to stand still."""

from collections.abc import Callable

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.final_stop import StopResult
from wpg.hardware_bridge.errors import BridgeError, StaleStateError
from wpg.hardware_bridge.robot import Robot, RobotStatus, StopMode

STILL_S = 0.05
"""An arm stands still when no joint has moved for this long."""
STILL_RAD = 2e-3
"""Further than this: a servo's count is 1.5 mrad."""
HALT_TIMEOUT_S = 1.0
LOOK_EVERY_S = 0.005


class EmergencyStop:
    """A request to stop at once, from a key, a signal, or another thread. It cannot be taken back.

    Args:
        poll: asked at every servo tick; anything but "" is a request and says where it came from.
    """

    def __init__(self, poll: Callable[[], str] = lambda: "") -> None:
        self._poll = poll
        self._source = ""

    def trigger(self, source: str) -> None:
        """Stop at once. May be called from any thread and from a signal's handler."""
        self._source = self._source or source

    @property
    def source(self) -> str:
        """Where the request came from; empty while there is none.

        A poll that fails is one: nobody could ask for the stop any more.
        """
        if not self._source:
            try:
                self._source = self._poll()
            except Exception as error:  # a stop must not be lost to whatever a poll may raise
                self._source = f"what can no longer be asked for it: {error}"
        return self._source


def halt(robot: Robot, clock: Clock) -> StopResult:
    """Hold the arm where it is, now, and look whether it stands; where it does not, let it sink slowly.

    The device brakes by itself, harder than setpoints would. That it took the order is not enough: its state
    must say so, and its joints must be seen to rest. Never raises.
    """
    trouble = ""
    for mode in (StopMode.HOLD, StopMode.DAMP):
        began_s = clock.now()
        try:
            robot.stop(mode)
            still_s = _still_after(robot, clock, began_s)
        except BridgeError as error:
            trouble = trouble or str(error)
            continue
        if mode is StopMode.HOLD:
            return StopResult(confirmed=True, trouble="", detail=f"at rest {1e3 * still_s:.0f} ms later")
        return StopResult(confirmed=True, trouble=f"damped instead of held: {trouble}")
    return StopResult(confirmed=False, trouble=f"not confirmed, cut the power: {trouble}")


def _still_after(robot: Robot, clock: Clock, began_s: float) -> float:
    """When the joints came to rest, s after ``began_s``. A measurement that is repeated shows nothing.

    Raises:
        BridgeError: they did not, or nothing is to be seen of them.
    """
    last, since_s, sequence = None, clock.now(), None
    while clock.now() - began_s < HALT_TIMEOUT_S:
        clock.sleep_until(clock.now() + LOOK_EVERY_S)
        try:
            state = robot.read()
        except StaleStateError:
            continue
        if state.status is RobotStatus.ARMED:
            raise BridgeError("the robot still follows commands")
        if state.sequence == sequence:
            continue
        sequence = state.sequence
        if last is None or np.abs(state.joint_pos - last).max() > STILL_RAD:
            last, since_s = state.joint_pos, clock.now()
        elif clock.now() - since_s >= STILL_S:
            return since_s - began_s
    raise BridgeError(f"the joints are not seen to rest within {HALT_TIMEOUT_S:g} s")
