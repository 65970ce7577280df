"""Outstanding answers: a servo's answer that comes late must not be taken for that of another question."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.protocols.servo import Packet, Status

LATE_S = 0.5
"""An answer that has not come after this time has been lost."""
SIZES = 10
"""So many questions for the same registers can be told apart, by the number of bytes that they ask for."""


class OutstandingAnswers:
    """Keeps which servos have not answered in time, and how many bytes they were asked for.

    An answer carries the servo's number and some data, but neither registers nor question. Therefore a servo
    with an outstanding answer is not asked again for the same number of bytes, but for a few more. Lines keep
    order: once any servo answers a new question, no answer to an earlier question can come any more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outstanding: dict[tuple[int, int], _Outstanding] = {}

    def add(self, servos: set[int], size: int, question: Packet) -> None:
        """Note that these servos have not answered a question for ``size`` bytes in time."""
        until_s = self._clock.now() + LATE_S
        self._outstanding |= {(servo, size): _Outstanding(question, until_s) for servo in servos}

    def settles(self, status: Status, question: Packet | None) -> bool:
        """Whether an answer belongs to an earlier question; if so, it is outstanding no longer."""
        key = (status.servo, len(status.data))
        if self.until_s(*key, question) <= self._clock.now():
            return False
        del self._outstanding[key]
        return True

    def is_answered(self, status: Status) -> None:
        """Note that a question was answered by this status.

        No earlier answer can come then, unless the status may itself be one, by its servo and size.
        """
        if (status.servo, len(status.data)) not in self._outstanding:
            self._outstanding.clear()

    def until_s(self, servo: int, size: int, question: Packet | None) -> float:
        """Time until which an answer of this size from this servo may still belong to an earlier question.

        A time in the past means that none is outstanding.
        """
        answer = self._outstanding.get((servo, size))
        return -math.inf if answer is None or answer.question == question else answer.until_s

    def tell_apart(self, servos: Sequence[int], size: int) -> tuple[int, tuple[int, ...]]:
        """Number of bytes to ask for, at least ``size``, and the servos to ask.

        Servos that have outstanding answers of every size are left out.
        """
        if not self._outstanding:
            return size, tuple(servos)
        now_s = self._clock.now()
        self._outstanding = {
            key: answer for key, answer in self._outstanding.items() if answer.until_s > now_s
        }
        asked = {
            wider: tuple(servo for servo in servos if (servo, wider) not in self._outstanding)
            for wider in range(size, size + SIZES)
        }
        best = max(asked, key=lambda wider: len(asked[wider]))
        return best, asked[best]


class _Outstanding(NamedTuple):
    question: Packet
    until_s: float
