"""A link that misbehaves by a seeded specification, to show that everything around it does not."""

from collections import deque
from dataclasses import dataclass, fields

import numpy as np

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.links import Link


class FaultSpecError(BridgeError, ValueError):
    """A fault specification that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class FaultSpec:
    """How often each fault happens, as a probability for every piece of data in either direction."""

    drop: float = 0.0
    corrupt: float = 0.0
    """One byte is changed."""
    truncate: float = 0.0
    """The end is cut off."""
    duplicate: float = 0.0
    garbage: float = 0.0
    """Random bytes go before it."""
    delay: float = 0.0
    delay_ms: float = 20.0
    """How late delayed data comes; what is behind it may overtake it."""
    dead_servo: float = 0
    """A servo of an emulated bus that neither hears nor answers; 0: none."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (value >= 0 and (value <= 1 or name in ("delay_ms", "dead_servo"))):
                raise FaultSpecError(f"fault {name}: expected a probability, found {value}")


def parse_faults(text: str) -> FaultSpec:
    """Read e.g. ``drop=0.05,delay=0.01,delay_ms=30``.

    Raises:
        FaultSpecError: unknown fault, or no number.
    """
    names = [field.name for field in fields(FaultSpec)]
    values: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in names:
            raise FaultSpecError(f"fault {name!r}: expected one of {', '.join(names)}")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise FaultSpecError(f"fault {name}: expected a number, found {value!r}") from error
    return FaultSpec(**values)


class FaultyLink(Link):
    """Puts faults between a link and its user, in both directions.

    Args:
        inner: the link that works.
        spec: what goes wrong, and how often.
        seed: the same seed and traffic give the same faults.
    """

    def __init__(self, inner: Link, spec: FaultSpec, *, seed: int = 0, clock: Clock | None = None) -> None:
        super().__init__(inner.url)
        self._inner = inner
        self.spec = spec
        self._generator = np.random.default_rng(seed)
        self._clock = clock or RealClock()
        self._late_in: deque[tuple[float, bytes]] = deque()
        self._late_out: deque[tuple[float, bytes]] = deque()

    def send(self, data: bytes) -> bool:
        """Send ``data``, or what is left of it."""
        self._send_late()
        on_time = self._mangle(data, self._late_out)
        return self._inner.send(on_time) if on_time else True

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived, or what is left of it."""
        self._send_late()
        received = self._inner.receive(timeout_s)
        return self._due(self._late_in) + self._mangle(received, self._late_in)

    def close(self) -> None:
        """Close the link that works."""
        self._inner.close()

    def _descriptors(self) -> tuple[int, ...]:
        return self._inner._descriptors()

    def _receive_ready(self) -> bytes:
        return self._inner._receive_ready()

    def _send_late(self) -> None:
        if late := self._due(self._late_out):
            self._inner.send(late)

    def _due(self, late: deque[tuple[float, bytes]]) -> bytes:
        due = []
        while late and late[0][0] <= self._clock.now():
            due.append(late.popleft()[1])
        return b"".join(due)

    def _mangle(self, data: bytes, late: deque[tuple[float, bytes]]) -> bytes:
        spec, random = self.spec, self._generator.random
        if not data or random() < spec.drop:
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
            late.append((self._clock.now() + spec.delay_ms / 1e3, data))
            return b""
        return data
