"""Driver of an arm whose joints are servos on one bus; what the two protocols share."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from wpg.hardware_bridge.axes import GRIPPER
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError, NotConnectedError, ProtocolError, StaleStateError
from wpg.hardware_bridge.links import Link, open_link
from wpg.hardware_bridge.protocols.servo import ServoProtocol, Status
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.servos.bus import ATTEMPTS, ServoBus
from wpg.hardware_bridge.servos.calibration import ServoCalibration, Span, default_calibration, narrowed
from wpg.hardware_bridge.servos.checks import check_register, check_servos
from wpg.hardware_bridge.servos.limits import ServoLimits
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT, servo_bus
from wpg.hardware_bridge.servos.readings import Measurement, ServoReadings

AGREEING_COUNTS = 16
"""Two reads of a servo's position, a few milliseconds apart, differ by no more."""
HOLD_RAD = 0.1
"""An arm that stands further than this from its last goal holds where it stands instead."""


@dataclass(frozen=True, kw_only=True)
class ServoRobotConfig:
    """How patient a driver is with its servos."""

    missing_max: int = 1
    """More servos than this without an answer make a state stale."""
    patience: int = 3
    """So does one that has missed more often than this in a row."""
    margin_s: float = 0.003
    """What adapter and operating system may add to the wire's time."""
    fast_read: bool = True
    """Read Dynamixel servos by one packet from all."""


