"""The native frame protocol, between the bridge and a microcontroller or the emulator.

``docs/native_protocol.md`` has the layout of its frames.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.protocols.framing import Envelope, FrameStream, read_payload, seal, unseal
from wpg.hardware_bridge.robot import RobotStatus, StopMode, Vector

_IDENTITY = struct.Struct("<IIIIB")
_STATE = struct.Struct("<IIBBB")
_COMMAND = struct.Struct("<IB")


class Refusal(IntEnum):
    """Why the device did not follow the last command."""

    NONE = 0
    NOT_ARMED = 1
    NOT_FINITE = 2
    POSITION_LIMIT = 3
    VELOCITY_LIMIT = 4
    NOT_COMMANDER = 5
    WRONG_SIZE = 6
    STOPPED = 7
    """It was ordered to stop and not armed since; reported even if no command has come."""


@dataclass(frozen=True, slots=True)
class Identify:
    """Ask which robot this is. The asker chooses the header's session, and the answer repeats it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which robot this is, and the session under which it takes further frames."""

    reply_to: int
    session: int
    watchdog_us: int
    servo_rate_mhz: int
    """Thousandths of a hertz."""
    robot: str
    joint_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask for a state."""


@dataclass(frozen=True, slots=True)
class State:
    """Answer to poll, arm and stop. Joint values travel as float32."""

    reply_to: int
    """Sequence number of the frame this answers."""
    tick: int
    """Number of the servo period of the last command that was followed."""
    status: RobotStatus
    refusal: Refusal
    """Why the last command was not followed; NONE if it was."""
    joint_pos: Vector
    joint_vel: Vector
    joint_torque: Vector


@dataclass(frozen=True, slots=True)
class Command:
    """A setpoint. It is not answered; the next state shows whether it was followed."""

    tick: int
    """Number of the servo period, so that speed can be checked whatever the link's jitter."""
    joint_pos: Vector
    joint_vel: Vector


@dataclass(frozen=True, slots=True)
class Arm:
    """Enable torque at the present position and follow this session's commands."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop in this mode."""

    mode: StopMode


Message: TypeAlias = Identify | Identity | Poll | State | Command | Arm | Stop
_TYPES: dict[type[Message], int] = {
    Identify: 1,
    Identity: 2,
    Poll: 3,
    State: 4,
    Command: 5,
    Arm: 6,
    Stop: 7,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """A message with its header."""

    session: int
    sequence: int
    """Counts the sender's frames within the session."""
    time_us: int
    """The sender's clock."""
    message: Message


def encode_frame(frame: Frame, key: bytes | None = None) -> bytes:
    """Bytes of a frame, delimiters included.

    Args:
        frame: what to send.
        key: shared secret; the frame is then tagged with keyed BLAKE2s.
    """
    message = frame.message
    return seal(
        Envelope(_TYPES[type(message)], frame.session, frame.sequence, frame.time_us, _payload(message)), key
    )


def decode_frame(encoded: bytes, key: bytes | None = None) -> Frame:
    """Frame from the bytes between two delimiters.

    Raises:
        FrameError: these bytes are no frame.
        UnauthenticatedError: a frame, but not from a holder of ``key``.
    """
    envelope = unseal(encoded, key)
    message = read_payload(_DECODERS, envelope)
    return Frame(envelope.session, envelope.sequence, envelope.time_us, message)


class FrameDecoder(FrameStream[Frame]):
    """Finds frames of this protocol in a stream.

    Args:
        key: shared secret; frames without its tag are dropped and counted.
    """

    def __init__(self, key: bytes | None = None) -> None:
        super().__init__(partial(decode_frame, key=key))


def _payload(message: Message) -> bytes:
    match message:
        case Command():
            head = _COMMAND.pack(message.tick, len(message.joint_pos))
            return head + _floats(message.joint_pos) + _floats(message.joint_vel)
        case State():
            count = len(message.joint_pos)
            head = _STATE.pack(message.reply_to, message.tick, message.status, message.refusal, count)
            values = (message.joint_pos, message.joint_vel, message.joint_torque)
            return head + b"".join(map(_floats, values))
        case Identity():
            names = (message.robot, *message.joint_names)
            head = _IDENTITY.pack(
                message.reply_to,
                message.session,
                message.watchdog_us,
                message.servo_rate_mhz,
                len(message.joint_names),
            )
            return head + b"".join(map(_string, names))
        case Stop():
            return bytes([message.mode])
    return b""


def _floats(values: Vector) -> bytes:
    return values.astype("<f4").tobytes()


def _string(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _decode_identity(payload: bytes) -> Identity:
    reply_to, session, watchdog_us, servo_rate_mhz, count = _IDENTITY.unpack_from(payload)
    names, start = [], _IDENTITY.size
    for _ in range(count + 1):
        end = start + 1 + payload[start]
        names.append(payload[start + 1 : end].decode())
        start = end
    if start != len(payload):
        raise ValueError(f"{len(payload)} bytes, names end at {start}")
    return Identity(reply_to, session, watchdog_us, servo_rate_mhz, names[0], tuple(names[1:]))


def _decode_state(payload: bytes) -> State:
    reply_to, tick, status, refusal, count = _STATE.unpack_from(payload)
    values = _split_floats(payload, _STATE.size, count, 3)
    return State(reply_to, tick, RobotStatus(status), Refusal(refusal), *values)


def _decode_command(payload: bytes) -> Command:
    tick, count = _COMMAND.unpack_from(payload)
    return Command(tick, *_split_floats(payload, _COMMAND.size, count, 2))


def _split_floats(payload: bytes, start: int, count: int, groups: int) -> NDArray[np.float64]:
    if len(payload) != start + 4 * groups * count:
        raise ValueError(f"expected {groups} times {count} values, found {len(payload) - start} bytes")
    return np.frombuffer(payload, "<f4", offset=start).astype(np.float64).reshape(groups, count)


def _empty(kind: Callable[[], Message]) -> Callable[[bytes], Message]:
    def decode(payload: bytes) -> Message:
        if payload:
            raise ValueError(f"expected no payload, found {len(payload)} bytes")
        return kind()

    return decode


def _decode_stop(payload: bytes) -> Stop:
    (mode,) = payload
    return Stop(StopMode(mode))


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    1: _empty(Identify),
    2: _decode_identity,
    3: _empty(Poll),
    4: _decode_state,
    5: _decode_command,
    6: _empty(Arm),
    7: _decode_stop,
}
