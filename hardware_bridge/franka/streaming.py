"""The commands that are streamed to the robot every millisecond: velocities, positions or torques."""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import numpy as np

from wpg.hardware_bridge.franka.limits import RATE_SHARE, TORQUE_MAX_NM, TORQUE_RATE_MAX_NM_S, limit_rate
from wpg.hardware_bridge.franka.sample import FciSample
from wpg.hardware_bridge.robot import JointCommand, Vector

FciMode = Literal["velocity", "position", "torque"]

TICK_S = 1e-3
DRIFT_GAIN_1_S = 5.0
DRIFT_SPEED_MAX_RAD_S = 0.05
SAME_RAD_S, SAME_RAD = 1e-6, 3e-7
"""Tolerance for comparing reported with sent values, because states are 32-bit floats."""
STIFFNESS_NM_RAD = np.array((600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0))
"""Of the joint impedance that torques make; soft beside the robot's own."""
DAMPING_NM_S_RAD = np.array((50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0))


class Streaming(ABC):
    """Makes the messages of one motion, each from a setpoint and the state that it answers.

    Args:
        fci: pylibfranka, or a replacement of it.
    """

    def __init__(self, fci: Any) -> None:
        self._fci = fci

    @abstractmethod
    def start(self, robot: Any) -> Any:
        """Begin on ``robot``; returns libfranka's control object."""

    @abstractmethod
    def start_pos(self, sample: FciSample) -> Vector:
        """Position at which setpoints must begin so that nothing jumps, (7,) rad."""

    @abstractmethod
    def message(self, command: JointCommand, sample: FciSample) -> Any:
        """The next message."""


class Desired(NamedTuple):
    """Position and velocity for the robot's own controller, (7,) each."""

    pos: Vector
    vel: Vector
    acc: Vector


class VelocityStreaming(Streaming):
    """Velocities, which the robot integrates and follows by its own joint impedance."""

    rounded_share = RATE_SHARE
    """Share of the limits used where the robot's last step is known only as it reports it."""

    def __init__(self, fci: Any) -> None:
        super().__init__(fci)
        self._heading: Vector | None = None
        self._sent: Desired | None = None

    def start(self, robot: Any) -> Any:
        """Begin on ``robot``."""
        return robot.start_joint_velocity_control(self._fci.ControllerMode.JointImpedance)

    def start_pos(self, sample: FciSample) -> Vector:
        """Where the robot's controller holds."""
        return sample.joint_pos_desired

    def message(self, command: JointCommand, sample: FciSample) -> Any:
        """The velocity that leads to the setpoint."""
        return self._fci.JointVelocities(self._next(command, sample).vel.tolist())

    def _next(self, command: JointCommand, sample: FciSample) -> Desired:
        """The desired velocity, limited to what the interface accepts after the robot's last motion.

        The last motion is the command that was sent, if the robot reports that it took it; otherwise it is
        the motion that the robot reports.
        """
        wanted = command.joint_vel + self._drift_speed(command, sample)
        last = Desired(sample.joint_pos_desired, sample.joint_vel_desired, sample.joint_acc_desired)
        share = self.rounded_share
        if self._sent is not None and self._is_same(self._sent, last):
            last, share = self._sent, RATE_SHARE
        velocity = limit_rate(wanted, last.vel, last.acc, TICK_S, share)
        self._sent = Desired(last.pos + TICK_S * velocity, velocity, (velocity - last.vel) / TICK_S)
        return self._sent

    def _is_same(self, sent: Desired, reported: Desired) -> bool:
        return bool(np.abs(sent.vel - reported.vel).max() < SAME_RAD_S)

    def _drift_speed(self, command: JointCommand, sample: FciSample) -> Vector:
        """Slowly corrects the position error that lost packets have caused."""
        heading = sample.joint_pos_desired if self._heading is None else self._heading
        self._heading = command.joint_pos
        drift = DRIFT_GAIN_1_S * (heading - sample.joint_pos_desired)
        return np.minimum(np.maximum(drift, -DRIFT_SPEED_MAX_RAD_S), DRIFT_SPEED_MAX_RAD_S)


class PositionStreaming(VelocityStreaming):
    """Positions, which the robot differentiates, checks, and follows by its own joint impedance.

    Each position continues from where the robot's controller is, at a velocity that is limited as for
    velocities. After lost packets the motion therefore goes on from where the robot went by itself.
    """

    rounded_share = 0.93

    def start(self, robot: Any) -> Any:
        """Begin on ``robot``."""
        return robot.start_joint_position_control(self._fci.ControllerMode.JointImpedance)

    def message(self, command: JointCommand, sample: FciSample) -> Any:
        """The next position on the way to the setpoint."""
        return self._fci.JointPositions(self._next(command, sample).pos.tolist())

    def _is_same(self, sent: Desired, reported: Desired) -> bool:
        return super()._is_same(sent, reported) and bool(np.abs(sent.pos - reported.pos).max() < SAME_RAD)


class TorqueStreaming(Streaming):
    """Torques of a joint impedance around the setpoint; the robot adds what gravity needs.

    ``torque = K (q_d - q) + D (q'_d - q')``, within the interface's torques and torque rates.
    """

    def start(self, robot: Any) -> Any:
        """Begin on ``robot``."""
        return robot.start_torque_control()

    def start_pos(self, sample: FciSample) -> Vector:
        """Measured position, so that the first torques are zero."""
        return sample.joint_pos

    def message(self, command: JointCommand, sample: FciSample) -> Any:
        """The next torques."""
        spring = STIFFNESS_NM_RAD * (command.joint_pos - sample.joint_pos)
        wanted = spring + DAMPING_NM_S_RAD * (command.joint_vel - sample.joint_vel)
        step = TORQUE_RATE_MAX_NM_S * TICK_S
        low = np.maximum(sample.joint_torque_desired - step, -TORQUE_MAX_NM)
        high = np.minimum(sample.joint_torque_desired + step, TORQUE_MAX_NM)
        return self._fci.Torques(np.minimum(np.maximum(wanted, low), high).tolist())


STREAMINGS: dict[FciMode, type[Streaming]] = {
    "velocity": VelocityStreaming,
    "position": PositionStreaming,
    "torque": TorqueStreaming,
}
