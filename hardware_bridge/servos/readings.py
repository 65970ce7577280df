"""The last measurement of every servo on a bus, and which servos have missed theirs."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT

PLAUSIBLE_SPEED = 2.0
"""Positions that imply more than this multiple of the joint's speed limit are taken for damaged data."""
SLACK_COUNTS = 16


class Measurement(NamedTuple):
    """One servo's answer, in its own units."""

    position: int
    velocity: int
    effort: int


class ServoReadings:
    """Keeps measurements, and lets the last one stand in for a servo that misses, for a while.

    Args:
        names: names of the joints, and perhaps a gripper after them, by servo and in order.
        speed_rad_s: (num_servos,) largest speed of each.
        missing_max: a reading is stale if more servos than this have not answered.
        patience: a reading is stale, too, if a servo has missed more often than this in a row.
    """

    def __init__(
        self, names: Mapping[int, str], speed_rad_s: Vector, *, missing_max: int, patience: int
    ) -> None:
        self._names = names
        self._rows = {servo: row for row, servo in enumerate(names)}
        self._missing_max, self._patience = missing_max, patience
        self._reach: list[float] = (PLAUSIBLE_SPEED * speed_rad_s / RAD_PER_COUNT).tolist()
        self._positions = [0] * len(names)
        self._last_s = [-math.inf] * len(names)
        self._taken: set[int] = set()
        """Servos that have answered this time."""
        self._missed = dict.fromkeys(names, 0)
        """How often each servo has missed in a row."""
        self.last = np.zeros((len(names), 3))
        """(num_servos, 3) position, velocity and effort, in the servo's units."""
        self.order = tuple(names)
        """Servos in the order to ask them: those that missed come last, so that they delay no other."""
        self.complete = True
        """Whether all servos answered last time."""
        self.misses = dict.fromkeys(names.values(), 0)
        """How often each servo did not answer, or not plausibly, by name."""

    def take(self, servo: int, measured: Measurement, now_s: float) -> None:
        """Take one servo's answer to the read at ``now_s``, unless its position is implausible.

        An 8-bit checksum lets some damaged data pass, which often implies an impossible speed.
        """
        row = self._rows[servo]
        reach = self._reach[row] * (now_s - self._last_s[row]) + SLACK_COUNTS
        if abs(measured.position - self._positions[row]) <= reach:
            self._positions[row], self._last_s[row] = measured.position, now_s
            self.last[row] = measured
            self._taken.add(servo)

    def finish(self) -> None:
        """Finish a read: all answers that came have been taken.

        Raises:
            StaleStateError: too many servos have missed, or one too often; names them.
        """
        missing = [servo for servo in self._names if servo not in self._taken]
        if self.complete and not missing:
            self._taken.clear()
            return
        for servo in self._taken:
            self._missed[servo] = 0
        for servo in missing:
            self._missed[servo] += 1
            self.misses[self._names[servo]] += 1
        self._taken.clear()
        self.complete = not missing
        self.order = (*(servo for servo in self._names if servo not in missing), *missing)
        lost = [servo for servo in missing if self._missed[servo] > self._patience]
        if lost or len(missing) > min(self._missing_max, len(self._names) - 1):
            listed = ", ".join(f"{servo} ({self._names[servo]})" for servo in lost or missing)
            raise StaleStateError(f"no answer from servo {listed}")
