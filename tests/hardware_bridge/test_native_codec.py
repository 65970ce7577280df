import random
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wpg.hardware_bridge.errors import FrameError
from wpg.hardware_bridge.protocols.framing import MAX_ENCODED_SIZE, UnauthenticatedError
from wpg.hardware_bridge.protocols.native import (
    Arm,
    Command,
    Frame,
    FrameDecoder,
    Identify,
    Identity,
    Poll,
    Refusal,
    State,
    Stop,
    decode_frame,
    encode_frame,
)
from wpg.hardware_bridge.robot import RobotStatus, StopMode

POS, VEL, TORQUE = np.array([0.5, -0.25]), np.array([1.0, -2.0]), np.array([0.0, 8.0])
KEY = b"k" * 16

GOLDEN = [
    (Frame(0x01020304, 1, 1000, Identify()), "000801010403020101010103e8030101010101051fe1230c00"),
    (
        Frame(0x01020304, 1, 5, Identity(1, 0xA1B2C3D4, 50000, 200000, "arm", ("a", "b"))),
        "000801020403020101010102050101010101010201010107d4c3b2a150c30104400d030e020361726d01610162"
        "2927d02100",
    ),
    (Frame(7, 2, 1000, Poll()), "000401030701010202010103e8030101010101058b60ccab00"),
    (
        Frame(7, 9, 2**40, State(2, 3, RobotStatus.ARMED, Refusal.NONE, POS, VEL, TORQUE)),
        "000401040701010209010101010101010201010202010102030101020102020101023f010380be0103803f01"
        "0102c00101010101010641470e245600",
    ),
    (
        Frame(7, 3, 1000, Command(4, POS, VEL)),
        "000401050701010203010103e80301010101010204010102020101023f010380be0103803f010106c00afd9db000",
    ),
    (Frame(7, 4, 1000, Arm()), "000401060701010204010103e803010101010105e7295fb000"),
    (Frame(7, 5, 1000, Stop(StopMode.DAMP)), "000401070701010205010103e8030101010101060237c9163000"),
]


def same(a: Frame, b: Frame) -> bool:
    # The encoding is injective, so equal bytes are equal frames, NaN included.
    return encode_frame(a) == encode_frame(b)


@pytest.mark.parametrize(
    ("frame", "wire"), GOLDEN, ids=lambda value: type(getattr(value, "message", 0)).__name__
)
class TestGolden:
    def test_encoding(self, frame, wire):
        assert encode_frame(frame).hex() == wire

    @pytest.mark.parametrize("size", [10**6, 1, 2, 7, 20])
    def test_in_pieces(self, frame, wire, size):
        data = bytes.fromhex(wire)
        decoder = FrameDecoder()
        found = [f for i in range(0, len(data), size) for f in decoder.feed(data[i : i + size])]
        assert [encode_frame(f).hex() for f in found] == [wire]
        assert (decoder.frames_ok, decoder.frames_bad) == (1, 0)

    def test_after_garbage_without_a_delimiter(self, frame, wire):
        decoder = FrameDecoder()
        (found,) = decoder.feed(b"\x55\xaa garbage" + bytes.fromhex(wire))
        assert same(found, frame)
        assert decoder.frames_bad == 1

    def test_bad_checksum_then_good(self, frame, wire):
        body = bytearray(cobs.decode(bytes.fromhex(wire)[1:-1]))
        body[-1] ^= 1
        decoder = FrameDecoder()
        (found,) = decoder.feed(cobs.encode(bytes(body)) + bytes.fromhex(wire))
        assert same(found, frame)
        assert (decoder.frames_ok, decoder.frames_bad) == (1, 1)

    def test_twice_joined(self, frame, wire):
        assert len(FrameDecoder().feed(bytes.fromhex(wire) * 2)) == 2

    def test_keyed_round_trip(self, frame, wire):
        (found,) = FrameDecoder(KEY).feed(encode_frame(frame, KEY))
        assert same(found, frame)


u32 = st.integers(0, 2**32 - 1)
floats32 = st.floats(width=32)
joints = st.integers(0, 12)


@st.composite
def frames(draw):
    n = draw(joints)

    def vector():
        return np.array(draw(st.lists(floats32, min_size=n, max_size=n)), dtype=np.float64)

    name = st.text("abcµ_ 0", max_size=20)
    message = draw(
        st.one_of(
            st.just(Identify()),
            st.builds(Identity, u32, u32, u32, u32, name, st.lists(name, max_size=8).map(tuple)),
            st.just(Poll()),
            st.builds(
                lambda r, t, s, f: State(r, t, s, f, vector(), vector(), vector()),
                u32,
                u32,
                st.sampled_from(RobotStatus),
                st.sampled_from(Refusal),
            ),
            st.builds(lambda t: Command(t, vector(), vector()), u32),
            st.just(Arm()),
            st.builds(Stop, st.sampled_from(StopMode)),
        )
    )
    return Frame(draw(u32), draw(u32), draw(st.integers(0, 2**64 - 1)), message)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(frames(), max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=20), st.booleans())
