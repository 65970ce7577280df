"""A source in the bridge's own process."""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.sources.source import Reading


class LocalSource:
    """Terms that another thread of this process measures, and hands over by :meth:`send`.

    Args:
        terms: observation terms that it feeds.
        name: what errors and reports call it.
        clock: the control loop's.
    """

    def __init__(
        self, terms: Sequence[str], *, name: str = "this process", clock: Clock | None = None
    ) -> None:
        self.name, self.terms = name, tuple(terms)
        self.drops: Mapping[str, int] = {}
        self._clock = clock or RealClock()
        self._newest: deque[Reading] = deque(maxlen=1)
        """The newest reading; one thread puts it here, and another takes it."""

    def send(self, values: Mapping[str, ArrayLike], time_s: float | None = None) -> None:
        """Hand over values that were measured at once.

        Args:
            values: numbers of each term, by its name, in its unit.
            time_s: when they were measured, by ``time.monotonic()``; by default now.
        """
        arrays = {name: np.array(value, np.float64).ravel() for name, value in values.items()}
        self._newest.append(Reading(arrays, self._clock.now() if time_s is None else time_s))

    def connect(self) -> None:
        """Nothing to open."""

    def read(self) -> Reading | None:
        """The newest reading since the last call."""
        return self._newest.pop() if self._newest else None

    def close(self) -> None:
        """Nothing to release."""
