"""Wakes the control loop at the servo rate, by absolute deadlines on a fixed time grid."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.latency import LatencyHistogram


class RateTimer:
    """Waits for ticks that are ``dt_s`` apart. Missed ticks are counted and skipped, not made up for.

    Args:
        dt_s: time between ticks.
    """

    def __init__(self, dt_s: float, clock: Clock) -> None:
        self._dt_s = dt_s
        self._clock = clock
        self.lateness = LatencyHistogram()
        self.last_lateness_s = 0.0
        self.ticks = 0
        """Number of ticks that were waited for; missed ones are not counted here."""
        self.active_s = 0.0
        """Time that the ticks took, without the pauses before restarts."""
        self.missed = 0
        self.missed_in_a_row = 0
        self._index = -1
        self.restart()

    def restart(self) -> None:
        """Begin the grid anew, one period from now; the time since the last tick is not counted."""
        self._last_s = self._clock.now()
        self._deadline_s = self._last_s + self._dt_s
        self.missed_in_a_row = 0

    def wait(self) -> int:
        """Wait for the next tick; returns its number on the grid, missed ticks included."""
        self._clock.sleep_until(self._deadline_s)
        now_s = self._clock.now()
        self.last_lateness_s = now_s - self._deadline_s
        behind = max(0, int(self.last_lateness_s / self._dt_s))
        self.missed += behind
        self.missed_in_a_row = self.missed_in_a_row + behind if behind else 0
        self.active_s += now_s - self._last_s
        self._last_s = now_s
        self.lateness.record(self.last_lateness_s)
        self._deadline_s += (behind + 1) * self._dt_s
        self._index += behind + 1
        self.ticks += 1
        return self._index
