"""Answers that servos on a bus still owe: they may come late, and are then no answers to another question."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.protocols.servo import Packet, Status

LATE_S = 0.5
"""An answer that has not come by then has been lost."""
SIZES = 10
"""As many questions for the same registers as can be told apart by how much they ask for."""


class OwedAnswers:
    """Who was asked for how much, and has not answered in time.

    An answer names its servo and has a size, nothing else: neither registers nor question. So a servo is not
    asked again for a size that it owes; it is asked for a few bytes more. Lines keep order: once a question
    is answered, by whomever, nothing comes any more that was owed before it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._owed: dict[tuple[int, int], _Owed] = {}

    def add(self, servos: set[int], size: int, question: Packet) -> None:
        """These have not answered a question for ``size`` bytes in time."""
        until_s = self._clock.now() + LATE_S
        self._owed |= {(servo, size): _Owed(question, until_s) for servo in servos}

    def settles(self, status: Status, question: Packet | None) -> bool:
        """Whether an answer found while ``question`` is open is owed to another; then it is no longer."""
        key = (status.servo, len(status.data))
        if self.until_s(*key, question) <= self._clock.now():
            return False
        del self._owed[key]
        return True

    def is_answered(self, status: Status) -> None:
        """A question was answered by this; unless it was asked before, too, nothing is owed any more."""
        if (status.servo, len(status.data)) not in self._owed:
            self._owed.clear()

    def until_s(self, servo: int, size: int, question: Packet | None) -> float:
        """Until when a servo may owe as much to another question than this one; in the past: it does not."""
        owed = self._owed.get((servo, size))
        return -math.inf if owed is None or owed.question == question else owed.until_s

    def tell_apart(self, servos: Sequence[int], size: int) -> tuple[int, tuple[int, ...]]:
        """Size to ask for, at least ``size``, and whom: who owes answers of every size is left out."""
        if not self._owed:
            return size, tuple(servos)
        now_s = self._clock.now()
        self._owed = {key: owed for key, owed in self._owed.items() if owed.until_s > now_s}
        asked = {
            wider: tuple(servo for servo in servos if (servo, wider) not in self._owed)
            for wider in range(size, size + SIZES)
        }
        best = max(asked, key=lambda wider: len(asked[wider]))
        return best, asked[best]


class _Owed(NamedTuple):
    question: Packet
    until_s: float
