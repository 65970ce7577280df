"""The emergency stop: takes the request, holds the arm at once, and watches that it comes to rest."""

from collections.abc import Callable

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.final_stop import StopResult, described
from wpg.hardware_bridge.errors import BridgeError, StaleStateError
from wpg.hardware_bridge.robot import Robot, RobotStatus, StopMode

STILL_S = 0.05
"""An arm is at rest when no joint has moved by more than ``STILL_RAD`` for this long."""
STILL_RAD = 2e-3
"""More than a servo's resolution, which is 1.5 mrad."""
HALT_TIMEOUT_S = 1.0
LOOK_EVERY_S = 0.005


class EmergencyStop:
    """A request to stop at once, from a key, a signal or another thread. It cannot be taken back.

    Args:
        poll: asked at every servo tick; any answer but "" is a request and says where it came from.
    """

    def __init__(self, poll: Callable[[], str] = lambda: "") -> None:
        self._poll = poll
        self._source = ""

    def trigger(self, source: str) -> None:
        """Request a stop. May be called from any thread and from a signal handler."""
        self._source = self._source or source

    @property
    def source(self) -> str:
        """Where the request came from; empty while there is none.

        A poll that fails counts as a request, because nobody could ask for a stop any more.
        """
        if not self._source:
            try:
                self._source = self._poll()
            except Exception as error:  # whatever a poll raises, a stop must not be lost
                self._source = f"what can no longer be asked for it: {error}"
        return self._source


def halt(robot: Robot, clock: Clock) -> StopResult:
    """Hold the arm at once and watch that it comes to rest; if it does not, damp it, so that it sinks slowly.

    The device brakes by itself, harder than setpoints would. That it accepted the order is not enough: its
    state must say so, and every joint must be measured at rest. Never raises, whatever the driver does.
    """
    trouble = ""
    for mode in (StopMode.HOLD, StopMode.DAMP):
        began_s = clock.now()
        try:
            robot.stop(mode)
            still_s = _still_after(robot, clock, began_s)
        except Exception as error:
            trouble = trouble or described(error)
            continue
        if mode is StopMode.HOLD:
            return StopResult(confirmed=True, trouble="", detail=f"at rest {1e3 * still_s:.0f} ms later")
        return StopResult(confirmed=True, trouble=f"damped instead of held: {trouble}")
    return StopResult(confirmed=False, trouble=f"not confirmed, cut the power: {trouble}")


def _still_after(robot: Robot, clock: Clock, began_s: float) -> float:
    """Time after ``began_s`` at which the joints came to rest, s. Repeated measurements are ignored.

    Raises:
        BridgeError: they did not come to rest, or no state came that shows it.
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
        # Written so that NaN, from a joint that cannot be measured, counts as motion.
        if last is None or not np.abs(state.joint_pos - last).max() <= STILL_RAD:
            last, since_s = state.joint_pos, clock.now()
        elif clock.now() - since_s >= STILL_S:
            return since_s - began_s
    raise BridgeError(f"the joints are not seen to rest within {HALT_TIMEOUT_S:g} s")
