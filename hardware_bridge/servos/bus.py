"""Master of a servo bus: does one transaction at a time, each with a deadline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.errors import ProtocolError, StaleStateError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.protocols.servo import (
    BITS_PER_BYTE,
    Instruction,
    Packet,
    PacketDecoder,
    ServoProtocol,
    Status,
)
from wpg.hardware_bridge.servos.models import Register
from wpg.hardware_bridge.servos.outstanding import OutstandingAnswers

ATTEMPTS = 5
"""Each attempt waits twice as long as the one before, so that a servo that was busy for 0.1 s is heard."""
LEAD_S = 150e-6
"""A read wakes up this long before its last answer is due, because sleeping threads wake up late."""
LOOKS = 64
"""Polls for that answer before the thread sleeps again: a poll takes 3 µs, waking up 30 µs."""
READS_MAX = 64
"""At most this many reads of unexpected bytes, because some lines never fall silent."""
RETURN_DELAY_MAX_S = 510e-6
"""The longest delay that a servo can be set to."""


class ServoBus:
    """Reads and writes the registers of the servos on one link.

    An answer that comes too late must not be taken for that of a later question. A servo with an outstanding
    answer is therefore asked for a few bytes more, so that the sizes differ; and an outstanding
    acknowledgement is waited for before the servo is told something else. See
    :class:`~wpg.hardware_bridge.servos.outstanding.OutstandingAnswers`.

    Args:
        link: open; closed by :meth:`close`.
        protocol: bytes on the wire.
        baudrate: baudrate of the bus, from which the duration of an answer is computed.
        margin_s: time for adapter and operating system that an answer is waited for beyond that duration.
    """

    def __init__(
        self, link: Link, protocol: ServoProtocol, *, baudrate: int, margin_s: float, clock: Clock
    ) -> None:
        self._link = link
        self._protocol = protocol
        self._decoder = protocol.decoder()
        # Cached, because the same questions are asked at every tick.
        self._encoded = lru_cache(maxsize=64)(protocol.encode)
        self._clock = clock
        self._byte_s = BITS_PER_BYTE / baudrate
        self._margin_s = margin_s
        self._free_s = -math.inf
        """When the last bytes sent will have left the wire."""
        self._outstanding = OutstandingAnswers(clock)
        self.return_delay_s = RETURN_DELAY_MAX_S
        """Longest time that a servo takes to begin an answer."""

    @property
    def decoder(self) -> PacketDecoder:
        """The decoder, which counts damaged packets."""
        return self._decoder

    @property
    def url(self) -> str:
        """URL of the link."""
        return self._link.url

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def sync_read(
        self, servos: Sequence[int], address: int, size: int, *, patience: int = 1
    ) -> dict[int, Status]:
        """Read the same registers of several servos; returns the answers within ``patience`` margins.

        Raises:
            LinkError: the link is dead.
        """
        return {status.servo: status for status in self.answers(servos, address, size, patience=patience)}

    def answers(
        self,
        servos: Sequence[int],
        address: int,
        size: int,
        instruction: Instruction = Instruction.SYNC_READ,
        *,
        patience: int = 1,
    ) -> Iterator[Status]:
        """Like :meth:`sync_read`, but yields each answer while the next ones are still on the wire.

        Raises:
            LinkError: the link is dead.
        """
        wider, asked = self._outstanding.tell_apart(servos, size)
        self._decoder.expect(wider)
        question = self._protocol.sync_read(asked, address, wider, instruction)
        for status in self._exchange(question, asked, wider, patience):
            if status.data:
                yield status._replace(data=status.data[:size])

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write the same registers of several servos; nobody answers.

        Raises:
            LinkError: the link is dead.
        """
        self._send(self._protocol.encode(self._protocol.sync_write(address, data)))

    def read(self, servo: int, register: Register) -> int:
        """Read one register of one servo, repeated until it answers.

        Raises:
            StaleStateError: no answer.
            ProtocolError: the servo refuses.
            LinkError: the link is dead.
        """
        for attempt in range(ATTEMPTS):
            size, asked = self._outstanding.tell_apart((servo,), register.size)
            question = self._protocol.read(servo, register.address, size)
            for status in self._exchange(question, asked, size, 2**attempt):
                return register.decode(self._accepted(question, status).data)
        raise self._silent(question)

    def write(self, servo: int, register: Register, value: int) -> Status:
        """Write one register, until the servo acknowledges it.

        Raises:
            StaleStateError: no answer.
            ProtocolError: the servo refuses.
            LinkError: the link is dead.
        """
        order = self._protocol.write(servo, register.address, register.encode(value))
        self._await_outstanding(order, 0)
        for attempt in range(ATTEMPTS):
            for status in self._exchange(order, (servo,), 0, 2**attempt):
                return self._accepted(order, status)
        raise self._silent(order)

    def ping(self, servo: int) -> bool:
        """Whether a servo answers.

        Raises:
            LinkError: the link is dead.
        """
        ping = Packet(servo, Instruction.PING, b"")
        self._await_outstanding(ping, self._protocol.ping_size)
        return any(True for _ in self._exchange(ping, (servo,), self._protocol.ping_size))

    def registers(self, servos: Sequence[int], register: Register) -> dict[int, int]:
        """Read one register of several servos, repeated until all have answered.

        Raises:
            StaleStateError: not all of them answer; names who does not.
            LinkError: the link is dead.
        """
        return self.values(servos, (register,))[register]

    def values(self, servos: Sequence[int], registers: Sequence[Register]) -> dict[Register, dict[int, int]]:
        """Read the span that holds several registers, of several servos, repeated until all have answered.

        Raises:
            StaleStateError: not all of them answer; names who does not.
            LinkError: the link is dead.
        """
        start = min(register.address for register in registers)
        size = max(register.address + register.size for register in registers) - start
        data: dict[int, bytes] = {}
        for attempt in range(ATTEMPTS):
            missing = [servo for servo in servos if servo not in data]
            answers = self.sync_read(missing, start, size, patience=2**attempt)
            data |= {servo: status.data for servo, status in answers.items()}
            if len(data) == len(servos):
                return {
                    it: {servo: it.decode(data[servo][it.address - start :]) for servo in servos}
                    for it in registers
                }
        silent = ", ".join(str(servo) for servo in servos if servo not in data)
        raise StaleStateError(f"link {self.url}: no answer from servo {silent}; {len(data)} others answer")

    def _accepted(self, packet: Packet, status: Status) -> Status:
        if refusal := self._protocol.refusal(status):
            name = Instruction(packet.code).name.lower()
            raise ProtocolError(f"servo {packet.servo} refuses to {name}: error {refusal}")
        return status

    def _silent(self, packet: Packet) -> StaleStateError:
        name = Instruction(packet.code).name.lower()
        return StaleStateError(f"link {self.url}: servo {packet.servo} does not answer to {name}")

    def _await_outstanding(self, packet: Packet, size: int) -> None:
        """Wait for an outstanding answer that could be taken for the answer to ``packet``."""
        while (left_s := self._outstanding.until_s(packet.servo, size, packet) - self._clock.now()) > 0:
            self._take_late(self._link.receive(left_s))

    def _take_late(self, data: bytes) -> None:
        for found in self._decoder.feed(data):
            if (status := self._protocol.open_status(found)) is not None:
                self._outstanding.settles(status, None)

    def _exchange(
        self, packet: Packet, servos: Sequence[int], size: int, patience: int = 1
    ) -> Iterator[Status]:
        """Send an instruction, and yield the answers until they are due plus the margin."""
        if not servos:
            return
        # Late answers to the last transaction are taken out first.
        for _ in range(READS_MAX):
            if not (data := self._link.receive(0.0)):
                break
            self._take_late(data)
        self._decoder.reset()
        self._send(self._encoded(packet))
        due_s = self._free_s + self._answers_s(packet.code, len(servos), size)
        deadline_s = due_s + patience * self._margin_s
        # The thread wakes up once for all answers, shortly before the last one is due.
        self._clock.sleep_until(due_s - LEAD_S)
        waiting = set(servos)
        try:
            for status in self._until(deadline_s, packet, waiting):
                # A refusal has no data; an answer of another size belongs to another question.
                if len(status.data) == size or (status.error and not status.data):
                    waiting.remove(status.servo)
                    self._outstanding.is_answered(status)
                    yield status
        finally:
            self._outstanding.add(waiting, size, packet)

    def _until(self, deadline_s: float, packet: Packet, waiting: set[int]) -> Iterator[Status]:
        """Answers to ``packet`` that servos in ``waiting`` send until the deadline."""
        looks = late = 0
        while waiting:
            remaining_s = deadline_s - self._clock.now()
            data = self._link.receive(max(0.0, remaining_s) if looks >= LOOKS else 0.0)
            looks += 1
            late += remaining_s <= 0
            if late and (not data or late > READS_MAX):
                return
            for found in self._decoder.feed(data):
                # Half-duplex adapters may echo what they send.
                status = None if found == packet else self._protocol.open_status(found)
                if (
                    status is not None
                    and not self._outstanding.settles(status, packet)
                    and status.servo in waiting
                ):
                    yield status

    def _send(self, data: bytes) -> None:
        self._link.send(data)
        self._free_s = max(self._clock.now(), self._free_s) + len(data) * self._byte_s

    def _answers_s(self, instruction: int, count: int, size: int) -> float:
        """How long the answers of ``count`` servos take, ``size`` bytes of data each."""
        packets, num_bytes = self._protocol.answers_size(instruction, count, size)
        return packets * self.return_delay_s + num_bytes * self._byte_s
