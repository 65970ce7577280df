"""Slow at first: how the pace of an arm grows after it has stood."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.motion import Motion


class SoftStart:
    """Sets the pace of a motion: little after a start, and all of it a while later.

    Args:
        config: how little, and how long.
        motion: whose pace it is.
    """

    def __init__(self, config: LoopConfig, motion: Motion, clock: Clock) -> None:
        self._config = config
        self._motion = motion
        self._clock = clock
        self._start_s = clock.now()

    def begin(self) -> None:
        """The arm stands: from here on the pace grows anew."""
        self._start_s = self._clock.now()
        self._motion.set_pace(self._config.soft_start_pace)

    def grow(self) -> None:
        """The pace that is due now."""
        config = self._config
        age_s = self._clock.now() - self._start_s - config.settle_s
        grown = age_s / config.soft_start_s if config.soft_start_s > 0 else 1.0
        pace = config.soft_start_pace + grown * (1 - config.soft_start_pace)
        self._motion.set_pace(min(1.0, max(config.soft_start_pace, pace)))
