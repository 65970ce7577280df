"""Feeds damaged frames to every codec, and forged datagrams to the keyed device.

    python benchmarks/fuzz.py [--frames 1000000] [--datagrams 100000] [--out benchmarks/results/fuzz.jsonl]

Each frame is mutated (bytes changed, removed or inserted, ends cut off, two frames spliced), cut into pieces
anywhere and fed to a decoder. Nothing may raise. A frame that comes out but was not sent is a false
acceptance. A checksum of n bits lets 2**-n of random damage pass, which no decoder can prevent. If more is
accepted, that is a fault, and the exit code is 1.
"""

import json
import random
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cobs import cobs
from rows import machine, write

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.native.device import NativeDevice
from wpg.hardware_bridge.protocols.dynamixel import DynamixelProtocol
from wpg.hardware_bridge.protocols.feetech import FeetechProtocol
from wpg.hardware_bridge.protocols.native import (
    Arm,
    Command,
    Frame,
    FrameDecoder,
    Identify,
    Poll,
    Refusal,
    State,
    Stop,
    encode_frame,
)
from wpg.hardware_bridge.protocols.servo import Packet, ServoProtocol, Status
from wpg.hardware_bridge.robot import RobotStatus, StopMode

CHECK_BITS = {"native": 32, "feetech": 8, "dynamixel": 16}
SIGMAS = 4.0
FAST_SIZE = 15
"""Bytes of data of each servo in the answer to a fast sync read."""


def mutated(frame: bytes, other: bytes, draw: random.Random) -> bytes:
    """One frame, damaged."""
    kind, at = draw.randrange(6), draw.randrange(len(frame))
    match kind:
        case 0:
            return frame[:at] + bytes((frame[at] ^ draw.randrange(1, 256),)) + frame[at + 1 :]
        case 1:
            count = draw.randrange(2, 6)
            return frame[:at] + draw.randbytes(count) + frame[at + count :]
        case 2:
            return frame[:at] + frame[at + draw.randrange(1, 5) :]
        case 3:
            return frame[:at] + draw.randbytes(draw.randrange(1, 5)) + frame[at:]
        case 4:
            return frame[: at + 1] + other[draw.randrange(len(other)) :]
        case _:
            return frame[:at]


def servo_frames(protocol: ServoProtocol, draw: random.Random) -> list[Packet]:
    """Packets of every kind that crosses a bus."""
    packets = [
        protocol.read(1, 56, 6),
        protocol.write(2, 42, b"\0\x08"),
        protocol.sync_read((1, 2, 3), 56, 6),
    ]
    packets += [
        protocol.sync_write(42, {servo: draw.randbytes(2) for servo in range(1, 7)}) for _ in range(8)
    ]
    packets += [protocol.status(Status(servo, 0, draw.randbytes(6))) for servo in range(1, 7)]
    return packets


def native_frames(draw: random.Random) -> list[Frame]:
    """Frames of every kind."""
    values = np.array([draw.uniform(-3, 3) for _ in range(7)])
    state = State(7, 12, RobotStatus.ARMED, Refusal.NONE, values, values, values)
    messages = [Identify(), Poll(), Arm(), Stop(StopMode.HOLD), Command(12, values, values), state]
    return [Frame(draw.getrandbits(32), number, 1000 * number, m) for number, m in enumerate(messages)]


def fuzz(
    originals: list[bytes], decode: Callable[[bytes], list[Any]], known: set[Any], count: int, seed: int
) -> dict[str, int]:
    """Feed ``count`` damaged frames; how many came out that were never sent."""
    draw = random.Random(seed)
    found = {"frames": count, "crashes": 0, "came_out": 0, "false": 0}
    for _ in range(count):
        data = mutated(draw.choice(originals), draw.choice(originals), draw)
        while data:
            cut = draw.randrange(1, len(data) + 1) if draw.random() < 0.5 else len(data)
            piece, data = data[:cut], data[cut:]
            try:
                out = decode(piece)
            except Exception as error:
                found["crashes"] += 1
                print(f"{type(error).__name__}: {error}: {piece.hex()}", file=sys.stderr)
                continue
            found["came_out"] += len(out)
            found["false"] += sum(item not in known for item in out)
    return found


