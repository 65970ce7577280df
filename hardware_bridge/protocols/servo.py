"""What the protocols of both servo buses share: packets, instructions, and finding packets in a stream.

A bus has one master. It sends an instruction packet to one servo, or to all by :data:`BROADCAST`; the servo
that is asked answers with a status packet. Feetech's and ROBOTIS's protocols number their instructions alike
and differ in framing, in the width of addresses and in what a status holds.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

BROADCAST = 0xFE
BITS_PER_BYTE = 10
"""Bits per byte on the wire, with start and stop bit."""


class Instruction(IntEnum):
    """Instruction of the master."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    """A write that waits for :attr:`ACTION`."""
    ACTION = 0x05
    REBOOT = 0x08
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    """One packet for all answers. Dynamixel only, as are the bulk instructions."""
    BULK_READ = 0x92
    BULK_WRITE = 0x93


class Packet(NamedTuple):
    """An instruction or a status, without its framing."""

    servo: int
    code: int
    """The instruction; of a status: Feetech's error bits, Dynamixel's constant."""
    params: bytes


class Status(NamedTuple):
    """A servo's answer."""

    servo: int
    error: int
    """0 if all is well. Feetech: errors of the servo. Dynamixel: why it refused, and the alert bit."""
    data: bytes


class PacketDecoder(ABC):
    """Finds packets in a stream that may be cut, joined or damaged anywhere."""

    header: bytes

    def __init__(self) -> None:
        self._buffer = b""
        self.packets_ok = 0
        self.packets_bad = 0
        """Number of headers that no valid packet followed."""

    def expect(self, size: int) -> None:  # noqa: B027  most answers say their size themselves
        """Announce answers with this many bytes of data, to a decoder that needs to know."""

    def reset(self) -> None:
        """Drop an incomplete packet, whose sender fell silent."""
        self._buffer = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Packets that ``data`` completes, in order; never raises."""
        buffer = self._buffer + data
        packets: list[Packet] = []
        end = 0
        while (start := self._find(buffer, end)) >= 0:
            size = self._size(buffer, start)
            if size is None or len(buffer) - start < size > 0:
                self._buffer = buffer[start:]
                return packets
            if size and (packet := self._open(buffer[start : start + size])) is not None:
                packets.append(packet)
                self.packets_ok += 1
                end = start + size
            else:
                # It was no header: go on looking after its first byte.
                self.packets_bad += 1
                end = start + 1
        self._buffer = self._tail(buffer[end:])
        return packets

    def _tail(self, buffer: bytes) -> bytes:
        """The end of the buffer, as far as it may be the beginning of a header."""
        for size in range(len(self.header) - 1, 0, -1):
            if buffer.endswith(self.header[:size]):
                return buffer[-size:]
        return b""

    def _find(self, buffer: bytes, start: int) -> int:
        """Index at which the next packet may begin; negative if there is none yet."""
        return buffer.find(self.header, start)

    @abstractmethod
    def _size(self, buffer: bytes, start: int) -> int | None:
        """Size of the packet at ``start``; None if more bytes are needed to tell; 0 if it is none."""

    @abstractmethod
    def _open(self, packet: bytes) -> Packet | None:
        """Contents of a packet of the right size; None if its checksum is wrong."""


class ServoProtocol(ABC):
    """Bytes of one bus protocol, without I/O."""

    name: str
    status_size: int
    """Bytes of a status without data."""
    ping_size: int
    """Bytes of data in the answer to a ping."""
    _span: struct.Struct
    """Layout of address and size on the wire."""
    _address: struct.Struct

    @abstractmethod
    def encode(self, packet: Packet) -> bytes:
        """Bytes of an instruction, or of a status made by :meth:`status`."""

    @abstractmethod
    def decoder(self) -> PacketDecoder:
        """A fresh decoder, for either direction."""

    @abstractmethod
    def status(self, status: Status) -> Packet:
        """The packet of an answer."""

    @abstractmethod
    def open_status(self, packet: Packet) -> Status | None:
        """The answer that a packet holds; None if it is no answer."""

    def answers_size(self, instruction: int, count: int, size: int) -> tuple[int, int]:
        """Packets and bytes in the answers of ``count`` servos with ``size`` bytes of data each."""
        return count, count * (self.status_size + size)

    @abstractmethod
    def refusal(self, status: Status) -> int:
        """Error by which the servo refused the instruction; 0 if it did not."""

    def read(self, servo: int, address: int, size: int) -> Packet:
        """Instruction to read registers of one servo."""
        return Packet(servo, Instruction.READ, self._span.pack(address, size))

    def write(
        self, servo: int, address: int, data: bytes, instruction: Instruction = Instruction.WRITE
    ) -> Packet:
        """Instruction to write registers of one servo."""
        return Packet(servo, instruction, self._address.pack(address) + data)

    def sync_read(
        self,
        servos: Sequence[int],
        address: int,
        size: int,
        instruction: Instruction = Instruction.SYNC_READ,
    ) -> Packet:
        """Instruction to read the same registers of several servos, which answer in this order."""
        return Packet(BROADCAST, instruction, self._span.pack(address, size) + bytes(servos))

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> Packet:
        """Instruction to write the same registers of several servos; all ``data`` of one size. No answer."""
        size = len(next(iter(data.values())))
        content = b"".join(bytes((servo,)) + value for servo, value in data.items())
        return Packet(BROADCAST, Instruction.SYNC_WRITE, self._span.pack(address, size) + content)

    def split_read(self, params: bytes) -> tuple[int, int, bytes]:
        """Address, size and servos of a read or sync read."""
        address, size = self._span.unpack_from(params)
        return address, size, params[self._span.size :]

    def split_write(self, params: bytes) -> tuple[int, bytes]:
        """Address and data of a write."""
        (address,) = self._address.unpack_from(params)
        return address, params[self._address.size :]

    def split_sync_write(self, params: bytes) -> tuple[int, dict[int, bytes]]:
        """Address, and data by servo, of a sync write; an incomplete part is left out."""
        address, size, content = self.split_read(params)
        whole = len(content) - len(content) % (size + 1)
        chunks = [content[at : at + size + 1] for at in range(0, whole, size + 1)]
        return address, {chunk[0]: chunk[1:] for chunk in chunks}
