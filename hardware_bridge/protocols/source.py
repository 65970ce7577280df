"""The protocol between the bridge and a source outside the robot, such as the process of a camera.

The bridge subscribes under a session of its choice, and the source sends samples under that session.
``docs/sources.md`` has the layout.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from wpg.hardware_bridge.protocols.framing import Envelope, FrameStream, read_payload, seal, unseal
from wpg.hardware_bridge.robot import Vector

_SAMPLE = struct.Struct("<IB")
AGE_MAX_US = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send samples here from now on, under the header's session."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of observation terms, measured at the same time. They are finite, and travel as float32."""

    age_us: int
    """Time from measuring the values to sending them."""
    values: Mapping[str, Vector]
    """(size,) by the term's name."""


SourceMessage: TypeAlias = Subscribe | Sample
_TYPES: dict[type[SourceMessage], int] = {Subscribe: 16, Sample: 17}


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A message with its header."""

    session: int
    sequence: int
    time_us: int
    """The sender's clock."""
    message: SourceMessage


def encode_source_frame(frame: SourceFrame, key: bytes | None = None) -> bytes:
    """Bytes of a frame, delimiters included; tagged if there is a key."""
    kind = _TYPES[type(frame.message)]
    payload = _payload(frame.message)
    return seal(Envelope(kind, frame.session, frame.sequence, frame.time_us, payload), key)


def decode_source_frame(encoded: bytes, key: bytes | None = None) -> SourceFrame:
    """Frame from the bytes between two delimiters.

    Raises:
        FrameError: these bytes are no frame, or its values are no numbers.
        UnauthenticatedError: a frame, but not from a holder of ``key``.
    """
    envelope = unseal(encoded, key)
    message = read_payload(_DECODERS, envelope)
    return SourceFrame(envelope.session, envelope.sequence, envelope.time_us, message)


def source_frames(key: bytes | None = None) -> FrameStream[SourceFrame]:
    """Decoder of a stream of frames; those without the key's tag are dropped and counted."""
    return FrameStream(partial(decode_source_frame, key=key))


def _payload(message: SourceMessage) -> bytes:
    if isinstance(message, Subscribe):
        return b""
    parts = [_SAMPLE.pack(message.age_us, len(message.values))]
    for name, values in message.values.items():
        text, numbers = name.encode(), np.asarray(values, "<f4")
        parts.append(bytes([len(text)]) + text + bytes([numbers.size]) + numbers.tobytes())
    return b"".join(parts)


def _decode_subscribe(payload: bytes) -> Subscribe:
    if payload:
        raise ValueError(f"expected no payload, found {len(payload)} bytes")
    return Subscribe()


def _decode_sample(payload: bytes) -> Sample:
    age_us, count = _SAMPLE.unpack_from(payload)
    values: dict[str, Vector] = {}
    start = _SAMPLE.size
    for _ in range(count):
        end = start + 1 + payload[start]
        name = payload[start + 1 : end].decode()
        start, end = end + 1, end + 1 + 4 * payload[end]
        values[name] = np.frombuffer(payload[start:end], "<f4", count=(end - start) // 4).astype(np.float64)
        start = end
    if start != len(payload) or len(values) != count:
        raise ValueError(f"{len(payload)} bytes, {count} terms end at {start}")
    if not all(math.isfinite(float(numbers.sum())) for numbers in values.values()):
        raise ValueError("values that are not finite")
    return Sample(age_us, values)


_DECODERS: dict[int, Callable[[bytes], SourceMessage]] = {16: _decode_subscribe, 17: _decode_sample}
