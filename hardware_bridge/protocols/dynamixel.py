"""ROBOTIS's Dynamixel Protocol 2.0, little-endian.

``FF FF FD 00 id length(2) code params crc(2)``: ``length`` counts code, params and CRC. Where params hold
``FF FF FD``, another ``FD`` is stuffed behind it. The CRC is CRC-16 with polynomial 0x8005 over everything
before it. Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0".
"""

import struct
from collections.abc import Iterable

from wpg.hardware_bridge.protocols.servo import (
    BROADCAST,
    Instruction,
    Packet,
    PacketDecoder,
    ServoProtocol,
    Status,
)

STATUS = 0x55
ALERT = 0x80
"""Set in the error of every status while the servo has a hardware error."""
LENGTH_MAX = 1024

_PREFIX = struct.Struct("<4sBH")
_CRC = struct.Struct("<H")
_BULK = struct.Struct("<BHH")
_HEADER = b"\xff\xff\xfd\x00"
_PATTERN, _STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"


def fast_part_size(size: int) -> int:
    """Size of each servo's part of the answer to a fast sync read, with ``size`` bytes of data."""
    return 2 + size + _CRC.size


def fast_size(count: int, size: int) -> int:
    """Size of that answer after ``count`` servos have added their parts."""
    return _PREFIX.size + 1 + count * fast_part_size(size)


def _crc_of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1) ^ (0x8005 if crc & 0x8000 else 0)
    return crc & 0xFFFF


_CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 of ``data``, continuing from ``crc``."""
    table = _CRC_TABLE
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ byte]
    return crc


class DynamixelDecoder(PacketDecoder):
    """Dynamixel packets from a stream.

    The single packet that answers a fast sync read is returned as several, one for each servo's part, as soon
    as the part has come. A part is ``error id data crc``, with the CRC over everything before it and without
    byte stuffing.
    """

    header = _HEADER

    def __init__(self) -> None:
        super().__init__()
        self._part_size = 0
        """Size of a part of a fast answer; 0 if none is expected."""
        self._parts_due = 0
        """Number of parts that are still due of a fast answer."""
        self._crc = 0
        """Checksum over the parts that have come."""

    def expect(self, size: int) -> None:
        """Announce fast answers with this many bytes of data from each servo, which they do not state."""
        self._part_size = fast_part_size(size)

    def reset(self) -> None:
        """Drop an incomplete packet, whose sender fell silent."""
        super().reset()
        self._parts_due = 0

    def _find(self, buffer: bytes, start: int) -> int:
        return start if self._parts_due else super()._find(buffer, start)

    def _size(self, buffer: bytes, start: int) -> int | None:
        if self._parts_due:
            return self._part_size
        if len(buffer) - start <= _PREFIX.size:
            return None
        servo, length = buffer[start + 4], int.from_bytes(buffer[start + 5 : start + 7], "little")
        if not (servo <= BROADCAST and 3 <= length <= LENGTH_MAX):
            return 0
        if self._num_parts(buffer[start:]):
            return _PREFIX.size + 1 + self._part_size  # the first of them
        return _PREFIX.size + length

    def _open(self, packet: bytes) -> Packet | None:
        parts_due = self._parts_due or self._num_parts(packet)
        crc = self._crc if self._parts_due else 0
        end = len(packet) - _CRC.size
        crc = crc16(packet[:end], crc)
        self._parts_due = 0
        if crc != _CRC.unpack_from(packet, end)[0]:
            return None
        if not parts_due:
            return Packet(packet[4], packet[7], packet[8:end].replace(_STUFFED, _PATTERN))
        self._parts_due, self._crc = parts_due - 1, crc16(packet[end:], crc)
        part = packet[-self._part_size : end]
        return Packet(part[1], STATUS, part[:1] + part[2:])

    def _num_parts(self, packet: bytes) -> int:
        """Number of parts of a fast answer, from its beginning; 0 if the packet is none."""
        if not self._part_size or packet[4] != BROADCAST or packet[7] != STATUS:
            return 0
        count, rest = divmod(int.from_bytes(packet[5:7], "little") - 1, self._part_size)
        return 0 if rest else count


class DynamixelProtocol(ServoProtocol):
    """Bytes of Protocol 2.0."""

    name = "dynamixel"
    status_size = 11
    ping_size = 3
    _span = struct.Struct("<HH")
    _address = struct.Struct("<H")

    def encode(self, packet: Packet) -> bytes:
        """Bytes of a packet.

        Raises:
            ValueError: more parameters than a packet holds.
        """
        servo, code, params = packet
        content = bytes((code,)) + params.replace(_PATTERN, _STUFFED)
        return _framed(servo, content)

    def decoder(self) -> DynamixelDecoder:
        """A fresh decoder."""
        return DynamixelDecoder()

    def status(self, status: Status) -> Packet:
        """The packet of an answer."""
        return Packet(status.servo, STATUS, bytes((status.error,)) + status.data)

    def open_status(self, packet: Packet) -> Status | None:
        """The answer that a packet holds; None if it is an instruction."""
        if packet.code != STATUS or not packet.params:
            return None
        return Status(packet.servo, packet.params[0], packet.params[1:])

    def refusal(self, status: Status) -> int:
        """Error by which the servo refused the instruction, without the alert bit."""
        return status.error & ~ALERT

    def answers_size(self, instruction: int, count: int, size: int) -> tuple[int, int]:
        """As in the base class, but a fast sync read is answered in one packet."""
        if instruction == Instruction.FAST_SYNC_READ:
            return 1, fast_size(count, size)
        return super().answers_size(instruction, count, size)

    def encode_fast(self, statuses: Iterable[Status]) -> bytes:
        """The one packet that answers a fast sync read."""
        parts = [bytes((error, servo)) + data for servo, error, data in statuses]
        length = 1 + sum(map(len, parts)) + _CRC.size * len(parts)
        packet = _PREFIX.pack(_HEADER, BROADCAST, length) + bytes((STATUS,))
        for part in parts:
            packet += part
            packet += _CRC.pack(crc16(packet))
        return packet

    def split_bulk_read(self, params: bytes) -> list[tuple[int, int, int]]:
        """Servo, address and size of each part of a bulk read."""
        whole = len(params) - len(params) % _BULK.size
        return list(_BULK.iter_unpack(params[:whole]))

    def split_bulk_write(self, params: bytes) -> list[tuple[int, int, bytes]]:
        """Servo, address and data of each part of a bulk write; an incomplete part is left out."""
        parts: list[tuple[int, int, bytes]] = []
        start = 0
        while start + _BULK.size <= len(params):
            servo, address, size = _BULK.unpack_from(params, start)
            start += _BULK.size + size
            if start <= len(params):
                parts.append((servo, address, params[start - size : start]))
        return parts


def _framed(servo: int, content: bytes) -> bytes:
    length = len(content) + _CRC.size
    if length > LENGTH_MAX:
        raise ValueError(f"packet of {length} bytes, at most {LENGTH_MAX} allowed")
    packet = _PREFIX.pack(_HEADER, servo, length) + content
    return packet + _CRC.pack(crc16(packet))
