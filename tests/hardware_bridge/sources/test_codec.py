"""Frames between a source and the bridge, byte for byte."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wpg.hardware_bridge.errors import FrameError
from wpg.hardware_bridge.protocols.framing import Envelope, UnauthenticatedError, seal
from wpg.hardware_bridge.protocols.native import Frame as NativeFrame
from wpg.hardware_bridge.protocols.native import Poll, decode_frame, encode_frame
from wpg.hardware_bridge.protocols.source import (
    Sample,
    SourceFrame,
    Subscribe,
    decode_source_frame,
    encode_source_frame,
    source_frames,
)

KEY = b"k" * 32
PLACE = {"object_pos": np.array([0.5, -0.25, 0.02])}


def found(frame: SourceFrame) -> SourceFrame:
    (again,) = source_frames().feed(encode_source_frame(frame))
    return again


def test_subscription_has_the_native_frames_form():
    wire = encode_source_frame(SourceFrame(7, 2, 1000, Subscribe()))
    native = encode_frame(NativeFrame(7, 2, 1000, Poll()))
    # The type, and with it the checksum.
    assert wire[:3] == native[:3]
    assert wire[3] == 16
    assert wire[4:-6] == native[4:-6]


def test_sample_by_hand():
    import struct
    import zlib

    from cobs import cobs

    body = struct.pack("<BBIIQ", 1, 17, 7, 2, 2000) + struct.pack("<IB", 30_000, 1)
    body += b"\x0aobject_pos\x03" + struct.pack("<3f", 0.5, -0.25, 0.02)
    expected = b"\0" + cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"
    assert encode_source_frame(SourceFrame(7, 2, 2000, Sample(30_000, PLACE))) == expected


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.lists(st.floats(width=32, min_value=-(2.0**64), max_value=2.0**64), min_size=1, max_size=16),
        max_size=4,
    ),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_samples_come_back(values, age_us):
    arrays = {name: np.array(numbers) for name, numbers in values.items()}
    frame = found(SourceFrame(1, 2, 3, Sample(age_us, arrays)))
    assert frame.message.age_us == age_us
    assert frame.message.values.keys() == arrays.keys()
    for name, numbers in arrays.items():
        np.testing.assert_array_equal(frame.message.values[name], numbers)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_in_pieces_and_after_garbage(size):
    wire = b"\x55garbage" + encode_source_frame(SourceFrame(7, 2, 2000, Sample(1, PLACE))) * 2
    stream = source_frames()
    frames = [frame for i in range(0, len(wire), size) for frame in stream.feed(wire[i : i + size])]
    assert [frame.sequence for frame in frames] == [2, 2]
    assert (stream.frames_ok, stream.frames_bad) == (2, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(bad):
    wire = encode_source_frame(SourceFrame(7, 2, 2000, Sample(1, {"object_pos": np.array([0.5, bad, 0.0])})))
    with pytest.raises(FrameError, match="not finite"):
        decode_source_frame(wire[1:-1])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\0\1",
        b"\0\0\0\0\1\3abc",
        b"\0\0\0\0\1\3abc\2\0\0\0\0",
        b"\0\0\0\0\1\3abc\1\0\0\0\0more",
        b"\0\0\0\0\2\3abc\1\0\0\0\0\3abc\1\0\0\0\0",
        b"\0\0\0\0\1\3ab\xff\1\0\0\0\0",
    ],
    ids=["empty", "no count", "no term", "no size", "short", "long", "twice", "no text"],
)
def test_payload_of_wrong_size(payload):
    with pytest.raises(FrameError, match="wrong content"):
        decode_source_frame(seal(Envelope(17, 1, 1, 1, payload))[1:-1])


def test_the_robots_frames_are_no_sources_frames():
    robots = encode_frame(NativeFrame(7, 2, 1000, Poll()), KEY)
    with pytest.raises(FrameError, match="unknown frame type 3"):
        decode_source_frame(robots[1:-1], KEY)
    with pytest.raises(FrameError, match="unknown frame type 16"):
        decode_frame(encode_source_frame(SourceFrame(7, 2, 1000, Subscribe()), KEY)[1:-1], KEY)


@pytest.mark.parametrize("key", [None, b"o" * 32])
def test_without_the_key(key):
    wire = encode_source_frame(SourceFrame(7, 2, 2000, Sample(1, PLACE)), key)
    with pytest.raises(UnauthenticatedError):
        decode_source_frame(wire[1:-1], KEY)


def test_damage_is_never_believed():
    rng = random.Random(0)
    wire = encode_source_frame(SourceFrame(7, 2, 2000, Sample(1, PLACE)))
    stream = source_frames()
    for _ in range(20_000):
        damaged = bytearray(wire)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for frame in stream.feed(bytes(damaged) + b"\0"):
            assert encode_source_frame(frame) == wire
