"""Joints and gripper in one row: as native frames carry them, and as limits are held against them.

A gripper's opening (m) is one more axis behind the joints.
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
    """Names in order; ``gripper``: whether there is one."""
    return (*description.joint_names, GRIPPER) if gripper else description.joint_names


def axis_limits(description: RobotDescription, *, gripper: bool) -> AxisLimits:
    """Published limits of the joints, and of the gripper where there is one; it has none of acceleration."""
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
    """The joints' values (num_joints,), and the gripper's behind them where there is one; (num_axes,)."""
    return joints if gripper is None else np.append(joints, gripper)


def positions(command: JointCommand) -> Vector:
    """Where the axes are sent, (num_axes,)."""
    return in_row(command.joint_pos, command.gripper_m)


def velocities(command: JointCommand) -> Vector:
    """How fast they are to be there, (num_axes,); 0 for the gripper."""
    return in_row(command.joint_vel, None if command.gripper_m is None else 0.0)


def as_command(position: Vector, velocity: Vector, num_joints: int) -> JointCommand:
    """The command whose rows these are, (num_axes,) each."""
    gripper_m = float(position[num_joints]) if len(position) > num_joints else None
    return JointCommand(joint_pos=position[:num_joints], joint_vel=velocity[:num_joints], gripper_m=gripper_m)
