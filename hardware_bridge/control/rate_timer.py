"""Absolute deadlines on a grid that never moves."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.latency import LatencyHistogram


class RateTimer:
    """Beats every ``dt_s``; beats that were missed are counted and left out, never made up for.

    Args:
        dt_s: time between beats.
    """

    def __init__(self, dt_s: float, clock: Clock) -> None:
        self._dt_s = dt_s
        self._clock = clock
        self._start_s = clock.now()
        self.lateness = LatencyHistogram()
        self.last_lateness_s = 0.0
        self.ticks = 0
        """Beats that were kept."""
        self.active_s = 0.0
        """Time that the beats took, pauses before a restart left out."""
        self.missed = 0
        self.missed_in_a_row = 0
        self._index = -1
        self.restart()

    def restart(self) -> None:
        """Begin the grid anew one period from now, without counting what passed since the last beat."""
        self._last_s = self._clock.now()
        self._deadline_s = self._last_s + self._dt_s
        self.missed_in_a_row = 0

    def wait(self) -> int:
        """Wait for the next beat; returns its number on the grid, missed ones included."""
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

    @property
    def elapsed_s(self) -> float:
        """Time since the first beat was awaited."""
        return self._clock.now() - self._start_s
