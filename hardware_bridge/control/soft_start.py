"""Soft start: an arm that has stood still moves slowly at first."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.motion import Motion


class SoftStart:
    """Sets the pace of a motion, which grows from a low value after a standstill to full speed.

    Args:
        config: the first pace, and how long it grows.
        motion: the motion whose pace is set.
    """

    def __init__(self, config: LoopConfig, motion: Motion, clock: Clock) -> None:
        self._config = config
        self._motion = motion
        self._clock = clock
        self._start_s = clock.now()

    def begin(self) -> None:
        """Begin anew with the low pace, because the arm stands still now."""
        self._start_s = self._clock.now()
        self._motion.set_pace(self._config.soft_start_pace)

    def grow(self) -> None:
        """Set the pace that is due now."""
        config = self._config
        age_s = self._clock.now() - self._start_s - config.settle_s
        grown = age_s / config.soft_start_s if config.soft_start_s > 0 else 1.0
        pace = config.soft_start_pace + grown * (1 - config.soft_start_pace)
        self._motion.set_pace(min(1.0, max(config.soft_start_pace, pace)))
