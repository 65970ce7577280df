"""Holds of a run: what causes them, how often, and for how long."""

from collections import deque

from wpg.hardware_bridge.control.hazards import Hazard
from wpg.hardware_bridge.control.safety import SafetyConfig


class Holds:
    """Keeps count of a run's holds.

    Args:
        config: how many are too many, and how long is too long.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._times: deque[float] = deque(maxlen=config.holds_max + 1)
        self._well_s = 0.0
        self.cause = Hazard("", "")
        """The last hazard that was seen."""

    def begin(self, hazard: Hazard, now_s: float) -> str:
        """Another hold begins; returns why it is one too many, empty where it is not."""
        self._times.append(now_s)
        self.persists(hazard, now_s)
        span_s = self._times[-1] - self._times[0]
        if len(self._times) == self._times.maxlen and span_s <= self._config.holds_window_s:
            return f"held {len(self._times) - 1} times within {span_s:.0f} s: {hazard.detail}"
        return ""

    def persists(self, hazard: Hazard, now_s: float) -> None:
        """Something is still wrong, or something else."""
        self.cause, self._well_s = hazard, now_s

    def is_well(self, now_s: float) -> bool:
        """Nothing has been wrong for long enough to go on."""
        return now_s - self._well_s >= self._config.recover_after_s