def test_round_trip_through_any_cuts(sent, cuts, keyed):
    key = KEY if keyed else None
    data = b"".join(encode_frame(frame, key) for frame in sent)
    decoder = FrameDecoder(key)
    found = []
    index = 0
    while data:
        size = cuts[index % len(cuts)]
        found += decoder.feed(data[:size])
        data, index = data[size:], index + 1
    assert [encode_frame(f, key) for f in found] == [encode_frame(f, key) for f in sent]
    assert decoder.frames_bad == 0


@given(st.binary(max_size=4000))
def test_garbage_never_raises_and_the_next_frame_comes_through(garbage):
    decoder = FrameDecoder()
    found = decoder.feed(garbage)
    assert found == []
    decoder.feed(b"\0")
    assert len(decoder.feed(encode_frame(Frame(1, 2, 3, Poll())))) == 1


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[position] ^= 1 << rng.randrange(8)
            case 1:
                changed[position] = rng.randrange(256)
            case 2:
                changed.insert(position, rng.randrange(256))
            case _ if len(changed) > 1:
                del changed[position]
    return bytes(changed)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_no_changed_frame_is_accepted(key):
    rng = random.Random(20)
    wires = [encode_frame(frame, key) for frame, _ in GOLDEN]
    originals = set(wires)
    for _ in range(50_000):
        for frame in FrameDecoder(key).feed(mutated(rng.choice(wires), rng)):
            assert encode_frame(frame, key) in originals


def test_oversize_is_dropped_in_constant_memory():
    decoder = FrameDecoder()
    for _ in range(100):
        assert decoder.feed(b"\x01" * 1000) == []
        assert len(decoder._rest) <= MAX_ENCODED_SIZE
    assert decoder.frames_bad == 1
    assert len(decoder.feed(encode_frame(Frame(1, 2, 3, Poll())))) == 1


class TestAuthentication:
    FRAME = Frame(1, 2, 3, Arm())

    @pytest.mark.parametrize("sender", [None, b"another key"])
    def test_without_the_key_nothing_is_accepted(self, sender):
        decoder = FrameDecoder(KEY)
        assert decoder.feed(encode_frame(self.FRAME, sender)) == []
        assert (decoder.frames_ok, decoder.frames_bad, decoder.frames_unauthenticated) == (0, 0, 1)

    def test_any_changed_content_is_refused(self):
        body = bytearray(cobs.decode(encode_frame(self.FRAME, KEY)[1:-1]))[:-4]
        for position in range(len(body)):
            forged = body.copy()
            forged[position] ^= 0x40
            whole = bytes(forged) + zlib.crc32(forged).to_bytes(4, "little")
            with pytest.raises(FrameError):
                decode_frame(cobs.encode(whole), KEY)

    def test_error_names_it(self):
        with pytest.raises(UnauthenticatedError):
            decode_frame(encode_frame(self.FRAME)[1:-1], KEY)


def body_with(kind: int, payload: bytes, version: int = 1) -> bytes:
    body = bytes([version, kind]) + bytes(16) + payload
    return cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (body_with(3, b"", version=9), "version: expected 1, found 9"),
        (body_with(99, b""), "unknown frame type 99"),
        (body_with(3, b"x"), "no payload"),
        (body_with(4, bytes(11)[:-1] + b"\x02"), "expected 3 times 2 values"),
        (body_with(5, b"\0\0\0\0\x03"), "expected 2 times 3 values"),
        (body_with(7, b"\x09"), "StopMode"),
        (body_with(7, b""), "wrong content"),
        (body_with(2, bytes(16) + b"\x02\x05ab"), "wrong content"),
    ],
)
def test_whole_frames_of_wrong_content(encoded, reason):
    with pytest.raises(FrameError, match=reason):
        decode_frame(encoded)


def test_vectors_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "native_protocol.md").read_text()
    vectors = [bytes.fromhex(row) for row in re.findall(r"`(00(?: [0-9a-f]{2}){10,})`", text)]
    decoded = [frame.message for wire in vectors for frame in FrameDecoder().feed(wire)]
    assert decoded == [Poll(), Arm(), Stop(StopMode.DAMP)]
