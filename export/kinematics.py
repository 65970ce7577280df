"""Forward kinematics of a serial arm, from a description that is small enough for the contract.

The frame of each joint is fixed relative to the joint before, and the joint turns about an axis of it::

    T(q) = Π_i [ F_i · R(axis_i, q_i) ] · F_tool
"""

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.export.record import Record

Vector3 = tuple[float, float, float]
Angle = Annotated[float, msgspec.Meta(ge=-2 * math.pi, le=2 * math.pi)]
CROSS = np.cross(np.eye(3)[:, None], np.eye(3)).transpose(0, 2, 1).reshape(3, 9)
"""Matrix that maps a vector (3,) to the rows (9,) of its cross-product matrix."""


class Frame(Record, frozen=True, kw_only=True):
    """A fixed transform, in the convention of URDF's ``origin``."""

    xyz_m: Vector3 = (0.0, 0.0, 0.0)
    rpy_rad: tuple[Angle, Angle, Angle] = (0.0, 0.0, 0.0)
    """Roll, pitch, yaw about the fixed axes x, y, z."""

    def matrix(self) -> NDArray[np.float64]:
        """Homogeneous transform, (4, 4)."""
        (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in self.rpy_rad)
        x, y, z = self.xyz_m
        return np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr, x],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr, y],
                [-sp, cp * sr, cp * cr, z],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )


class JointFrame(Record, frozen=True, kw_only=True):
    """A revolute joint: its frame on the link before it, and the unit axis that it turns about."""

    frame: Frame
    axis: Vector3 = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        require_unit(self.axis)


class SerialChain(Record, frozen=True, kw_only=True):
    """The arm from its base to its tool."""

    joints: Annotated[tuple[JointFrame, ...], msgspec.Meta(min_length=1)]
    tool: Frame


class ForwardKinematics:
    """Tool pose from joint positions; its buffers are allocated once."""

    def __init__(self, chain: SerialChain) -> None:
        # Every frame is rotated so that its joint turns about z; the chain as a whole stays the same.
        turns = [_turn_from_z(joint.axis) for joint in chain.joints]
        fixed = [
            before.T @ joint.frame.matrix() @ turn
            for before, joint, turn in zip([np.eye(4), *turns[:-1]], chain.joints, turns, strict=True)
        ]
        self._turning = np.array([_turning(frame) for frame in fixed])
        self._tool = turns[-1].T @ chain.tool.matrix()
        self._tool_xyz = self._tool[:3, 3].tolist()
        self._rows = [frame[:3].ravel().tolist() for frame in reversed(fixed)]

    def tool_pose(self, joint_pos: NDArray[np.floating]) -> NDArray[np.float64]:
        """Homogeneous transform of the tool in the base frame.

        Args:
            joint_pos: (num_joints,) in radians.

        Returns:
            (4, 4), metres.
        """
        pose: NDArray[np.float64] = self._frames(joint_pos)[-1]
        return pose

    def tool_position(self, joint_pos: NDArray[np.floating]) -> NDArray[np.float64]:
        """Position of the tool in the base frame, (3,) in metres.

        Computed from the tool inwards in plain floats, which is several times as fast as the whole pose.
        """
        self._check(joint_pos)
        x, y, z = self._tool_xyz
        for q, row in zip(reversed(joint_pos.tolist()), self._rows, strict=True):
            c, s = math.cos(q), math.sin(q)
            x, y = c * x - s * y, s * x + c * y
            r00, r01, r02, px, r10, r11, r12, py, r20, r21, r22, pz = row
            x, y, z = (
                r00 * x + r01 * y + r02 * z + px,
                r10 * x + r11 * y + r12 * z + py,
                r20 * x + r21 * y + r22 * z + pz,
            )
        return np.array((x, y, z))

    def differentiate(
        self, joint_pos: NDArray[np.floating], axis: Vector3
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Place of the tool, direction of an axis of its frame, and how both change with the joints.

        Args:
            joint_pos: (num_joints,) in radians, or (B, num_joints) for as many postures.
            axis: unit vector in the tool's frame.

        Returns:
            Place in m and direction in the base frame, ([B,] 6), and their Jacobian, ([B,] 6, num_joints).
        """
        frames = self._frames(joint_pos)
        joints, tool = frames[:-1], frames[-1]
        swung = np.empty((*joints.shape[:-2], 3, 2))  # by each joint: the tool's place, its direction
        place, direction = tool[..., :3, 3], tool[..., :3, :3] @ axis
        swung[..., 0] = place - joints[..., :3, 3]
        swung[..., 1] = direction
        across = (joints[..., :3, 2] @ CROSS).reshape(*joints.shape[:-2], 3, 3)
        change = (across @ swung).swapaxes(-1, -2).reshape(*joints.shape[:-2], 6)
        return np.concatenate([place, direction], axis=-1), change.swapaxes(0, -2).swapaxes(-1, -2)

    def _frames(self, joint_pos: NDArray[np.floating]) -> NDArray[np.float64]:
        """Frames of all joints after their rotation, and of the tool, (num_joints + 1, [B,] 4, 4)."""
        self._check(joint_pos)
        angles = joint_pos.T
        turns = np.ones((*angles.shape, 1, 3))
        np.cos(angles, out=turns[..., 0, 0])
        np.sin(angles, out=turns[..., 0, 1])
        turning = self._turning.reshape(len(angles), *[1] * (angles.ndim - 1), 3, 16)
        frames = np.empty((len(angles) + 1, *angles.shape[1:], 4, 4))
        frames[:-1] = (turns @ turning).reshape(*angles.shape, 4, 4)
        frames[-1] = self._tool
        reach = 1
        while reach < len(frames):  # prefix product: each stage doubles the number of frames that are chained
            frames[reach:] = frames[:-reach] @ frames[reach:]
            reach *= 2
        return frames

    def _check(self, joint_pos: NDArray[np.floating]) -> None:
        if joint_pos.shape[-1] != len(self._rows):
            raise ValueError(f"expected {len(self._rows)} joint positions, got {joint_pos.shape[-1]}")


def require_unit(axis: Vector3) -> None:
    """Raises ValueError unless the axis has unit length."""
    length = math.hypot(*axis)
    if abs(length - 1.0) > 1e-6:
        raise ValueError(f"axis must have unit length, got {axis} of length {length:.6g}")


def _turn_from_z(axis: Vector3) -> NDArray[np.float64]:
    """A rotation that takes z to the axis, homogeneous (4, 4)."""
    z = np.array(axis)
    x = np.eye(3)[np.abs(z).argmin()]
    x = x - (x @ z) * z
    x /= np.linalg.norm(x)
    turn = np.eye(4)
    turn[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    return turn


def _turning(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients (3, 16) of cosine, sine and one in a frame (4, 4) that is rotated about its z axis."""
    parts = np.zeros((3, 4, 4))
    parts[0, :, :2] = frame[:, :2]
    parts[1, :, 0], parts[1, :, 1] = frame[:, 1], -frame[:, 0]
    parts[2, :, 2:] = frame[:, 2:]
    return parts.reshape(3, 16)
