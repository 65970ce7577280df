"""Histogram of latencies in constant memory."""

import math

import msgspec
import numpy as np

_LOW_US = 0.1
_BINS_PER_DECADE = 100
_NUM_BINS = 8 * _BINS_PER_DECADE


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in microseconds."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class LatencyHistogram:
    """Counts durations in bins that are 2.3 % wide, from 0.1 µs to 10 s.

    Percentiles are the upper edges of their bins, so they are never too small; the maximum is exact.
    """

    def __init__(self) -> None:
        self._counts = [0] * _NUM_BINS
        self.count = 0
        self.max_us = 0.0

    def record(self, duration_s: float) -> None:
        """Count one duration; a negative one counts as zero."""
        us = duration_s * 1e6
        index = int(math.log10(us / _LOW_US) * _BINS_PER_DECADE) if us > _LOW_US else 0
        self._counts[min(index, _NUM_BINS - 1)] += 1
        self.count += 1
        self.max_us = max(self.max_us, us)

    def percentile_us(self, share: float) -> float:
        """Duration that the share ``share`` of all durations does not exceed, µs."""
        rank = math.ceil(share * self.count)
        if rank == 0:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_edge_us(index + 1), self.max_us)

    def summary(self) -> LatencySummary:
        """The percentiles that reports contain."""
        values = [round(self.percentile_us(share), 1) for share in (0.5, 0.99, 0.999)]
        return LatencySummary(p50=values[0], p99=values[1], p999=values[2], max=round(self.max_us, 1))

    def bars(self) -> list[tuple[float, float, int]]:
        """The bins that are not empty, each as lower edge in µs, upper edge in µs, and count."""
        return [(_edge_us(i), _edge_us(i + 1), n) for i, n in enumerate(self._counts) if n]


def _edge_us(index: int) -> float:
    return float(_LOW_US * 10 ** (index / _BINS_PER_DECADE))