def fuzz_codec(name: str, count: int, seed: int) -> dict[str, Any]:
    """One codec's row."""
    draw = random.Random(seed)
    began_s = time.monotonic()
    if name == "native":
        frames = native_frames(draw)
        originals = [encode_frame(frame) for frame in frames]
        decoder = FrameDecoder()
        known = {repr(frame) for data in originals for frame in FrameDecoder().feed(data)}
        found = fuzz(originals, lambda data: list(map(repr, decoder.feed(data))), known, count, seed)
        looked = decoder.frames_bad + decoder.frames_ok
    else:
        protocol: ServoProtocol = FeetechProtocol() if name == "feetech" else DynamixelProtocol()
        packets = servo_frames(protocol, draw)
        originals = [protocol.encode(packet) for packet in packets]
        bus = protocol.decoder()
        if isinstance(protocol, DynamixelProtocol):
            # The one packet that answers a fast sync read, which comes out as many.
            statuses = [Status(servo, 0, draw.randbytes(FAST_SIZE)) for servo in range(1, 7)]
            originals.append(protocol.encode_fast(statuses))
            packets += map(protocol.status, statuses)
            bus.expect(FAST_SIZE)
        found = fuzz(originals, bus.feed, set(packets), count, seed)
        looked = bus.packets_bad + bus.packets_ok
    # Every look at a checksum is a chance: damaged frames make the decoder look more than once.
    expected = (looked - found["came_out"] + found["false"]) * 2.0 ** -CHECK_BITS[name]
    return {
        "what": name,
        **found,
        "checksums_looked_at": looked,
        "false_expected": round(expected, 2),
        "false_allowed": round(expected + SIGMAS * expected**0.5, 1),
        "seconds": round(time.monotonic() - began_s, 1),
    }


def forge(count: int, seed: int) -> dict[str, Any]:
    """Datagrams from somebody without the key, against a device that has one and an arm that is commanded."""
    draw, key, began_s = random.Random(seed), bytes(range(32)), time.monotonic()
    panda = load_description("panda")
    arm = EmulatedArm(KinematicRobot(panda), 0.0)
    device = NativeDevice(arm, key)
    home = panda.limits("home_rad")
    session = _open_session(device, key)
    recorded = [encode_frame(Frame(session, number, 0, m), key) for number, m in _honest(home, 200)]
    for datagram in recorded:
        device.feed(datagram, 0.0)
    accepted = 0
    kinds = {"replayed": 0, "unauthenticated": 0, "other key": 0, "tag changed": 0, "from another session": 0}
    witness = arm.witness
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        before = (witness.commands_ok, witness.arms, dict(witness.stops), arm.state.status)
        device.feed(_forged(kind, recorded, session=session, home=home, key=key, draw=draw), 0.0)
        if before != (witness.commands_ok, witness.arms, dict(witness.stops), arm.state.status):
            kinds[kind] += 1
            accepted += 1
    return {
        "what": "forged datagrams",
        "datagrams": count,
        "accepted": accepted,
        "accepted_by_kind": kinds,
        "counted_unauthenticated": witness.frames_unauthenticated,
        "counted_foreign": witness.frames_foreign,
        "counted_bad": witness.frames_bad,
        "seconds": round(time.monotonic() - began_s, 1),
    }


def _open_session(device: NativeDevice, key: bytes) -> int:
    answer = device.feed(encode_frame(Frame(1, 0, 0, Identify()), key), 0.0)
    (frame,) = FrameDecoder(key).feed(answer)
    return int(frame.message.session)  # type: ignore[union-attr]


def _honest(home: Any, count: int) -> list[tuple[int, Any]]:
    rest = np.zeros_like(home)
    messages = [Arm(), *(Command(tick, home, rest) for tick in range(1, count)), Stop(StopMode.HOLD), Arm()]
    return list(enumerate(messages, start=1))


def _forged(
    kind: str, recorded: list[bytes], *, session: int, home: Any, key: bytes, draw: random.Random
) -> bytes:
    messages = [Command(draw.getrandbits(31), home, home), Stop(StopMode.RELEASE), Arm()]
    frame = Frame(session, draw.getrandbits(31), 0, draw.choice(messages))
    match kind:
        case "replayed":
            return draw.choice(recorded)
        case "unauthenticated":
            return encode_frame(frame)
        case "other key":
            return encode_frame(frame, draw.randbytes(32))
        case "tag changed":
            # Behind the COBS overhead, the last 20 bytes are tag and CRC; the CRC is made anew.
            return _with_another_tag(frame, draw)
        case _:
            return encode_frame(Frame(draw.getrandbits(32) ^ session, frame.sequence, 0, frame.message), key)


def _with_another_tag(frame: Frame, draw: random.Random) -> bytes:
    body = cobs.decode(encode_frame(frame, draw.randbytes(32)).strip(b"\0"))[:-4]
    body = body[:-16] + draw.randbytes(16)
    return b"\0" + cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"


def main(
    *,
    frames: int = 1_000_000,
    datagrams: int = 100_000,
    seed: int = 0,
    out: Path | None = None,
) -> int:
    """Fuzz everything, print it, and say whether it held."""
    rows = [fuzz_codec(name, frames, seed) for name in CHECK_BITS]
    rows.append(forge(datagrams, seed))
    for row in rows:
        print(json.dumps(row), flush=True)
    if out is not None:
        write(out, (row | machine() | {"seed": seed} for row in rows))
    held = all(not row.get("crashes") and not row.get("accepted") for row in rows)
    held &= all(row["false"] <= row["false_allowed"] for row in rows if "false" in row)
    print("held" if held else "NOT held")
    return int(not held)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
