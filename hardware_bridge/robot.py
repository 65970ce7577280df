"""The robot interface, which simulators, emulated robots and real robots share."""

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
    """Status that the device reports with every state."""

    IDLE = 0
    """Connected; this client has not enabled torque."""
    ARMED = 1
    """Follows commands."""
    HOLDING = 2
    """Stands still, by order or because its watchdog ran out; follows again after :meth:`Robot.arm`."""
    DAMPING = 3
    RELEASED = 4
    FAULT = 5


STATUS_AFTER_STOP = {
    StopMode.HOLD: RobotStatus.HOLDING,
    StopMode.DAMP: RobotStatus.DAMPING,
    StopMode.RELEASE: RobotStatus.RELEASED,
}
"""Status that a device reports once it has stopped in a mode."""


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
    """Whether it stopped by order, not by itself, if the device tells."""
    gripper_m: float | None = None
    """Opening of the gripper; None if this robot moves none by commands."""
    fault: str = ""
    """What is wrong, if the device reports it."""
    age_s: float = 0.0
    """How long before this call of :meth:`Robot.read` it was asked for; 0 if the call itself asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCommand:
    """A position setpoint with its velocity, joints in the description's order."""

    joint_pos: Vector
    """(num_joints,) rad."""
    joint_vel: Vector
    """(num_joints,) rad/s, feed-forward."""
    gripper_m: float | None = None
    """Target opening of the gripper; None leaves it as it is."""


@runtime_checkable
class Robot(Protocol):
    """An arm that can be read and commanded, real or simulated."""

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        ...

    def connect(self) -> None:
        """Open the link and make sure that the right robot answers. Enables no torque.

        Raises:
            LinkError: nothing answers.
            ProtocolError: another device answers.
        """
        ...

    def arm(self) -> None:
        """Enable torque at the present position: the arm holds there and follows commands from now on.

        Raises:
            ProtocolError: it refuses; this call has not enabled torque.
            StaleStateError: it does not answer; torque may be on unless its state says IDLE or RELEASED
                afterwards.
            BridgeError: it fails otherwise; torque may be on.
        """
        ...

    def read(self) -> RobotState:
        """The newest state.

        Raises:
            StaleStateError: none came within the robot's read deadline.
            LinkError: the link is dead.
        """
        ...

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint; returns what was really sent, after the driver's own clipping."""
        ...

    def stop(self, mode: StopMode) -> None:
        """Stop as :class:`StopMode` says."""
        ...

    def close(self) -> None:
        """Release the link. Never raises; harmless when called twice."""
        ...


@runtime_checkable
class NoticingRobot(Robot, Protocol):
    """A robot that reports what is not as it should be, although it can be driven."""

    @property
    def notices(self) -> tuple[str, ...]:
        """One line for each problem, with its remedy; known once connected."""
        ...


def notices_of(robot: Robot) -> tuple[str, ...]:
    """Problems that a robot reports of itself; empty for a robot that reports none."""
    return robot.notices if isinstance(robot, NoticingRobot) else ()


@runtime_checkable
class SelectiveRobot(Robot, Protocol):
    """A robot that cannot stop in every mode."""

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Modes that it can stop in; known once connected."""
        ...


def stop_modes_of(robot: Robot) -> frozenset[StopMode]:
    """Modes that a robot can stop in: all, unless it names some."""
    return robot.stop_modes if isinstance(robot, SelectiveRobot) else frozenset(StopMode)


@runtime_checkable
class PersistentRobot(Robot, Protocol):
    """A robot whose driver repeats the order to arm for many servo periods if it is not answered."""

    gives_up: Callable[[], bool]
    """Asked before the order is repeated; if True, it is not, and :meth:`arm` raises."""


@runtime_checkable
class SimulatedRobot(Robot, Protocol):
    """A robot whose simulated time the caller advances."""

    def reset(self, joint_pos: Vector) -> None:
        """Put the arm at rest at ``joint_pos`` (num_joints,) rad, armed, at time zero."""
        ...

    def advance(self, duration_s: float) -> None:
        """Advance simulated time by ``duration_s``, a multiple of the physics step."""
        ...

    def tool_position(self) -> Vector:
        """Position of the tool in the physics engine, (3,) m in the base frame."""
        ...
