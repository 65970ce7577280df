"""Faults of links and devices, by a seeded specification, to test everything around them."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.links import Link


class FaultSpecError(BridgeError, ValueError):
    """A fault specification that cannot be read."""


_PLAIN = (
    "after_s",
    "delay_ms",
    "dead_servo",
    "dead_after_s",
    "brownout_after_s",
    "unplug_after_s",
    "unplug_for_s",
)
"""Fields that are not probabilities."""


@dataclass(frozen=True, kw_only=True)
class FaultSpec:
    """What goes wrong. Faults of the line are probabilities for each piece of data, in either direction.

    Times count from when the link or the device was opened; 0 means never.
    """

    after_s: float = 0.0
    """The line has no faults before this time."""
    drop: float = 0.0
    corrupt: float = 0.0
    """One byte is changed."""
    truncate: float = 0.0
    """The end is cut off."""
    duplicate: float = 0.0
    garbage: float = 0.0
    """Random bytes are put before the data."""
    delay: float = 0.0
    delay_ms: float = 20.0
    """How late delayed data arrives; data after it waits for it."""
    reorder: float = 0.0
    """The data waits until the next piece has passed."""
    partial: float = 0.0
    """The end of the data arrives with the next piece, or at the next read."""
    dead_servo: float = 0
    """Number of a servo that neither hears nor answers; 0 for none."""
    dead_after_s: float = 0.0
    """When that servo dies; 0 for from the beginning."""
    brownout_after_s: float = 0.0
    """When the device's supply dips and it restarts without torque."""
    unplug_after_s: float = 0.0
    """When the cable is pulled: nothing passes, in either direction."""
    unplug_for_s: float = 0.3
    """How long until it is put back."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (0 <= value < math.inf and (value <= 1 or name in _PLAIN)):
                expected = "a number that is not negative" if name in _PLAIN else "a probability"
                raise FaultSpecError(f"fault {name}: expected {expected}, found {value}")


def parse_faults(text: str) -> FaultSpec:
    """Read e.g. ``drop=0.05,delay=0.01,delay_ms=30``.

    Raises:
        FaultSpecError: unknown fault, or no number.
    """
    return FaultSpec(**read_numbers(text, FaultSpec, "fault"))


def read_numbers(text: str, spec: type[Any], what: str) -> dict[str, float]:
    """Numbers by the name of a field of ``spec``, from ``name=number,name=number``.

    Args:
        text: what was given.
        spec: a dataclass.
        what: what error messages call its fields.

    Raises:
        FaultSpecError: unknown name, or no number.
    """
    names = [field.name for field in fields(spec)]
    values: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in names:
            raise FaultSpecError(f"{what} {name!r}: expected one of {', '.join(names)}")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise FaultSpecError(f"{what} {name}: expected a number, found {value!r}") from error
    return values


class FaultyLink(Link):
    """Puts faults between a link and its user, in both directions.

    Args:
        inner: the link without faults.
        spec: what goes wrong, and how often.
        seed: the same seed and traffic give the same faults.
    """

    def __init__(self, inner: Link, spec: FaultSpec, *, seed: int = 0, clock: Clock | None = None) -> None:
        super().__init__(inner.url)
        self._inner = inner
        self.spec = spec
        self._generator = np.random.default_rng(seed)
        self._clock = clock or RealClock()
        self._start_s = self._clock.now()
        self._in, self._out = _Direction(), _Direction()

    def send(self, data: bytes) -> bool:
        """Send ``data`` with faults."""
        data = self._pass(data, self._out)
        return self._inner.send(data) if data else True

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived, with faults."""
        if late := self._pass(b"", self._out):
            self._inner.send(late)
        return self._pass(self._inner.receive(timeout_s), self._in)

    def answers_sender(self) -> bool:
        """As the link without faults."""
        return self._inner.answers_sender()

    def answer_sender(self) -> None:
        """As the link without faults."""
        self._inner.answer_sender()

    def close(self) -> None:
        """Close the link without faults."""
        self._inner.close()

    @property
    def _is_unplugged(self) -> bool:
        spec = self.spec
        since_s = self._clock.now() - self._start_s - spec.unplug_after_s
        return spec.unplug_after_s > 0 and 0 <= since_s < spec.unplug_for_s

    def _pass(self, data: bytes, direction: "_Direction") -> bytes:
        """Bytes that come out at the other end now, of this piece and of earlier ones."""
        if self._is_unplugged:
            direction.clear()
            return b""
        now_s = self._clock.now()
        late = direction.due(now_s)
        if direction.late:
            if data:
                direction.late.append((direction.late[-1][0], data))
            return late
        if data and now_s - self._start_s >= self.spec.after_s:
            data = self._mangle(data, direction)
        return late + direction.complete(data)

    def _mangle(self, data: bytes, direction: "_Direction") -> bytes:
        spec, random = self.spec, self._generator.random
        if random() < spec.drop:
            return b""
        if random() < spec.corrupt:
            position = int(self._generator.integers(len(data)))
            changed = data[position] ^ int(self._generator.integers(1, 256))
            data = data[:position] + bytes([changed]) + data[position + 1 :]
        if random() < spec.truncate:
            data = data[: int(self._generator.integers(len(data)))]
        if random() < spec.duplicate:
            data += data
        if random() < spec.garbage:
            data = self._generator.bytes(int(self._generator.integers(1, 64))) + data
        if random() < spec.delay:
            direction.late.append((self._clock.now() + spec.delay_ms / 1e3, data))
            return b""
        if random() < spec.reorder:
            direction.overtaken += data
            return b""
        if random() < spec.partial:
            cut = int(self._generator.integers(len(data) + 1))
            direction.late.append((-math.inf, data[cut:]))
            return data[:cut]
        return data


