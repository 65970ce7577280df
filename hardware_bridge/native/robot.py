"""Driver of a robot that speaks the native frame protocol."""

import itertools
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.axes import as_command, axis_limits, axis_names, positions, velocities
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import LinkError, NotConnectedError, ProtocolError, StaleStateError
from wpg.hardware_bridge.links import Link, open_link, parse_link_url
from wpg.hardware_bridge.protocols.framing import next_sequence, steps_between
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
from wpg.hardware_bridge.robot import (
    STATUS_AFTER_STOP,
    JointCommand,
    RobotState,
    RobotStatus,
    StopMode,
    Vector,
)

IDENTIFY_PERIOD_S = 0.1
REQUEST_TIMEOUT_S = 0.1
REQUEST_ATTEMPTS = 5
READS_MAX = 64
"""At most this many reads per poll after its deadline, because some lines never fall silent."""
REMEMBERED = 4096
"""Number of frames whose sending time is kept: two seconds of polls and commands at 1 kHz."""
MEANINGS = {
    Refusal.NOT_FINITE: "it refused a command: not finite, or its joints measure nothing finite",
    Refusal.POSITION_LIMIT: "it refused a command: outside its position limits",
    Refusal.VELOCITY_LIMIT: "it refused a command: faster than its velocity limits",
    Refusal.WRONG_SIZE: "it refused a command: of another number of joints",
    Refusal.NOT_COMMANDER: "another client commands it",
}
"""What a user is told of a refusal; the others say no more than the robot's status does."""


