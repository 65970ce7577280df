"""An arm without dynamics: follows its commands with a lag. Needs no simulator."""

import math

import numpy as np

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.gripper import GripperSetpoint
from wpg.hardware_bridge.robot import (
    STATUS_AFTER_STOP,
    JointCommand,
    RobotState,
    RobotStatus,
    StopMode,
    Vector,
)


class KinematicRobot:
    """Joints that follow their setpoints with a first-order lag, ``q' = (q_d + lag q_d' - q) / lag``.

    Args:
        description: the robot.
        lag_s: time constant of every joint.
        gripper: whether the description's gripper moves, too; it is closed at first.
    """

    def __init__(self, description: RobotDescription, lag_s: float = 0.02, *, gripper: bool = False) -> None:
        self._description = description
        self._lag_s = lag_s
        self._gripper = None
        if gripper and description.gripper is not None:
            self._gripper = GripperSetpoint(description.gripper, 0.0)
        self._kinematics = ForwardKinematics(description.kinematics())
        self._status = RobotStatus.IDLE
        self._time_s = 0.0
        self._sequence = 0
        self.place(description.limits("home_rad"))

    def place(self, joint_pos: Vector, gripper_m: float | None = None) -> None:
        """Stand at rest at ``joint_pos`` (num_joints,) rad, whatever the status.

        Args:
            joint_pos: where the joints are.
            gripper_m: opening of the gripper; None leaves it as it is.
        """
        if self._gripper is not None and gripper_m is not None:
            self._gripper.start(gripper_m)
        self._pos = np.array(joint_pos, dtype=np.float64)
        self._vel = np.zeros_like(self._pos)
        self._target = self._pos.copy()

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    def connect(self) -> None:
        """Nothing to open."""

    def arm(self) -> None:
        """Hold the present position and follow commands from now on."""
        self.place(self._pos)
        self._status = RobotStatus.ARMED

    def reset(self, joint_pos: Vector) -> None:
        """At rest at ``joint_pos`` (num_joints,) rad, armed, at time zero."""
        self.place(joint_pos)
        self._time_s, self._sequence = 0.0, 0
        self._status = RobotStatus.ARMED

    def read(self) -> RobotState:
        """The state after the last advance; torque is always zero."""
        return RobotState(
            joint_pos=self._pos.copy(),
            joint_vel=self._vel.copy(),
            joint_torque=np.zeros_like(self._pos),
            time_s=self._time_s,
            sequence=self._sequence,
            status=self._status,
            gripper_m=None if self._gripper is None else self._gripper.opening_m,
        )

    def write(self, command: JointCommand) -> JointCommand:
        """Follow a setpoint. If the arm is not armed, the setpoint that it stands at is returned instead."""
        if self._status is RobotStatus.ARMED:
            self._target = command.joint_pos + self._lag_s * command.joint_vel
            if self._gripper is not None and command.gripper_m is not None:
                self._gripper.set_target(command.gripper_m)
            return command
        return JointCommand(joint_pos=self._target.copy(), joint_vel=np.zeros_like(self._target))

    def stop(self, mode: StopMode) -> None:
        """Stand still, in every mode, because this arm has no weight."""
        self.place(self._pos)
        self._status = STATUS_AFTER_STOP[mode]

    def advance(self, duration_s: float) -> None:
        """Advance simulated time."""
        before = self._pos
        self._pos = before + (self._target - before) * -math.expm1(-duration_s / self._lag_s)
        self._vel = (self._pos - before) / duration_s
        if self._gripper is not None:
            self._gripper.step(duration_s)
        self._time_s += duration_s
        self._sequence += 1

    def tool_position(self) -> Vector:
        """Position of the tool, (3,) m in the base frame."""
        return self._kinematics.tool_position(self._pos)

    def close(self) -> None:
        """Nothing to release."""
