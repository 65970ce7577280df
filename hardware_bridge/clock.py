"""The clock that the bridge reads and waits on; ``testing.clocks`` has others for tests."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def sleep_until(self, deadline_s: float) -> None:
        """Return at ``deadline_s``, or at once when it has passed."""
        ...


class RealClock:
    """The system's monotonic clock.

    Args:
        spin_s: for this long before a deadline the clock spins instead of sleeping, because a sleeping thread
            wakes tens of microseconds late.
    """

    def __init__(self, spin_s: float = 100e-6) -> None:
        self._spin_s = spin_s

    def now(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    def sleep_until(self, deadline_s: float) -> None:
        """Sleep to just before the deadline, then spin."""
        # time.sleep waits on an absolute monotonic deadline, so being interrupted does not make it late.
        remaining = deadline_s - time.monotonic() - self._spin_s
        if remaining > 0:
            time.sleep(remaining)
        while time.monotonic() < deadline_s:
            pass
