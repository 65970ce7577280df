"""Feetech's servo protocol (STS and SMS series), little-endian.

``FF FF id length code params checksum``: ``length`` counts code, params and checksum; the checksum is the
complement of the sum of everything behind the header. Source: Feetech, "Magnetic Encoding STS Servo" protocol
and memory table; see ``docs/servo_buses.md``.
"""

import struct

from wpg.hardware_bridge.protocols.servo import BROADCAST, Packet, PacketDecoder, ServoProtocol, Status

PARAMS_MAX = 250


class FeetechDecoder(PacketDecoder):
    """Feetech packets from a stream."""

    header = b"\xff\xff"

    def _size(self, buffer: bytes, start: int) -> int | None:
        if len(buffer) - start < 4:
            # A third FF is no servo number; the header begins one byte later.
            return 0 if buffer[start + 2 : start + 3] == b"\xff" else None
        servo, length = buffer[start + 2], buffer[start + 3]
        return 4 + length if servo <= BROADCAST and 2 <= length <= PARAMS_MAX + 2 else 0

    def _open(self, packet: bytes) -> Packet | None:
        if checksum(packet[2:-1]) != packet[-1]:
            return None
        return Packet(packet[2], packet[4], packet[5:-1])


class FeetechProtocol(ServoProtocol):
    """Bytes of the STS and SMS series."""

    name = "feetech"
    status_size = 6
    ping_size = 0
    _span = struct.Struct("<BB")
    _address = struct.Struct("<B")

    def encode(self, packet: Packet) -> bytes:
        """Bytes of a packet.

        Raises:
            ValueError: more parameters than a packet holds.
        """
        servo, code, params = packet
        if len(params) > PARAMS_MAX:
            raise ValueError(f"packet of {len(params)} parameters, at most {PARAMS_MAX} allowed")
        body = bytes((servo, len(params) + 2, code)) + params
        return b"\xff\xff" + body + bytes((checksum(body),))

    def decoder(self) -> PacketDecoder:
        """A fresh decoder."""
        return FeetechDecoder()

    def status(self, status: Status) -> Packet:
        """The packet of an answer."""
        return Packet(*status)

    def open_status(self, packet: Packet) -> Status | None:
        """The answer that a packet holds; every packet that is no broadcast may be one."""
        return None if packet.servo == BROADCAST else Status(*packet)

    def refusal(self, status: Status) -> int:
        """Always 0: Feetech servos report errors of their own, but no refusals."""
        return 0


def checksum(body: bytes) -> int:
    """Complement of the sum of the bytes."""
    return ~sum(body) & 0xFF
