"""Framing of the native and the source protocol, over streams and datagrams.

A frame is ``0x00 COBS(header, payload[, tag], crc32) 0x00``, little-endian; ``docs/native_protocol.md`` has
the layout. The frame type determines the content of the payload.
"""

import hashlib
import hmac
import struct
import zlib
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from cobs import cobs

from wpg.hardware_bridge.errors import FrameError

PROTOCOL_VERSION = 1
MAX_ENCODED_SIZE = 2048
TAG_SIZE = 16
KEYED = 0x80
"""Set in the type byte of a frame that carries a tag."""

_HEADER = struct.Struct("<BBIIQ")
_CRC = struct.Struct("<I")
_WRAP = 0xFFFFFFFF
_HALF = 0x80000000

T = TypeVar("T")


class Envelope(NamedTuple):
    """A frame's header with its encoded payload."""

    kind: int
    """Frame type."""
    session: int
    sequence: int
    """Counts the sender's frames within the session."""
    time_us: int
    """The sender's clock."""
    payload: bytes


class UnauthenticatedError(FrameError):
    """A frame without a tag, or with the tag of another key."""


def seal(envelope: Envelope, key: bytes | None = None) -> bytes:
    """Bytes of a frame, delimiters included.

    Args:
        envelope: what to send.
        key: shared secret; the frame is then tagged with keyed BLAKE2s.
    """
    kind = envelope.kind | (KEYED if key else 0)
    body = _HEADER.pack(PROTOCOL_VERSION, kind, envelope.session, envelope.sequence, envelope.time_us)
    body += envelope.payload
    if key:
        body += _tag(body, key)
    encoded: bytes = cobs.encode(body + _CRC.pack(zlib.crc32(body)))
    return b"\0" + encoded + b"\0"


def unseal(encoded: bytes, key: bytes | None = None) -> Envelope:
    """Frame from the bytes between two delimiters.

    Raises:
        FrameError: the bytes are no frame.
        UnauthenticatedError: the frame does not carry a tag of ``key``.
    """
    body = _checked_body(encoded)
    version, kind, session, sequence, time_us = _HEADER.unpack_from(body)
    if version != PROTOCOL_VERSION:
        raise FrameError(f"protocol version: expected {PROTOCOL_VERSION}, found {version}")
    end = len(body) - (TAG_SIZE if kind & KEYED else 0)
    if key and not (kind & KEYED and hmac.compare_digest(body[end:], _tag(body[:end], key))):
        raise UnauthenticatedError("frame without a valid tag")
    return Envelope(kind & ~KEYED, session, sequence, time_us, body[_HEADER.size : end])


def read_payload(decoders: dict[int, Callable[[bytes], T]], envelope: Envelope) -> T:
    """Decode a frame's payload by the decoder of its type.

    Raises:
        FrameError: the type has no decoder, or its decoder refuses the payload.
    """
    decode = decoders.get(envelope.kind)
    if decode is None:
        raise FrameError(f"unknown frame type {envelope.kind}")
    try:
        return decode(envelope.payload)
    except (struct.error, ValueError, IndexError) as error:
        raise FrameError(f"frame type {envelope.kind} of wrong content: {error}") from error


def next_sequence(sequence: int) -> int:
    """The number after this one; 32-bit numbers wrap."""
    return (sequence + 1) & _WRAP


def steps_between(earlier: int, later: int) -> int:
    """Number of steps from ``earlier`` to ``later``."""
    return (later - earlier) & _WRAP


def is_ahead(sequence: int, last: int) -> bool:
    """Whether a frame is newer than the last one of its session."""
    return 0 < steps_between(last, sequence) < _HALF


class FrameStream(Generic[T]):
    """Finds frames in a stream that may be cut, joined or damaged anywhere.

    Args:
        decode: decodes the bytes between two delimiters; frames that it refuses are dropped and counted.
    """

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode
        self._rest = b""
        self._skipping = False
        self.frames_ok = 0
        self.frames_bad = 0
        self.frames_unauthenticated = 0

    def feed(self, data: bytes) -> list[T]:
        """Frames that ``data`` completes, in order; never raises."""
        *chunks, rest = (self._rest + data).split(b"\0")
        frames = []
        for chunk in chunks:
            if self._skipping:
                self._skipping = False
            elif chunk and (frame := self._counted(chunk)) is not None:
                frames.append(frame)
        if len(rest) > MAX_ENCODED_SIZE:
            self.frames_bad += not self._skipping
            self._skipping = True
        self._rest = b"" if self._skipping else rest
        return frames

    def _counted(self, chunk: bytes) -> T | None:
        try:
            frame = self._decode(chunk)
        except UnauthenticatedError:
            self.frames_unauthenticated += 1
            return None
        except FrameError:
            self.frames_bad += 1
            return None
        self.frames_ok += 1
        return frame


def _checked_body(encoded: bytes) -> bytes:
    if len(encoded) > MAX_ENCODED_SIZE:
        raise FrameError(f"frame of {len(encoded)} bytes, at most {MAX_ENCODED_SIZE} allowed")
    try:
        checked: bytes = cobs.decode(encoded)
    except cobs.DecodeError as error:
        raise FrameError(f"not COBS: {error}") from error
    body, crc = checked[: -_CRC.size], checked[-_CRC.size :]
    if len(body) < _HEADER.size or _CRC.pack(zlib.crc32(body)) != crc:
        raise FrameError(f"bad checksum over {len(checked)} bytes")
    return body


def _tag(body: bytes, key: bytes) -> bytes:
    return hashlib.blake2s(body, key=key, digest_size=TAG_SIZE).digest()