class ServoRobot(ABC):
    """An arm on a servo bus.

    One servo that misses its answer does not stop the arm: its last value stands in, but only ``patience``
    times in a row. So does one that reports a position that it cannot have come to. Servos that missed are
    asked last, so that they hold nobody up.

    Positions travel as counts, 1.5 mrad each: :meth:`write` returns what it sent before rounding, clipped to
    the counts inside the limits. The feed-forward velocity is not sent. A gripper whose servo the description
    tells how to move is read and commanded in the same transactions.

    Args:
        description: the arm; its ``[bus]`` table names the servos. Its position limits are narrowed to those
            of the calibration, and by :meth:`connect` to those of the servos.
        link: URL, or what opens the link.
        config: how patient to be.
        calibration: which count is which angle; by default the middle of the turn is zero.
    """

    protocol: ServoProtocol

    def __init__(
        self,
        description: RobotDescription,
        link: str | Callable[[], Link],
        config: ServoRobotConfig | None = None,
        *,
        calibration: ServoCalibration | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._described = description
        self._open: Callable[[], Link] = partial(open_link, link) if isinstance(link, str) else link
        self._config = config or ServoRobotConfig()
        self._servo_bus, self._model = servo_bus(description, self.protocol.name)
        self._calibration = calibration or default_calibration(description)
        spans = self._calibration.spans(description)
        self._spans = dict(zip(self._servo_bus.servos, spans, strict=True))
        sign, share_nm = self._calibration.sign, description.limits("torque_max_nm") / 1000
        self._velocity_unit = sign * self._model.velocity_unit_rad_s
        self._effort_unit = sign * (self._model.effort_unit_nm or share_nm)
        self._clock = clock or RealClock(spin_s=0.0)
        self._joints = self._servo_bus.servos
        self._gripper = self._calibration.gripper
        self._servos = (*self._joints, *self._servo_bus.others.values())
        self._names = dict(
            zip(self._servos, (*description.joint_names, *self._servo_bus.others), strict=True)
        )
        self._bus: ServoBus | None = None
        self._forget()

    def _forget(self) -> None:
        self._limits: ServoLimits | None = None
        self._narrow(self._spans)
        moved, speed_rad_s = self._joints, self._description.limits("velocity_max_rad_s")
        if self._gripper is not None and self._description.gripper is not None:
            moved = (*moved, self._servo_bus.others[GRIPPER])
            turn_rad_s = self._description.gripper.speed_max_m_s * self._gripper.counts_per_m * RAD_PER_COUNT
            speed_rad_s = np.append(speed_rad_s, turn_rad_s)
        self._readings = ServoReadings(
            {servo: self._names[servo] for servo in moved},
            speed_rad_s,
            missing_max=self._config.missing_max,
            patience=self._config.patience,
        )
        self._goal: Vector | None = None
        self._opening_m: float | None = None
        """Where the gripper was sent last."""
        self._sequence = 0
        self._status = RobotStatus.IDLE
        self.fault = ""
        """What the servos complain of; empty when nothing is."""

    def _narrow(self, spans: Mapping[int, Span]) -> None:
        """Describe the arm with limits that :meth:`write` sends unclipped."""
        self._low, self._high = self._calibration.ends_rad(tuple(spans.values()))
        self._description = narrowed(self._described, self._low, self._high)

    @property
    def misses(self) -> dict[str, int]:
        """How often each servo that moves did not answer, or not plausibly."""
        return self._readings.misses

    @property
    def description(self) -> RobotDescription:
        """Joints, limits that calibration and servos let pass, home, rates."""
        return self._description

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Servos cannot damp."""
        return frozenset({StopMode.HOLD, StopMode.RELEASE})

    @property
    def notices(self) -> tuple[str, ...]:
        """Where servos do not keep their joints' limits by themselves, or narrower ones."""
        return () if self._limits is None else self._limits.notices

    @property
    def frames_bad(self) -> int:
        """Packets received that were damaged."""
        return self._connected.decoder.packets_bad

    def connect(self) -> None:
        """Open the link, and make sure that the expected servos answer. Enables no torque.

        Raises:
            LinkError: the link cannot be opened, or no servo answers.
            StaleStateError: some servos do not answer; names them.
            ProtocolError: other servos, in another mode, or calibrated otherwise.
        """
        self.close()
        self._forget()
        self._bus = ServoBus(
            self._open(),
            self.protocol,
            baudrate=self._servo_bus.baudrate,
            margin_s=self._config.margin_s,
            clock=self._clock,
        )
        try:
            check_servos(self._bus, self._names, self._model, self._calibration, self._spans)
            delays = self._bus.registers(self._servos, self._model.return_delay)
            self._bus.return_delay_s = max(delays.values()) * 2e-6
            self._limits = ServoLimits(self._bus, self._model, self._description, self._spans)
            self._narrow(self._limits.allowed)
            self._configure()
        except BaseException:
            self.close()
            raise

    def arm(self) -> None:
        """Enable torque of every servo where it stands, read back that it is, and follow commands.

        From then on the servos keep the joints' limits by themselves, as far as they can be told to. Where
        arming fails, servos that were found without torque are left without.

        Raises:
            ProtocolError: a joint stands, or has its home, outside its limits, a servo refuses, or its torque
                is not on then.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
            BridgeError: one of these, and torque may be on.
        """
        self._check_home()
        self._before_torque()
        self._own_limits.tell()
        found = self._connected.registers(self._servos, self._model.torque_enable)
        limp = [servo for servo, torque in found.items() if not torque]
        try:
            self._hold_here()
            self._after_torque()
        except BaseException as error:
            try:
                self._disable_torque(limp)
            except BridgeError:
                if isinstance(error, BridgeError):
                    # No ProtocolError: that says that torque is not on by our doing.
                    raise BridgeError(f"{error}; torque may be on: cut the power") from error
            raise
        self._goal = self._opening_m = None
        self._status = RobotStatus.ARMED

    def read(self) -> RobotState:
        """Fresh positions, velocities and efforts of all servos that answer, in one transaction.

        Raises:
            StaleStateError: too many servos do not answer, or one for too long; names them.
            LinkError: the link is dead.
        """
        asked_s = self._clock.now()
        complaints = []
        # Each answer is dealt with while the next one is on the wire.
        for answer in self._ask(self._readings.order):
            if answer.error and (complaint := self._complaint(answer)):
                complaints.append(f"servo {answer.servo} ({self._names[answer.servo]}): {complaint}")
            self._readings.take(answer.servo, self._measurement(answer.data), asked_s)
        self.fault = "; ".join(complaints)
        self._readings.finish()
        self._sequence += 1
        return self._state(asked_s)

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint.

        Returns:
            What was sent, before rounding to counts: clipped to the limits, without velocity.

        Raises:
            LinkError: the link is dead.
        """
        joint_pos = np.minimum(np.maximum(command.joint_pos, self._low), self._high)
        self._goal = joint_pos
        opening_m = None if self._gripper is None else command.gripper_m
        if opening_m is not None and self._description.gripper is not None:
            opening_m = min(max(opening_m, 0.0), self._description.gripper.opening_max_m)
            self._opening_m = opening_m
        self._send_counts(self._counts(joint_pos, opening_m))
        return JointCommand(joint_pos=joint_pos, joint_vel=np.zeros_like(joint_pos), gripper_m=opening_m)

    def stop(self, mode: StopMode) -> None:
        """Hold or release, and make sure of it by reading the servos back.

        Raises:
            ProtocolError: the servos have not stopped in this mode; they cannot damp.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        match mode:
            case StopMode.HOLD:
                self._before_torque()
                self._hold_here()
                self._status = RobotStatus.HOLDING
            case StopMode.RELEASE:
                self._disable_torque(self._servos)
                self._status = RobotStatus.RELEASED
            case StopMode.DAMP:
                raise ProtocolError(
                    f"stop: {self._servo_bus.model} servos cannot damp; expected hold or release"
                )

    def keep_limits(self) -> list[str]:
        """Write the joints' limits into servos that cannot be told otherwise, by :meth:`ServoLimits.keep`."""
        return self._own_limits.keep()

    def close(self) -> None:
        """Release the link. The servos stay as they are; their own position limits are theirs again."""
        if self._bus is not None:
            if self._limits is not None:
                with contextlib.suppress(BridgeError):
                    self._limits.put_back()
            self._bus.close()
            self._bus = None

    @abstractmethod
    def _ask(self, servos: tuple[int, ...]) -> Iterator[Status]:
        """Measurements of the servos that answer, as they come.

        Notices servos that no longer do what :attr:`_status` says.
        """

    @abstractmethod
    def _measurement(self, data: bytes) -> Measurement:
        """What one servo measured."""

    @abstractmethod
    def _complaint(self, status: Status) -> str:
        """What is wrong with a servo; empty when nothing is."""

    def _configure(self) -> None:  # noqa: B027
        """Bring the servos into the state that the driver expects; torque may be on."""

    def _before_torque(self) -> None:  # noqa: B027
        """Whatever must be set before torque is enabled."""

    def _after_torque(self) -> None:  # noqa: B027
        """Whatever must be set once an arm that is being armed has torque."""

    def _check_home(self) -> None:
        """An arm that cannot get home would head for it without end; its home may be off by a count."""
        home = self._described.limits("home_rad")
        for index in np.flatnonzero(np.abs(home - self._description.limits("home_rad")) > RAD_PER_COUNT):
            raise ProtocolError(
                f"joint {self._description.joint_names[index]}: home_rad {home[index]:g} lies outside "
                f"{self._low[index]:.4f} to {self._high[index]:.4f} rad, all that its calibration and its "
                "servo's limits let pass: calibrate it over a wider range, or describe another home"
            )

    def _state(self, time_s: float) -> RobotState:
        counts, velocity, effort = self._readings.last[: self._description.num_joints].T
        opened = self._readings.last[-1, 0]
        return RobotState(
            joint_pos=self._calibration.to_rad(counts),
            joint_vel=velocity * self._velocity_unit,
            joint_torque=effort * self._effort_unit,
            time_s=time_s,
            sequence=self._sequence,
            gripper_m=None if self._gripper is None else self._gripper.to_m(opened),
            status=RobotStatus.FAULT if self.fault else self._status,
            fault=self.fault,
        )

    def _hold_here(self) -> None:
        """Torque on with goals where the arm stands; read back that both are so.

        An armed gripper keeps its goal, however far off it stands: it may be holding something.
        """
        present = self._stance()
        goals = dict(present)
        if self._goal is not None and self._status is RobotStatus.ARMED:
            stands = self._calibration.to_rad(np.array([present[servo] for servo in self._joints], float))
            near = np.abs(stands - self._goal).max() < HOLD_RAD
            goals |= self._counts(self._goal if near else stands, self._opening_m)
        goals = self._own_limits.clip(goals)
        # Before torque, so that nothing jumps; after it too, since enabling sets some servos' goals.
        self._send_counts(goals)
        self._enable_torque()
        for _ in range(ATTEMPTS):
            self._send_counts(goals)
            if self._connected.registers(self._servos, self._model.goal_position) == goals:
                return
        raise ProtocolError("hold: the servos do not take the goals that they were given")

    def _stance(self) -> dict[int, int]:
        """Position of every servo, on which two reads agree: one may be damaged, and still add up."""
        before: dict[int, int] = {}
        for _ in range(ATTEMPTS):
            present = self._connected.registers(self._servos, self._model.present_position)
            if before and all(abs(present[it] - before[it]) <= AGREEING_COUNTS for it in present):
                return present
            before = present
        raise ProtocolError("hold: no two reads agree on where the servos stand; does somebody move the arm?")

    def _counts(self, joint_pos: Vector, opening_m: float | None) -> dict[int, int]:
        """Goals of the joints' servos, and of the gripper's where it is to have one."""
        counts = np.rint(self._calibration.to_counts(joint_pos)).astype(int).tolist()
        goals = dict(zip(self._joints, counts, strict=True))
        if self._gripper is not None and opening_m is not None:
            goals[self._servo_bus.others[GRIPPER]] = self._gripper.to_counts(opening_m)
        return goals

    def _send_counts(self, goals: dict[int, int]) -> None:
        register = self._model.goal_position
        self._connected.sync_write(
            register.address, {servo: register.encode(goal) for servo, goal in goals.items()}
        )

    def _enable_torque(self) -> None:
        """One by one, each acknowledged; a servo that has lost it again by then is not told twice."""
        register = self._model.torque_enable
        for servo in self._servos:
            self._connected.write(servo, register, 1)
        check_register(self._connected, self._names, register, "torque", (1,))

    def _disable_torque(self, servos: Sequence[int]) -> None:
        """All at once, so that one that does not answer keeps no other from it; until it is seen."""
        register = self._model.torque_enable
        names = {servo: self._names[servo] for servo in servos}
        for left in reversed(range(ATTEMPTS if servos else 0)):
            self._connected.sync_write(register.address, dict.fromkeys(servos, register.encode(0)))
            try:
                return check_register(self._connected, names, register, "torque", (0,))
            except (ProtocolError, StaleStateError):
                if not left:
                    raise

    @property
    def _connected(self) -> ServoBus:
        if self._bus is None:
            raise NotConnectedError
        return self._bus

    @property
    def _own_limits(self) -> ServoLimits:
        if self._limits is None:
            raise NotConnectedError
        return self._limits
