"""A sequential test of a success rate: it stops as soon as the answer is clear.

Wald's sequential probability ratio test (Annals of Mathematical Statistics 1945) of "at most ``low``" against
"at least ``high``", truncated at a number of trials. Its error probabilities and expected lengths are exact:
they are summed over all sequences of outcomes (Aroian, Technometrics 1968). The truncation is the smallest
that keeps the errors within their limit. If no truncation does, which happens where the two rates are so far
apart that a few trials suffice, the test is the smallest one of fixed size, ended as soon as its answer is
certain. For a rate between ``low`` and ``high`` either answer is acceptable.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Verdict = Literal["works", "fails", "undecided"]
MOST_TRIALS = 10_000
"""Largest number of trials of a test: nobody tries a robot more often."""
LONGEST = 2
"""Largest truncation, as a multiple of the size of the test of fixed size."""


class OperatingCharacteristic(NamedTuple):
    """How a test ends, and when, at one true success rate."""

    works: float
    """Probability that it ends with ``works``."""
    fails: float
    trials: float
    """Expected number of trials."""


@dataclass(frozen=True, kw_only=True)
class SequentialTest:
    """The boundaries of the test, which are compared with the number of successes after every trial.

    After n trials it ends with ``works`` at ``works_at[n]`` successes or more, and with ``fails`` at
    ``fails_at[n]`` or fewer.
    """

    low: float
    """The answer ``works`` is an error if the true rate is at most this."""
    high: float
    """The answer ``fails`` is an error if the true rate is at least this."""
    error: float
    """Largest probability of either error."""
    works_at: tuple[int, ...]
    fails_at: tuple[int, ...]

    @property
    def max_trials(self) -> int:
        """Number of trials after which the test ends at the latest."""
        return len(self.works_at) - 1

    def verdict(self, successes: int, trials: int) -> Verdict:
        """The answer so far; the trials may end as soon as it is not ``undecided``."""
        trials = min(trials, self.max_trials)
        if successes >= self.works_at[trials]:
            return "works"
        return "fails" if successes <= self.fails_at[trials] else "undecided"

    def operating_characteristic(self, rate: float) -> OperatingCharacteristic:
        """Exact probabilities and expected length at a true success rate."""
        return self._walk(rate)[0]

    def _walk(self, rate: float) -> tuple[OperatingCharacteristic, "np.typing.NDArray[np.float64]"]:
        """`operating_characteristic`, and the probability of each number of successes while undecided."""
        undecided = np.array([1.0])  # probability of having come here, by successes
        works = fails = expected = 0.0
        for trials in range(1, self.max_trials + 1):
            expected += undecided.sum()
            undecided = np.convolve(undecided, (1 - rate, rate))
            successes = np.arange(trials + 1)
            up, down = successes >= self.works_at[trials], successes <= self.fails_at[trials]
            works += undecided[up].sum()
            fails += undecided[down].sum()
            undecided[up | down] = 0.0
        return OperatingCharacteristic(float(works), float(fails), float(expected)), undecided


def fixed_size(low: float, high: float, error: float) -> tuple[int, int]:
    """The smallest exact test of fixed size: number of trials, and successes from which it says ``works``.

    Raises:
        ValueError: it takes more than ``MOST_TRIALS``.
    """
    trials = np.arange(1, MOST_TRIALS + 1)
    # The least number of successes that a rate of `low` reaches with a probability of at most `error`.
    needed = np.asarray(stats.binom.isf(error, trials, low), dtype=int) + 1
    enough = np.flatnonzero(stats.binom.cdf(needed - 1, trials, high) <= error)
    if not len(enough):
        found = f"{low:g} and {high:g} with an error of {error:g}"
        raise ValueError(f"expected rates that {MOST_TRIALS:,} trials tell apart, found {found}")
    return int(trials[enough[0]]), int(needed[enough[0]])


def sequential_test(low: float, high: float, error: float = 0.05) -> SequentialTest:
    """The test of "at most ``low``" against "at least ``high``", with errors of at most ``error`` each.

    Raises:
        ValueError: expected ``0 < low < high < 1`` and ``0 < error < 1/2``, and no more than ``MOST_TRIALS``.
    """
    if not (0 < low < high < 1 and 0 < error < 0.5):
        raise ValueError(f"expected 0 < low < high < 1 and 0 < error < 0.5, found {low}, {high}, {error}")
    size, needed = fixed_size(low, high, error)
    trials = size
    while trials <= LONGEST * size:
        test = _truncated(_lines(low, high, error, trials))
        if test is not None:
            return test
        trials += max(1, trials // 20)
    return _curtailed(low, high, error, size, needed)


def _lines(low: float, high: float, error: float, trials: int) -> SequentialTest:
    """Wald's two lines, rounded to whole successes; not yet closed at the end."""
    win, loss = math.log(high / low), math.log((1 - low) / (1 - high))
    threshold = math.log((1 - error) / error)
    number = np.arange(trials + 1)
    works = np.ceil((threshold + number * loss) / (win + loss) - 1e-9).astype(int)
    fails = np.floor((-threshold + number * loss) / (win + loss) + 1e-9).astype(int)
    return SequentialTest(
        low=low, high=high, error=error, works_at=tuple(works.tolist()), fails_at=tuple(fails.tolist())
    )


def _truncated(lines: SequentialTest) -> SequentialTest | None:
    """``lines`` with a decision at the last trial, or None if no decision there keeps the errors."""
    (at_low, rest_low), (at_high, rest_high) = lines._walk(lines.low), lines._walk(lines.high)
    cuts = range(max(lines.fails_at[-1] + 1, 0), lines.works_at[-1] + 1)
    kept = (cut for cut in cuts if at_low.works + rest_low[cut:].sum() <= lines.error)
    cut = next(kept, None)
    if cut is None or at_high.fails + rest_high[:cut].sum() > lines.error:
        return None
    return replace(lines, works_at=(*lines.works_at[:-1], cut), fails_at=(*lines.fails_at[:-1], cut - 1))


def _curtailed(low: float, high: float, error: float, trials: int, needed: int) -> SequentialTest:
    """The test of fixed size, ended once enough have succeeded, or enough can no longer succeed."""
    fails = tuple(needed - 1 - (trials - number) for number in range(trials + 1))
    works = (needed,) * (trials + 1)
    return SequentialTest(low=low, high=high, error=error, works_at=works, fails_at=fails)
