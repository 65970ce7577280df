"""Inverse kinematics: joint positions for a position of the tool."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.tool_motion import ToolMotion

TOLERANCE_M = 1e-3
HOME_WEIGHT = 1e-3
"""Weight of a rad of distance from home relative to a m of the tool's position."""
MAX_STEPS = 30
DOWN = np.array([0.0, 0.0, -1.0])


def tool_down(description: RobotDescription, *places_m: Vector) -> Vector:
    """Joint positions near home, (num_joints,) rad, with the tool pointing down at one of the places.

    Args:
        description: the robot.
        places_m: candidate positions of the tool, (3,) each; the first one that the arm reaches is taken.

    Raises:
        DescriptionError: the arm reaches none of them.
    """
    solutions = (_tool_down(description, place_m) for place_m in places_m)
    found = next((joint_pos for joint_pos in solutions if joint_pos is not None), None)
    if found is None:
        places = " or ".join(str(place_m.tolist()) for place_m in places_m)
        raise DescriptionError(f"robot {description.name} cannot point its tool down at {places} m")
    return found


def joint_pos_at(
    place_m: Vector, joint_pos: Vector, motion: ToolMotion, kinematics: ForwardKinematics
) -> Vector | None:
    """Joint positions with the tool at a place, found by small steps from ``joint_pos``; None: not found.

    Args:
        place_m: position of the tool, (3,).
        joint_pos: joint positions to begin with, (num_joints,) rad.
        motion: makes the steps.
        kinematics: of the same arm.
    """
    for _ in range(MAX_STEPS):
        way = place_m - kinematics.tool_position(joint_pos)
        if np.abs(way).max() <= TOLERANCE_M:
            return joint_pos
        joint_pos = motion.joint_target(way, joint_pos)
    return None


def _tool_down(description: RobotDescription, place_m: Vector) -> Vector | None:
    home, kinematics = description.limits("home_rad"), ForwardKinematics(description.kinematics())

    def residual(joint_pos: NDArray[np.float64]) -> NDArray[np.float64]:
        pose = kinematics.tool_pose(joint_pos)
        direction = pose[:3, :3] @ description.approach
        return np.concatenate([pose[:3, 3] - place_m, direction - DOWN, HOME_WEIGHT * (joint_pos - home)])

    bounds = (description.limits("position_min_rad"), description.limits("position_max_rad"))
    joint_pos: Vector = least_squares(residual, home, bounds=bounds).x
    return joint_pos if np.abs(residual(joint_pos)[:6]).max() <= TOLERANCE_M else None
