"""The scene around the arm, the same on both engines: objects, table, markers, camera and light."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
RGBA = tuple[float, float, float, float]
Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A sphere that is visible and collides with nothing."""

    position_m: NDArray[np.float64]
    radius_m: float
    rgba: RGBA


@dataclass(frozen=True, kw_only=True)
class Slab:
    """A box that is visible and collides with nothing."""

    center_m: Point
    half_size_m: Point
    rgba: RGBA


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The camera of the pictures."""

    width: int = 640
    height: int = 480
    eye_m: Point = (1.25, -0.95, 0.90)
    target_m: Point = (0.27, 0.0, 0.34)
    vertical_fov_deg: float = 42.0
    near_m: float = 0.05
    far_m: float = 6.0

    @property
    def distance_m(self) -> float:
        """Distance from eye to target."""
        return math.dist(self.eye_m, self.target_m)

    @property
    def azimuth_deg(self) -> float:
        """Heading of the view, from +x towards +y."""
        return math.degrees(math.atan2(self.target_m[1] - self.eye_m[1], self.target_m[0] - self.eye_m[0]))

    @property
    def elevation_deg(self) -> float:
        """Pitch of the view, negative downwards."""
        return math.degrees(math.asin((self.target_m[2] - self.eye_m[2]) / self.distance_m))


@dataclass(frozen=True, kw_only=True)
class Cube:
    """An object that lies on the table and can be moved."""

    half_size_m: float
    mass_kg: float
    rgba: RGBA


@dataclass(frozen=True, kw_only=True)
class Peg:
    """A round peg along the tool's z axis, fixed to the tool, and a block with a square hole for it."""

    radius_m: float = 0.01
    length_m: float = 0.06
    """Distance from the tool to the tip, which is a half sphere."""
    clearance_m: float = 0.004
    """Side of the hole minus diameter of the peg."""
    block_half_size_m: float = 0.05
    block_height_m: float = 0.04

    def __post_init__(self) -> None:
        if not 0.0 < self.clearance_m <= 0.05:
            raise ValueError(f"clearance_m: expected above 0, at most 0.05, found {self.clearance_m}")

    def walls(self) -> list[tuple[Point, Point]]:
        """Centre and half size of the block's four walls; the origin is the centre of the block's base."""
        inner, outer = self.radius_m + self.clearance_m / 2.0, self.block_half_size_m
        middle, thick, up = (inner + outer) / 2.0, (outer - inner) / 2.0, self.block_height_m / 2.0
        return [
            ((middle, 0.0, up), (thick, outer, up)),
            ((-middle, 0.0, up), (thick, outer, up)),
            ((0.0, middle, up), (inner, thick, up)),
            ((0.0, -middle, up), (inner, thick, up)),
        ]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects and parts that a task needs besides the arm and the table."""

    cube: Cube | None = None
    peg: Peg | None = None
    gripper: bool = False
    """Whether the gripper can move; otherwise it is closed and part of the hand."""
    payload: bool = False
    """Whether the tool carries a body that has no mass until :meth:`ServoArm.apply` gives it one."""


@dataclass(frozen=True, kw_only=True)
class CubeState:
    """Pose and velocity of a cube."""

    position_m: NDArray[np.float64]
    """(3,), of the centre."""
    rotation: NDArray[np.float64]
    """(3, 3), from cube to base frame."""
    velocity_m_s: NDArray[np.float64]
    """(3,), of the centre."""


EMPTY = Scene()
TABLE_FRICTION = 0.5
"""Sliding friction of anything on the table."""
ARM_FRICTION = 1.0
"""Sliding friction between arm and cube."""
PAYLOAD_GYRATION_M = 0.02
"""Radius of gyration of the payload at the tool."""
HOLE_FRICTION = 0.3
"""Sliding friction between peg and hole."""
GRIPPER_STIFFNESS_N_M, GRIPPER_DAMPING_N_S_M = 3000.0, 100.0
"""Stiffness and damping of each finger's servo, in N/m and N s/m."""
BLOCK_RGBA: RGBA = (0.45, 0.50, 0.58, 1.0)
PEG_RGBA: RGBA = (0.85, 0.65, 0.15, 1.0)
CAMERA = Camera()
LIGHT_FROM: Point = (0.6, -0.9, 2.2)
"""Direction towards the light."""
TABLE = Slab(center_m=(0.30, 0.0, -0.02), half_size_m=(0.45, 0.5, 0.02), rgba=(0.62, 0.50, 0.39, 1.0))
BACKGROUND_RGB: Point = (0.86, 0.88, 0.91)
GOAL_RGBA: RGBA = (0.10, 0.72, 0.30, 0.75)
TOOL_RADIUS_M = 0.014
"""Radius of the tool's marker; it is larger than the finger tips around it."""
TOOL_RGBA: RGBA = (0.95, 0.35, 0.10, 1.0)