class _Direction:
    """What is still on its way in one direction of a link."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Lose all of it."""
        self.late: deque[tuple[float, bytes]] = deque()
        self.overtaken = b""
        """Data that comes after the next piece."""

    def due(self, now_s: float) -> bytes:
        """Delayed data whose delay is over."""
        due = []
        while self.late and self.late[0][0] <= now_s:
            due.append(self.late.popleft()[1])
        return b"".join(due)

    def complete(self, piece: bytes) -> bytes:
        """A piece, followed by data that it has overtaken."""
        if not piece:
            return b""
        overtaken, self.overtaken = self.overtaken, b""
        return piece + overtaken


class BusServo(Protocol):
    """A servo on a bus, as far as it can fail."""

    is_dead: bool
    """Whether it neither hears nor answers."""


class Device(Protocol):
    """The device's side of a protocol, without I/O."""

    @property
    def next_reply_s(self) -> float:
        """When :meth:`due` will have something; infinite while nothing waits."""
        ...

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Answers to ``data`` that leave at once."""
        ...

    def due(self, now_s: float) -> bytes:
        """Answers that are due by now."""
        ...

    def brown_out(self, now_s: float) -> None:
        """The supply dips: everything that is not kept without it is lost, torque first."""
        ...

    @property
    def servos(self) -> Mapping[int, BusServo]:
        """Servos on the bus, by identifier; empty for a device without a bus."""
        ...


class FaultyDevice:
    """Lets a device lose a servo, or its supply, at the times of a specification.

    Args:
        inner: the device without faults.
        spec: what happens, and when.
        now_s: time from which the specification counts.

    Raises:
        BridgeError: no such servo.
    """

    def __init__(self, inner: Device, spec: FaultSpec, now_s: float) -> None:
        self._inner = inner
        self._servo = round(spec.dead_servo)
        if self._servo and self._servo not in inner.servos:
            known = ", ".join(map(str, inner.servos))
            expected = f"expected one of {known}" if known else "this arm has no servos on a bus"
            raise BridgeError(f"dead_servo: {expected}, found {self._servo}")
        self._death_s = now_s + spec.dead_after_s if self._servo else math.inf
        self._dip_s = now_s + spec.brownout_after_s if spec.brownout_after_s else math.inf
        self._happen(now_s)

    @property
    def next_reply_s(self) -> float:
        """The device's."""
        return self._inner.next_reply_s

    def feed(self, data: bytes, now_s: float) -> bytes:
        """The device's answer."""
        self._happen(now_s)
        return self._inner.feed(data, now_s)

    def due(self, now_s: float) -> bytes:
        """The device's answers that have taken until now."""
        self._happen(now_s)
        return self._inner.due(now_s)

    def brown_out(self, now_s: float) -> None:
        """The device's supply dips."""
        self._inner.brown_out(now_s)

    @property
    def servos(self) -> Mapping[int, BusServo]:
        """The device's."""
        return self._inner.servos

    def _happen(self, now_s: float) -> None:
        if now_s >= self._death_s:
            self._death_s = math.inf
            self._inner.servos[self._servo].is_dead = True
        if now_s >= self._dip_s:
            self._dip_s = math.inf
            self._inner.brown_out(now_s)