class NativeRobot:
    """Driver of the native protocol over any link.

    A gripper is one more axis after the joints. A device without that axis can be driven, too; its states
    then report no gripper.

    Args:
        description: the robot that is expected to answer.
        link: URL, or a function that opens the link.
        key: shared secret; frames are tagged with it, and answers without its tag are dropped. A robot on
            another machine needs one.
        read_timeout_s: how long :meth:`read` waits; by default half a servo period.
        connect_timeout_s: how long :meth:`connect` waits for an answer; by default long enough for a board
            that restarts when its port is opened.

    Raises:
        LinkUrlError: the URL cannot be read.
        LinkError: it leads to another machine, and there is no key.
    """

    def __init__(
        self,
        description: RobotDescription,
        link: str | Callable[[], Link],
        *,
        key: bytes | None = None,
        read_timeout_s: float | None = None,
        connect_timeout_s: float = 4.0,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(link, str) and key is None and not parse_link_url(link).is_local:
            raise LinkError(
                f"link {link}: a robot on another machine needs a key on both ends, because anyone on the "
                "network could command it: make one by `wpg key FILE`, give it by --key FILE"
            )
        self._description = description
        self._open: Callable[[], Link] = partial(open_link, link) if isinstance(link, str) else link
        self._key = key
        self._read_timeout_s = read_timeout_s or description.servo_dt_s / 2
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or RealClock()
        self._link: Link | None = None
        self._forget()

        self.gives_up: Callable[[], bool] = lambda: False
        """Asked before the order to arm is repeated; if True, it is not."""

    def _forget(self) -> None:
        self._decoder = FrameDecoder(self._key)
        self._session = 0
        self._sequence = 0
        self._sent_s: deque[float] = deque(maxlen=REMEMBERED)
        self._tick = 0
        self._time_us = -1
        self._num_states = 0
        self._has_armed = False
        self._refusal = Refusal.NONE
        """Why the device did not follow the last command that came while it was armed."""
        self._set_axes(gripper=False)

    def _set_axes(self, *, gripper: bool) -> None:
        limits = axis_limits(self._description, gripper=gripper)
        self._low, self._high = float32_inside(limits.low, limits.high)
        self._slowest, self._fastest = float32_inside(-limits.velocity, limits.velocity)
        self._opening_m = 0.0 if gripper else None
        """Last commanded opening of the gripper, from arming on; None if the device has none."""

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    @property
    def frames_bad(self) -> int:
        """Frames received that were damaged."""
        return self._decoder.frames_bad

    def connect(self) -> None:
        """Open the link, and make sure that the expected robot answers.

        Raises:
            LinkError: the link cannot be opened, or nobody answers.
            ProtocolError: somebody else answers; names what was expected and found.
        """
        self.close()
        self._forget()
        self._link = self._open()
        try:
            identity = self._identify()
            self._check(identity)
        except BaseException:
            self.close()
            raise
        self._session = identity.session

    def arm(self) -> None:
        """Enable torque at the present position; follow commands from now on.

        Raises:
            ProtocolError: the robot refuses.
            StaleStateError: the robot does not answer, or :attr:`gives_up` before it does.
        """
        state = self._request(Arm())
        if state.status is not RobotStatus.ARMED:
            blind = ", and measures nothing finite" if state.refusal is Refusal.NOT_FINITE else ""
            raise ProtocolError(f"the robot does not arm: it reports {state.status.name}{blind}")
        if state.refusal is Refusal.NOT_COMMANDER:
            raise ProtocolError("the robot does not arm: another client commands it")
        if state.refusal is Refusal.NOT_FINITE:
            raise ProtocolError("the robot does not arm anew: it measures nothing finite")
        self._has_armed = True
        self._opening_m = self._as_robot_state(state).gripper_m

    def read(self) -> RobotState:
        """The state that answers this call's poll; if it is late, the newest state that came meanwhile.

        The age of a state counts from the poll that it answers, so that a permanently late line is noticed.

        Raises:
            StaleStateError: neither came within the read timeout.
            LinkError: the link is dead.
        """
        state = self._ask(Poll(), self._read_timeout_s)
        return self._as_robot_state(state, age_s=self._sent_s[-1] - self._sent_s[-1 - self._behind(state)])

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint.

        Returns:
            What was sent: clipped to the position and velocity limits, as float32. If the command says
            nothing of the gripper, its last command is sent again.

        Raises:
            LinkError: the link is dead.
        """
        if self._opening_m is None or command.gripper_m is None:
            command = replace(command, gripper_m=self._opening_m)
        position = _float32(np.clip(positions(command), self._low, self._high))
        velocity = _float32(np.clip(velocities(command), self._slowest, self._fastest))
        self._tick = next_sequence(self._tick)
        self._send(Command(self._tick, position, velocity))
        sent = as_command(position, velocity, self._description.num_joints)
        self._opening_m = sent.gripper_m
        return sent

    def stop(self, mode: StopMode) -> None:
        """Stop in this mode, confirmed by the state that comes back.

        Raises:
            ProtocolError: the robot answers, but has not stopped in this mode.
            StaleStateError: the robot does not answer.
            LinkError: the link is dead.
        """
        state = self._request(Stop(mode))
        if state.status is not STATUS_AFTER_STOP[mode]:
            raise ProtocolError(f"stop: expected {STATUS_AFTER_STOP[mode].name}, found {state.status.name}")

    def close(self) -> None:
        """Release the link."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _identify(self) -> Identity:
        self._session = secrets.randbits(32)
        deadline = self._clock.now() + self._connect_timeout_s
        num_bytes = 0
        while (now := self._clock.now()) < deadline:
            self._send(Identify())
            attempt_ends = min(now + IDENTIFY_PERIOD_S, deadline)
            while (remaining := attempt_ends - self._clock.now()) > 0:
                data = self._connected.receive(remaining)
                num_bytes += len(data)
                for frame in self._decoder.feed(data):
                    if isinstance(frame.message, Identity) and frame.session == self._session:
                        return frame.message
        if num_bytes == 0:
            raise LinkError(
                f"link {self._connected.url}: nobody answers native frames within "
                f"{self._connect_timeout_s:g} s; is the robot powered, and is this its port? "
                f"{self._about_key()}"
            )
        if foreign := self._decoder.frames_unauthenticated:
            raise ProtocolError(
                f"link {self._connected.url}: expected frames tagged with the given key, "
                f"found {foreign} without: the robot has another key, or none"
            )
        raise ProtocolError(
            f"link {self._connected.url}: expected native frames, found {num_bytes} bytes that are none; "
            "check protocol and baudrate"
        )

    def _about_key(self) -> str:
        """Hint for a robot that does not answer: one with a key is silent to clients without it."""
        if self._key is None:
            return "A robot with a key answers nobody without it: give it by --key FILE"
        return "A robot with another key does not answer either"

    def _check(self, identity: Identity) -> None:
        description, names = self._description, identity.joint_names
        grips = description.gripper is not None and len(names) > description.num_joints
        for what, expected, found in (
            ("robot", description.name, identity.robot),
            ("joints", ", ".join(axis_names(description, gripper=grips)), ", ".join(names)),
            ("servo rate", f"{description.servo_rate_hz:g} Hz", f"{identity.servo_rate_mhz / 1e3:g} Hz"),
        ):
            if expected != found:
                raise ProtocolError(f"link {self._connected.url}: {what}: expected {expected}, found {found}")
        if not 0 < identity.watchdog_us <= round(description.watchdog_s * 1e6):
            raise ProtocolError(
                f"link {self._connected.url}: watchdog: expected at most "
                f"{description.watchdog_s * 1e3:g} ms, found {identity.watchdog_us / 1e3:g} ms"
            )
        self._set_axes(gripper=grips)

    def _request(self, message: Message) -> State:
        """Send a message until it is answered."""
        for _ in range(REQUEST_ATTEMPTS):
            try:
                return self._ask(message, REQUEST_TIMEOUT_S, any_state=False)
            except StaleStateError:
                if isinstance(message, Arm) and self.gives_up():
                    raise
        raise StaleStateError(
            f"link {self._connected.url}: {type(message).__name__.lower()} not answered within "
            f"{REQUEST_ATTEMPTS * REQUEST_TIMEOUT_S:g} s"
        )

    def _ask(self, message: Message, timeout_s: float, *, any_state: bool = True) -> State:
        sequence = self._send(message)
        deadline = self._clock.now() + timeout_s
        newest: State | None = None
        for reads in itertools.count(1):
            data = self._connected.receive(max(0.0, deadline - self._clock.now()))
            for frame in self._decoder.feed(data):
                state = frame.message
                if isinstance(state, State) and self._is_dated(state) and self._is_newest(frame):
                    newest = state
            if newest is not None and newest.reply_to == sequence:
                return newest
            if (not data or reads >= READS_MAX) and self._clock.now() >= deadline:
                break
        if newest is not None and any_state:
            return newest
        raise StaleStateError(
            f"link {self._connected.url}: no state within {timeout_s * 1e3:g} ms of poll {sequence}"
        )

    def _behind(self, state: State) -> int:
        """Number of frames sent since the one that the state answers."""
        return steps_between(state.reply_to, self._sequence)

    def _is_dated(self, state: State) -> bool:
        return self._behind(state) < len(self._sent_s)

    def _is_newest(self, frame: Frame) -> bool:
        if frame.session != self._session or frame.time_us < self._time_us:
            return False
        if frame.time_us > self._time_us:
            self._time_us = frame.time_us
            self._num_states += 1
        return True

    def _as_robot_state(self, state: State, *, age_s: float = 0.0) -> RobotState:
        if len(state.joint_pos) != len(self._low):
            raise StaleStateError(f"state of {len(state.joint_pos)} axes, expected {len(self._low)}")
        joints = slice(self._description.num_joints)
        foreign = self._has_armed and state.refusal is Refusal.NOT_COMMANDER
        if foreign or state.status is RobotStatus.ARMED:
            # Kept once the device holds: what comes then is refused for that alone.
            self._refusal = state.refusal
        return RobotState(
            joint_pos=state.joint_pos[joints],
            joint_vel=state.joint_vel[joints],
            joint_torque=state.joint_torque[joints],
            gripper_m=None if self._opening_m is None else float(state.joint_pos[joints.stop]),
            time_s=self._time_us * 1e-6,
            sequence=self._num_states,
            # An arm that another client has armed meanwhile is no longer armed for this one.
            status=RobotStatus.IDLE if foreign and state.status is RobotStatus.ARMED else state.status,
            ordered=foreign or state.refusal is Refusal.STOPPED,
            fault=MEANINGS.get(self._refusal, ""),
            age_s=age_s,
        )

    def _send(self, message: Message) -> int:
        self._sequence = next_sequence(self._sequence)
        self._sent_s.append(self._clock.now())
        time_us = round(self._sent_s[-1] * 1e6)
        self._connected.send(encode_frame(Frame(self._session, self._sequence, time_us, message), self._key))
        return self._sequence

    @property
    def _connected(self) -> Link:
        if self._link is None:
            raise NotConnectedError
        return self._link


def float32_inside(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Limits rounded inwards to float32, so that rounding never leaves them; two (num_joints,)."""
    inner_low, inner_high = low.astype(np.float32), high.astype(np.float32)
    inner_low = np.where(inner_low < low, np.nextafter(inner_low, np.float32(np.inf)), inner_low)
    inner_high = np.where(inner_high > high, np.nextafter(inner_high, np.float32(-np.inf)), inner_high)
    return inner_low.astype(np.float64), inner_high.astype(np.float64)


def _float32(values: Vector) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)
