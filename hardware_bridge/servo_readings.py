"""The last measurement of every servo on a bus, and which servos owe one."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.servo_models import RAD_PER_COUNT

PLAUSIBLE_SPEED = 2.0
"""Times the joint's speed limit: an arm may be pushed, too."""
SLACK_COUNTS = 16


class Measurement(NamedTuple):
    """One servo's answer, in its own units."""

    position: int
    velocity: int
    effort: int


class ServoReadings:
    """Stands in for servos that miss, for a while.

    Args:
        names: of the joints, by servo, in order.
        speed_rad_s: (num_joints,) the joints' speed limits.
        missing_max: more servos than this without an answer make a reading stale.
        patience: so does one that has missed more often than this in a row.
    """

    def __init__(
        self, names: Mapping[int, str], speed_rad_s: Vector, *, missing_max: int, patience: int
    ) -> None:
        self._names = names
        self._missing_max, self._patience = missing_max, patience
        self._reach: list[float] = (PLAUSIBLE_SPEED * speed_rad_s / RAD_PER_COUNT).tolist()
        self._last = [Measurement(0, 0, 0)] * len(names)
        self._last_s = [-math.inf] * len(names)
        self._missed = dict.fromkeys(names, 0)
        self.order = tuple(names)
        """Servos as they should be asked: who missed comes last, to hold nobody up."""
        self.complete = True
        """Nobody missed last time."""
        self.misses = dict.fromkeys(names.values(), 0)
        """How often each joint's servo did not answer, or not plausibly."""

    def update(self, found: Mapping[int, Measurement], now_s: float) -> None:
        """Take the answers to one question.

        Raises:
            StaleStateError: too many servos have missed, or one too often; names them.
        """
        missing = []
        for index, (servo, name) in enumerate(self._names.items()):
            measurement = found.get(servo)
            if measurement is not None and self._is_plausible(index, measurement, now_s):
                self._last[index], self._last_s[index] = measurement, now_s
                self._missed[servo] = 0
            else:
                missing.append(servo)
                self._missed[servo] += 1
                self.misses[name] += 1
        self.complete = not missing
        self.order = (*(servo for servo in self._names if servo not in missing), *missing)
        lost = [servo for servo in missing if self._missed[servo] > self._patience]
        if lost or len(missing) > min(self._missing_max, len(self._names) - 1):
            listed = ", ".join(f"{servo} ({self._names[servo]})" for servo in lost or missing)
            raise StaleStateError(f"no answer from servo {listed}")

    def array(self) -> NDArray[np.float64]:
        """Positions, velocities and efforts, (3, num_joints)."""
        return np.array(self._last, dtype=np.float64).T

    def _is_plausible(self, index: int, found: Measurement, now_s: float) -> bool:
        """No joint moves faster than it can: a checksum of eight bits lets some damage pass."""
        reach = self._reach[index] * (now_s - self._last_s[index]) + SLACK_COUNTS
        return abs(found.position - self._last[index].position) <= reach
