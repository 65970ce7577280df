"""Driver of an arm whose joints are servos on one bus; base of the drivers of both protocols."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from wpg.hardware_bridge.axes import GRIPPER
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError, NotConnectedError, ProtocolError
from wpg.hardware_bridge.links import Link, open_link, parse_link_url
from wpg.hardware_bridge.protocols.servo import ServoProtocol, Status
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.servos.bus import ServoBus
from wpg.hardware_bridge.servos.calibration import ServoCalibration, Span, default_calibration, narrowed
from wpg.hardware_bridge.servos.checks import check_servos
from wpg.hardware_bridge.servos.holder import ServoHolder
from wpg.hardware_bridge.servos.limits import ServoLimits
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT, servo_bus
from wpg.hardware_bridge.servos.readings import Measurement, ServoReadings

HOLD_COUNTS = 65
"""An arm that is this far (0.1 rad) from its last goal holds where it stands, not at the goal."""


@dataclass(frozen=True, kw_only=True)
class ServoRobotConfig:
    """How many missing answers a driver accepts, and how it reads."""

    missing_max: int = 1
    """A state is stale if more servos than this have not answered."""
    patience: int = 3
    """A state is stale, too, if a servo has missed more often than this in a row."""
    margin_s: float = 0.003
    """Time that adapter and operating system may add to that of the wire."""
    fast_read: bool = True
    """Read Dynamixel servos by fast sync reads, which all servos answer in one packet."""


class ServoRobot(ABC):
    """An arm on a servo bus.

    A servo that does not answer does not stop the arm: its last value stands in, at most ``patience`` times
    in a row. A servo that reports an implausible position is treated in the same way. Servos that missed are
    asked last, so that they delay no other.

    Positions travel as counts of 1.5 mrad. :meth:`write` returns what it sent before rounding, clipped to the
    counts inside the limits. The feed-forward velocity is not sent. If the description tells how to move the
    gripper's servo, it is read and commanded in the same transactions.

    Args:
        description: the arm; its ``[bus]`` table names the servos. Its position limits are narrowed to those
            of the calibration, and by :meth:`connect` to those of the servos.
        link: URL, or a function that opens the link.
        config: how many missing answers to accept.
        calibration: maps counts to angles; by default the middle of the turn is zero.
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
        self._config = config or ServoRobotConfig()
        self._servo_bus, self._model = servo_bus(description, self.protocol.name)
        rate = self._servo_bus.baudrate
        self._open: Callable[[], Link] = (
            partial(open_link, link, baudrate=rate) if isinstance(link, str) else link
        )
        self._on_network = isinstance(link, str) and not parse_link_url(link).is_local
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
        self._holder: ServoHolder | None = None
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
        """Last commanded opening of the gripper."""
        self._held: dict[int, int] = {}
        """Goals at which the servos were last ordered to hold; empty once they do something else."""
        self._sequence = 0
        self._status = RobotStatus.IDLE
        self.fault = ""
        """What the servos complain of; empty when nothing is."""

    def _narrow(self, spans: Mapping[int, Span]) -> None:
        """Narrow the described limits to those that :meth:`write` sends unclipped."""
        self._low, self._high = self._calibration.ends_rad(tuple(spans.values()))
        self._description = narrowed(self._described, self._low, self._high)

    @property
    def misses(self) -> dict[str, int]:
        """How often each servo that moves gave no answer or an implausible one."""
        return self._readings.misses

    @property
    def description(self) -> RobotDescription:
        """Joints, limits that calibration and servos allow, home, rates."""
        return self._description

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Hold and release, because servos cannot damp."""
        return frozenset({StopMode.HOLD, StopMode.RELEASE})

    @property
    def notices(self) -> tuple[str, ...]:
        """Says if the bus is open to a network, and which servos do not keep their joints' limits exactly."""
        open_bus = "anyone on the network can command the servos, because their protocol has no key"
        exposed = (open_bus,) if self._on_network else ()
        return exposed if self._limits is None else (*exposed, *self._limits.notices)

    @property
    def frames_bad(self) -> int:
        """Number of damaged packets received."""
        return self._connected.decoder.packets_bad

    def connect(self) -> None:
        """Open the link, and check that the expected servos answer. Enables no torque.

        Raises:
            LinkError: the link cannot be opened, or no servo answers.
            LinkUrlError: the link gives another baudrate than the description.
            StaleStateError: some servos do not answer; names them.
            ProtocolError: the servos are others, in another mode, or calibrated differently.
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
            self._limits = ServoLimits(
                self._bus, self._model, self._description, self._spans, self._gripper_span()
            )
            self._holder = ServoHolder(self._bus, self._model, self._names)
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
        if limp:
            self._held = {}
        try:
            self._own_holder.hold(self._held_at(self._own_holder.stance()))
            self._after_torque()
        except BaseException as error:
            try:
                self._own_holder.release(limp)
            except BridgeError:
                if isinstance(error, BridgeError):
                    # No ProtocolError: that says that torque is not on by our doing.
                    raise BridgeError(f"{error}; torque may be on: cut the power") from error
            raise
        self._goal = self._opening_m = None
        self._held = {}
        self._status = RobotStatus.ARMED

    def read(self) -> RobotState:
        """Fresh positions, velocities and efforts of all servos that answer, in one transaction.

        Raises:
            StaleStateError: too many servos do not answer, or one for too long; names them.
            LinkError: the link is dead.
        """
        asked_s = self._clock.now()
        complaints = []
        # Each answer is processed while the next one is on the wire.
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
        self._own_holder.send(self._counts(joint_pos, opening_m))
        return JointCommand(joint_pos=joint_pos, joint_vel=np.zeros_like(joint_pos), gripper_m=opening_m)

    def stop(self, mode: StopMode) -> None:
        """Hold or release, confirmed by reading the servos back.

        Raises:
            ProtocolError: the servos have not stopped in this mode; they cannot damp.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        match mode:
            case StopMode.HOLD:
                # First for those that answer at once: what follows ends at the first that does not.
                self._own_holder.send(self._held_at(self._own_holder.quick_stance()))
                self._before_torque()
                goals = self._held_at(self._own_holder.stance())
                self._own_holder.hold(goals)
                self._held = goals
                self._status = RobotStatus.HOLDING
            case StopMode.RELEASE:
                self._own_holder.release(self._servos)
                self._held = {}
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
        """Yield the measurements of the servos that answer, as they come.

        Updates :attr:`_status` if servos no longer do what it says.
        """

    @abstractmethod
    def _measurement(self, data: bytes) -> Measurement:
        """Decode one servo's measurement."""

    @abstractmethod
    def _complaint(self, status: Status) -> str:
        """What is wrong with a servo; empty if nothing is."""

    def _configure(self) -> None:  # noqa: B027
        """Set the servos up as the driver expects; torque may be on."""

    def _before_torque(self) -> None:  # noqa: B027
        """Set what must be set before torque is enabled."""

    def _after_torque(self) -> None:  # noqa: B027
        """Set what must be set after an arm that is being armed has got torque."""

    def _check_home(self) -> None:
        """Refuse an arm that cannot get home, because homing would never end; one count is tolerated."""
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

    def _held_at(self, present: Mapping[int, int]) -> dict[int, int]:
        """Goals at which the servos in ``present`` hold: where they stand, but for two cases.

        Joints that are near the goals that they follow or hold keep these, so that the arm does not sag. A
        gripper keeps its goal however far off it stands: it may be holding something.
        """
        kept = dict(self._held)
        if self._status is RobotStatus.ARMED and self._goal is not None:
            kept = self._counts(self._goal, self._opening_m)
        joints = [servo for servo in self._joints if servo in present]
        far = any(abs(present[servo] - kept.get(servo, present[servo])) >= HOLD_COUNTS for servo in joints)
        dropped = joints if far else ()
        goals = {
            servo: position if servo in dropped else kept.get(servo, position)
            for servo, position in present.items()
        }
        return self._own_limits.clip(goals)

    def _gripper_span(self) -> dict[int, Span]:
        """Counts between which the gripper's servo is moved; empty where none is."""
        if self._gripper is None:
            return {}
        ends = sorted(round(count) for count in self._gripper.counts[[0, -1]].tolist())
        return {self._servo_bus.others[GRIPPER]: Span(*ends)}

    def _counts(self, joint_pos: Vector, opening_m: float | None) -> dict[int, int]:
        """Goals of the joints' servos, and of the gripper's where it is to have one."""
        counts = np.rint(self._calibration.to_counts(joint_pos)).astype(int).tolist()
        goals = dict(zip(self._joints, counts, strict=True))
        if self._gripper is not None and opening_m is not None:
            goals[self._servo_bus.others[GRIPPER]] = self._gripper.to_counts(opening_m)
        return self._own_limits.clip(goals)

    @property
    def _connected(self) -> ServoBus:
        if self._bus is None:
            raise NotConnectedError
        return self._bus

    @property
    def _own_holder(self) -> ServoHolder:
        if self._holder is None:
            raise NotConnectedError
        return self._holder

    @property
    def _own_limits(self) -> ServoLimits:
        if self._limits is None:
            raise NotConnectedError
        return self._limits
