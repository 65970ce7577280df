"""Joints and gripper as one row of axes, as native frames carry them and the limit checker takes them.

A gripper's opening (m) is one more axis after the joints.
"""

from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import JointCommand, Vector

GRIPPER = "gripper"
"""Name of the gripper's axis, and of its servo on a bus."""


class AxisLimits(NamedTuple):
    """Limits of every axis, (num_axes,) each."""

    low: Vector
    high: Vector
    velocity: Vector
    acceleration: Vector


def axis_names(description: RobotDescription, *, gripper: bool) -> tuple[str, ...]:
    """Names of the axes in order; ``gripper`` says whether there is a gripper."""
    return (*description.joint_names, GRIPPER) if gripper else description.joint_names


def axis_limits(description: RobotDescription, *, gripper: bool) -> AxisLimits:
    """Published limits of the joints and, if there is one, the gripper, whose acceleration is not limited."""
    limits = AxisLimits(
        *map(
            description.limits,
            ("position_min_rad", "position_max_rad", "velocity_max_rad_s", "acceleration_max_rad_s2"),
        )
    )
    if not gripper:
        return limits
    assert description.gripper is not None
    own = (0.0, description.gripper.opening_max_m, description.gripper.speed_max_m_s, np.inf)
    return AxisLimits(*map(np.append, limits, own))


def in_row(joints: Vector, gripper: float | None) -> Vector:
    """The joints' values (num_joints,) followed by the gripper's, if there is one; (num_axes,)."""
    return joints if gripper is None else np.append(joints, gripper)


def positions(command: JointCommand) -> Vector:
    """Commanded positions of the axes, (num_axes,)."""
    return in_row(command.joint_pos, command.gripper_m)


def velocities(command: JointCommand) -> Vector:
    """Commanded velocities of the axes, (num_axes,); 0 for the gripper."""
    return in_row(command.joint_vel, None if command.gripper_m is None else 0.0)


def as_command(position: Vector, velocity: Vector, num_joints: int) -> JointCommand:
    """The command with these rows of positions and velocities, (num_axes,) each."""
    gripper_m = float(position[num_joints]) if len(position) > num_joints else None
    return JointCommand(joint_pos=position[:num_joints], joint_vel=velocity[:num_joints], gripper_m=gripper_m)
