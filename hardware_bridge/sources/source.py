"""Observation terms that the robot does not measure, such as the position of a cube.

A :class:`Source` gives readings; :class:`Feed` keeps the newest good one of each and knows how old it is.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from wpg.export.errors import ContractError
from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.latency import LatencyHistogram, LatencySummary
from wpg.hardware_bridge.robot import Vector

FIRST_READING_S = 2.0
LOOK_EVERY_S = 0.005
AHEAD_S = 0.001
"""A reading that is dated further than this into the future was dated by another clock."""


class Reading(NamedTuple):
    """Values that were measured at the same time."""

    values: Mapping[str, Vector]
    """(size,) by the name of the observation term, in the term's unit."""
    time_s: float
    """When they were measured, by the control loop's clock: ``time.monotonic()``."""


class Source(Protocol):
    """Something outside the robot that measures. Used by one thread; nothing but ``connect`` may wait."""

    @property
    def name(self) -> str:
        """Name of the source in errors and reports."""
        ...

    @property
    def terms(self) -> tuple[str, ...]:
        """Observation terms that it feeds."""
        ...

    @property
    def drops(self) -> Mapping[str, int]:
        """Number of messages that were refused, by cause."""
        ...

    def connect(self) -> None:
        """Begin to listen.

        Raises:
            LinkError: the link cannot be opened.
        """
        ...

    def read(self) -> Reading | None:
        """The newest reading since the last call; None where there is none. Never waits, never raises."""
        ...

    def close(self) -> None:
        """Release what it holds. Never raises; harmless when called twice."""
        ...


class SourceReport(msgspec.Struct, kw_only=True):
    """What a run received from one source."""

    name: str
    terms: tuple[str, ...]
    readings: int
    drops: dict[str, int]
    """Number of messages that were refused, by cause."""
    age_us: LatencySummary
    """How old its reading was when the policy decided."""


def check_sources(interface: PolicyInterface, terms: Sequence[str]) -> None:
    """Check that every term from outside has exactly one source, and every source a term.

    Raises:
        ContractError: names what is missing or too much, and the option that gives it.
    """
    needed = interface.external
    missing = ",".join(name for name in needed if name not in terms)
    if missing:
        raise ContractError(
            f"observation terms from outside the robot: {missing} without a source: "
            f"give --source {missing}=udp://HOST:PORT"
        )
    for name in terms:
        if name not in needed:
            expected = f"it needs {', '.join(needed)}" if needed else "it needs none"
            raise ContractError(f"source {name}: the policy sees no such term from outside, {expected}")
        if list(terms).count(name) > 1:
            raise ContractError(f"source {name}: expected one source, found {list(terms).count(name)}")


class _Fed:
    """One source, and the state of its readings."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.time_s = -math.inf
        self.readings = 0
        self.refused: Counter[str] = Counter()
        self.age = LatencyHistogram()


class Feed:
    """The newest good reading of every source.

    Args:
        interface: says which terms come from outside, and how long they are.
        sources: not yet connected.
        clock: the control loop's.

    Raises:
        ContractError: a term has no source, or two, or a source has no term.
    """

    def __init__(self, interface: PolicyInterface, sources: Sequence[Source], clock: Clock) -> None:
        check_sources(interface, [name for source in sources for name in source.terms])
        self._sizes = interface.external
        self._fed = [_Fed(source) for source in sources]
        self._clock = clock
        self.values: dict[str, Vector] = {}
        """Newest good value of each term, (size,)."""

    def connect(self) -> None:
        """Begin to listen, and wait until every source has given a reading.

        Raises:
            LinkError: a source cannot be listened to.
            StaleStateError: one gives no reading; says what came instead.
        """
        for fed in self._fed:
            fed.source.connect()
        deadline_s = self._clock.now() + FIRST_READING_S
        while silent := [fed for fed in self._fed if not fed.readings]:
            if (now_s := self._clock.now()) >= deadline_s:
                raise StaleStateError(_silence(silent[0]))
            self._clock.sleep_until(now_s + LOOK_EVERY_S)
            for _ in self.poll():
                pass

    def poll(self) -> Iterator[tuple[str, Vector, float]]:
        """Take new readings; yields name, value (size,) and age (s) of every term that has one."""
        for fed in self._fed:
            reading = fed.source.read()
            if reading is None:
                continue
            now_s = self._clock.now()
            if fault := self._fault(fed, reading, now_s):
                fed.refused[fault] += 1
                continue
            fed.time_s = min(reading.time_s, now_s)
            fed.readings += 1
            for name in fed.source.terms:
                self.values[name] = reading.values[name]
                yield name, reading.values[name], now_s - fed.time_s

    def hazard(self, stale_s: float) -> Hazard | None:
        """A hazard if a reading is older than ``stale_s``; it names the source with the oldest."""
        if not self._fed:
            return None
        fed = min(self._fed, key=lambda fed: fed.time_s)
        age_s = self._clock.now() - fed.time_s
        if age_s <= stale_s:
            return None
        terms = ", ".join(fed.source.terms)
        age = f"{age_s * 1e3:.0f} ms old"
        return Hazard("stale_source", f"the reading of {terms} from {fed.source.name} is {age}")

    def decided(self) -> None:
        """Record the ages of the present readings, because the policy decides by them now."""
        now_s = self._clock.now()
        for fed in self._fed:
            fed.age.record(now_s - fed.time_s)

    def report(self) -> list[SourceReport]:
        """What came from each source so far."""
        return [
            SourceReport(
                name=fed.source.name,
                terms=fed.source.terms,
                readings=fed.readings,
                drops={**fed.source.drops, **fed.refused},
                age_us=fed.age.summary(),
            )
            for fed in self._fed
        ]

    def close(self) -> None:
        """Release every source."""
        for fed in self._fed:
            fed.source.close()

    def _fault(self, fed: _Fed, reading: Reading, now_s: float) -> str:
        """Why a reading is refused; empty if it is accepted."""
        if any(name not in reading.values for name in fed.source.terms):
            return "without_term"
        for name in fed.source.terms:
            value = reading.values[name]
            if value.shape != (self._sizes[name],):
                return "wrong_size"
            if not math.isfinite(float(value.sum())):
                return "not_finite"
        if not reading.time_s <= now_s + AHEAD_S:
            return "from_the_future"
        return "" if reading.time_s >= fed.time_s else "older_than_the_last"


def _silence(fed: _Fed) -> str:
    drops = ", ".join(f"{name} {times}" for name, times in {**fed.source.drops, **fed.refused}.items())
    came = f"only what was refused: {drops}" if drops else "nothing: is the process that sends it running?"
    return f"source {fed.source.name}: no {', '.join(fed.source.terms)} within {FIRST_READING_S:g} s; {came}"
