"""The device's side of the native protocol: sessions, who commands, what is answered."""

import math
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from wpg.hardware_bridge.axes import axis_names, in_row
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.protocols.framing import is_ahead, next_sequence
from wpg.hardware_bridge.protocols.native import (
    Arm,
    Command,
    Frame,
    FrameDecoder,
    Identify,
    Identity,
    Message,
    Poll,
    Refusal,
    State,
    Stop,
    encode_frame,
)
from wpg.hardware_bridge.robot import RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.witness import Witness

MAX_SESSIONS = 8


class NativeArm(Protocol):
    """The arm that a device commands: an emulated one, or a real one with an interface of its own."""

    witness: Witness

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, rates."""
        ...

    @property
    def status(self) -> RobotStatus:
        """Status of the arm."""
        ...

    @property
    def state(self) -> RobotState:
        """Last measurement."""
        ...

    @property
    def tick(self) -> int:
        """Number of the servo period of the last command that was followed."""
        ...

    @property
    def refusal(self) -> Refusal:
        """Why the last command was not followed."""
        ...

    def arm(self, now_s: float) -> None:
        """Enable torque at the present position."""
        ...

    def stop(self, mode: StopMode) -> None:
        """Stop in this mode."""
        ...

    def command(self, position: Vector, velocity: Vector, tick: int, now_s: float) -> None:
        """Follow a setpoint of every axis, or refuse it."""
        ...


class NativeDevice:
    """Turns received bytes into commands of an arm, and its states into bytes.

    A client identifies the robot and is given a session. Frames are numbered upwards within it; others are
    dropped, so that recorded frames cannot be played back. Only the session that armed the arm commands it,
    until the arm is no longer armed; any session may stop it.

    Args:
        arm: the arm that is commanded.
        key: shared secret; frames without its tag are dropped and counted.
    """

    protocol = "native"
    next_reply_s = math.inf

    def __init__(self, arm: NativeArm, key: bytes | None = None) -> None:
        self._arm = arm
        self._key = key
        self._decoder = FrameDecoder(key)
        self._sessions: OrderedDict[int, int] = OrderedDict()
        self._commander: int | None = None
        self._sequence = 0

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Answers to ``data``."""
        replies = [self._answer(frame, now_s) for frame in self._decoder.feed(data)]
        witness = self._arm.witness
        witness.frames_ok = self._decoder.frames_ok
        witness.frames_bad = self._decoder.frames_bad
        witness.frames_unauthenticated = self._decoder.frames_unauthenticated
        return b"".join(replies)

    def due(self, now_s: float) -> bytes:
        """Empty, because every answer leaves at once."""
        return b""

    def brown_out(self, now_s: float) -> None:
        """Sessions are forgotten and torque is lost."""
        self._sessions.clear()
        self._commander = None
        self._arm.stop(StopMode.RELEASE)

    @property
    def servos(self) -> Mapping[int, Any]:
        """Empty, because there is no bus."""
        return {}

    def _answer(self, frame: Frame, now_s: float) -> bytes:
        if isinstance(frame.message, Identify):
            return self._encode(frame.session, self._identity(frame.sequence))
        if not self._is_new(frame):
            self._arm.witness.frames_foreign += 1
            return b""
        match frame.message:
            case Command() as command:
                self._command(frame.session, command, now_s)
                return b""
            case Arm():
                self._arm_for(frame.session, now_s)
            case Stop(mode):
                self._arm.stop(mode)
            case Poll():
                pass
            case _:
                return b""
        return self._encode(frame.session, self._state(frame))

    def _is_new(self, frame: Frame) -> bool:
        last = self._sessions.get(frame.session)
        if last is None or not is_ahead(frame.sequence, last):
            return False
        self._sessions[frame.session] = frame.sequence
        return True

    def _identity(self, reply_to: int) -> Identity:
        session = secrets.randbits(32)
        self._sessions[session] = 0
        while len(self._sessions) > MAX_SESSIONS:
            oldest = next(known for known in self._sessions if known != self._commander)
            del self._sessions[oldest]
        description = self._arm.description
        return Identity(
            reply_to=reply_to,
            session=session,
            watchdog_us=round(description.watchdog_s * 1e6),
            servo_rate_mhz=round(description.servo_rate_hz * 1e3),
            robot=description.name,
            joint_names=axis_names(description, gripper=self._arm.state.gripper_m is not None),
        )

    def _command(self, session: int, command: Command, now_s: float) -> None:
        if session == self._commander:
            self._arm.command(command.joint_pos, command.joint_vel, command.tick, now_s)
        else:
            self._arm.witness.frames_foreign += 1

    def _arm_for(self, session: int, now_s: float) -> None:
        if self._arm.status is RobotStatus.ARMED and session != self._commander:
            self._arm.witness.frames_foreign += 1
            return
        self._commander = session
        self._arm.arm(now_s)

    def _state(self, request: Frame) -> State:
        state = self._arm.state
        commands = state.status is not RobotStatus.ARMED or request.session == self._commander
        unmeasured = None if state.gripper_m is None else 0.0
        return State(
            reply_to=request.sequence,
            tick=self._arm.tick,
            status=state.status,
            refusal=self._arm.refusal if commands else Refusal.NOT_COMMANDER,
            joint_pos=in_row(state.joint_pos, state.gripper_m),
            joint_vel=in_row(state.joint_vel, unmeasured),
            joint_torque=in_row(state.joint_torque, unmeasured),
        )

    def _encode(self, session: int, message: Message) -> bytes:
        self._sequence = next_sequence(self._sequence)
        time_us = round(self._arm.state.time_s * 1e6)
        return encode_frame(Frame(session, self._sequence, time_us, message), self._key)
