"""The one interface of simulators, emulated robots and real robots."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.description import RobotDescription

Vector = NDArray[np.float64]


class StopMode(IntEnum):
    """What a robot does when it is told to stop."""

    HOLD = 1
    """Servo on, standing where it is."""
    DAMP = 2
    """No position control, velocity damped: the arm sinks slowly and gives way."""
    RELEASE = 3
    """Torque off."""


class RobotStatus(IntEnum):
    """What the device says of itself, with every state."""

    IDLE = 0
    """Connected; torque not enabled by us."""
    ARMED = 1
    """Follows commands."""
    HOLDING = 2
    """Stands still by order or because its watchdog ran out; follows again after :meth:`Robot.arm`."""
    DAMPING = 3
    RELEASED = 4
    FAULT = 5


STATUS_AFTER_STOP = {
    StopMode.HOLD: RobotStatus.HOLDING,
    StopMode.DAMP: RobotStatus.DAMPING,
    StopMode.RELEASE: RobotStatus.RELEASED,
}
"""What a device says once it has stopped in a mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotState:
    """One measurement of the whole arm, joints in the description's order."""

    joint_pos: Vector
    """(num_joints,) rad."""
    joint_vel: Vector
    """(num_joints,) rad/s."""
    joint_torque: Vector
    """(num_joints,) Nm; zeros where the device does not measure it."""
    time_s: float
    """The device's own clock."""
    sequence: int
    """Counts states; a repeated number is a repeated measurement."""
    status: RobotStatus = RobotStatus.ARMED
    ordered: bool = False
    """It stopped because it was ordered to, not by itself, as far as the device says so."""
    gripper_m: float | None = None
    """Opening of the gripper; None where there is none that this robot moves by commands."""
    fault: str = ""
    """What the device says is wrong, where it says so."""
    age_s: float = 0.0
    """How long before this call of :meth:`Robot.read` it was asked for; 0: by the call itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCommand:
    """A position setpoint with its velocity, joints in the description's order."""

    joint_pos: Vector
    """(num_joints,) rad."""
    joint_vel: Vector
    """(num_joints,) rad/s, feed-forward."""
    gripper_m: float | None = None
    """Opening that the gripper is to have; None: as before."""


@runtime_checkable
class Robot(Protocol):
    """An arm that can be read and commanded, whatever stands behind it."""

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        ...

    def connect(self) -> None:
        """Open the link and make sure that the right robot answers. Enables no torque.

        Raises:
            LinkError: nothing there.
            ProtocolError: something else is there.
        """
        ...

    def arm(self) -> None:
        """Enable torque at the present position: the arm holds there and follows commands from now on.

        Raises:
            ProtocolError: it refuses; torque is not on by this call.
            StaleStateError: it does not answer. Only where its state says IDLE or RELEASED afterwards, torque
                is not on by this call.
            BridgeError: it fails otherwise; torque may be on.
        """
        ...

    def read(self) -> RobotState:
        """Freshest state.

        Raises:
            StaleStateError: none within the robot's read deadline.
            LinkError: the link is dead.
        """
        ...

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint; returns what was really sent, after the driver's own clipping."""
        ...

    def stop(self, mode: StopMode) -> None:
        """Leave motion; see :class:`StopMode`."""
        ...

    def close(self) -> None:
        """Release the link. Never raises; harmless when called twice."""
        ...


@runtime_checkable
class NoticingRobot(Robot, Protocol):
    """A robot that says what about it is not as it should be, although it can be driven."""

    @property
    def notices(self) -> tuple[str, ...]:
        """A line each, with what mends it; known once connected."""
        ...


def notices_of(robot: Robot) -> tuple[str, ...]:
    """What a robot says of itself, where it does."""
    return robot.notices if isinstance(robot, NoticingRobot) else ()


@runtime_checkable
class SelectiveRobot(Robot, Protocol):
    """A robot that cannot stop in every mode."""

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Those that it can; known once connected."""
        ...


def stop_modes_of(robot: Robot) -> frozenset[StopMode]:
    """How a robot can stop: in every mode, unless it says otherwise."""
    return robot.stop_modes if isinstance(robot, SelectiveRobot) else frozenset(StopMode)


@runtime_checkable
class PersistentRobot(Robot, Protocol):
    """A robot that is ordered again to arm where it does not answer, for many servo periods."""

    gives_up: Callable[[], bool]
    """Asked before arming is ordered again; True: it is not, and :meth:`arm` raises."""


@runtime_checkable
class SimulatedRobot(Robot, Protocol):
    """A robot whose time is ours to advance."""

    def reset(self, joint_pos: Vector) -> None:
        """Put the arm at rest at ``joint_pos`` (num_joints,) rad, armed, at time zero."""
        ...

    def advance(self, duration_s: float) -> None:
        """Let simulated time pass; ``duration_s`` is a multiple of the physics step."""
        ...

    def tool_position(self) -> Vector:
        """Where the engine says the tool is, (3,) m in the base frame."""
        ...
