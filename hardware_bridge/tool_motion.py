"""Differential inverse kinematics: joint targets that move the tool by a displacement."""

import numpy as np

from wpg.export.interface import ToolControl
from wpg.export.kinematics import ForwardKinematics, SerialChain
from wpg.hardware_bridge.robot import Vector

DIRECTION_M = 0.1
"""Weight of an error of 1 rad in the tool's direction, relative to 1 m in its position."""
DAMPING_M = 0.03
"""Damping: weight of 1 rad of joint motion relative to 1 m of the tool; limits motion near singularities."""
RETURN_SHARE = 0.2
"""Share of its way back to the posture that a joint takes per step if the tool does not need it."""
LONGEST_STEP_RAD = 0.2
"""No joint is sent further than this in one step."""


class ToolMotion:
    """Turns displacements of the tool into joint targets by one step of damped least squares.

    The step weighs the tool's displacement, the direction of its axis, and the joints' motion against each
    other. The error that is left after one step is corrected by the next, which starts from where the arm is
    then.
    Source: Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least
    squares methods", 2004.

    Args:
        chain: the arm.
        control: direction of the tool, the box that it is kept in, and the posture of the joints.
    """

    def __init__(self, chain: SerialChain, control: ToolControl) -> None:
        self._kinematics = ForwardKinematics(chain)
        self._axis = control.axis
        self._posture = np.array(control.posture_rad)
        self._direction = self._kinematics.differentiate(self._posture, self._axis)[0][3:]
        self._low, self._high = np.array(control.low_m), np.array(control.high_m)
        self._weights = np.repeat([1.0, DIRECTION_M], 3)
        self._damping = DAMPING_M**2 * np.eye(len(self._posture))

    def joint_target(self, displacement: Vector, joint_pos: Vector) -> Vector:
        """Joint target, ([B,] num_joints) rad, that moves the tool by ``displacement`` ([B,] 3) m.

        A place outside the box is replaced by the nearest one inside.
        """
        tool, jacobian = self._kinematics.differentiate(joint_pos, self._axis)
        wanted = np.empty_like(tool)
        wanted[..., :3] = np.minimum(np.maximum(tool[..., :3] + displacement, self._low), self._high)
        wanted[..., 3:] = self._direction
        error = self._weights * (wanted - tool)
        jacobian = self._weights[:, None] * jacobian
        gradient = jacobian.swapaxes(-1, -2)
        homing = DAMPING_M**2 * RETURN_SHARE * (self._posture - joint_pos)
        pull = gradient @ error[..., None] + homing[..., None]
        step = np.linalg.solve(gradient @ jacobian + self._damping, pull)[..., 0]
        longest = np.abs(step).max(axis=-1, keepdims=True)
        return np.asarray(joint_pos + step * (LONGEST_STEP_RAD / np.maximum(longest, LONGEST_STEP_RAD)))
