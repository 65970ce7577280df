"""Where on the table an arm can push and carry things: an area for cubes and goals that suits its reach."""

import math
from dataclasses import dataclass

import numpy as np

from wpg.export.interface import ToolControl
from wpg.export.kinematics import ForwardKinematics, Vector3
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.tool_motion import ToolMotion
from wpg.sim_envs.models.scene import Cube
from wpg.sim_envs.models.urdf import simulation_model
from wpg.sim_envs.tasks.interface import tool_control
from wpg.sim_envs.tasks.poses import DOWN, tool_down
from wpg.sim_envs.tasks.reach import arm_size

CUBE = Cube(half_size_m=0.02, mass_kg=0.2, rgba=(0.20, 0.40, 0.85, 1.0))
SMALL_CUBE = Cube(half_size_m=0.0125, mass_kg=0.05, rgba=CUBE.rgba)
"""For arms shorter than 75 cm; of the same density."""
NEAREST_M, DEPTH_M, HALF_WIDTH_M = 0.40, 0.20, 0.15
"""The area of full size: where it begins in front of the base, and how large it is."""
SCALES = np.arange(20, 5, -1) / 20
"""Scales of the area and of all distances in a task; the largest that the arm reaches is taken."""
CLEAR_OF_CUBE = 1.75
"""In half sizes of the cube: how far from its middle the tool starts at least, beside its own radius."""
TOO_FAR_M = 0.03
"""How much further out a cube may be pushed than it should, and still be fetched back."""
MARGIN_M = 0.055
"""How far beside the area the tool may be sent, beside its own radius: round a cube that went too far."""
LOWEST_TOOL_M = 0.012
HEIGHTS = (1.0, 3.0)
"""In half sizes of the cube, where the tool works, and where it passes over the cube."""
SIDE_TO_TOUCH = 0.5
"""In half sizes of the cube, how much of its side is above the lowest tool, for fingers to hold it by."""
RADII_M = np.arange(0.06, 1.0, 0.02)
REACH_STEPS, REACH_TOLERANCE = 40, np.repeat([0.01, 0.1], 3)
"""Steps of inverse kinematics, and what they may be off by: m of the tool's place, then its direction."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a task with a cube is laid out by."""

    low_m: tuple[float, float]
    """Corner of the area in which cubes and goals lie."""
    high_m: tuple[float, float]
    scale: float
    """Scale of distances and tolerances; 1 for an arm of full size."""
    cube: Cube
    clearance_m: float
    """How far beside the cube's middle the tool starts at least."""
    tool: ToolControl
    """Pointing down, and staying over the area."""

    def corners(self) -> tuple[Vector3, Vector3]:
        """Corners (m) of where the cube's middle can be sent, on a table at the height of the arm's base."""
        (x, y), (to_x, to_y), z = self.low_m, self.high_m, self.cube.half_size_m
        return (x, y, z), (to_x, to_y, z)

    def height_range_m(self, highest_goal_m: float) -> tuple[float, float]:
        """Where the table's top may be, m above the arm's base: the tool's box stays where it is.

        Args:
            highest_goal_m: highest place of a goal, on a table at the height of the arm's base.
        """
        half, (*_, low), (*_, high) = self.cube.half_size_m, self.tool.low_m, self.tool.high_m
        lowest, highest = low + (SIDE_TO_TOUCH - 2.0) * half, high - max(HEIGHTS[1] * half, highest_goal_m)
        return round(lowest, 6), round(max(highest, 0.0), 6)


def lay_table(description: RobotDescription, posture_m: tuple[Vector, ...], highest_m: float) -> Table:
    """The largest area that the arm reaches from every side, pointing down.

    Args:
        description: the robot.
        posture_m: where the tool is in the arm's posture, for an arm of full size; the first that works.
        highest_m: where the tool may be sent to.

    Raises:
        DescriptionError: the arm cannot point down, or has too little reach.
    """
    size = arm_size(description)
    cube = CUBE if size == 1.0 else SMALL_CUBE
    posture = tool_down(description, *(place * [size, 1.0, 1.0] for place in posture_m))
    radius = simulation_model(description).tool_radius_m
    clearance, margin = radius + CLEAR_OF_CUBE * cube.half_size_m, radius + MARGIN_M
    reaches = [reach_down(description, posture, height * cube.half_size_m) for height in HEIGHTS]
    nearest, furthest = max(first for first, _ in reaches), min(last for _, last in reaches)
    for scale in SCALES.tolist():
        slack = scale * TOO_FAR_M
        depth, half_width = scale * DEPTH_M, scale * HALF_WIDTH_M
        first = nearest + clearance
        last = math.sqrt(max((furthest - clearance - slack) ** 2 - half_width**2, 0.0)) - depth
        if first <= last:
            low = round(min(max(scale * NEAREST_M, first), last), 3)
            area = np.array([[low, -half_width], [low + depth, half_width]])
            (x, y), (to_x, to_y) = area.round(4).tolist()
            box_low = np.append(area[0] - margin, LOWEST_TOOL_M)
            box_high = np.append(area[1] + margin, highest_m)
            return Table(
                low_m=(x, y),
                high_m=(to_x, to_y),
                scale=scale,
                cube=cube,
                clearance_m=clearance,
                tool=tool_control(description, posture, box_low, box_high),
            )
    raise DescriptionError(
        f"robot {description.name} has too little room on the table: pointing down its tool reaches from "
        f"{nearest:.2f} to {furthest:.2f} m, and stays {clearance:.3f} m clear of a cube"
    )


def reach_down(description: RobotDescription, posture_rad: Vector, height_m: float) -> tuple[float, float]:
    """From where to where in front of the base (m) the tool gets, pointing down, without a gap."""
    chain, everywhere = description.kinematics(), np.full(3, 2.0)
    motion = ToolMotion(chain, tool_control(description, posture_rad, -everywhere, everywhere))
    kinematics = ForwardKinematics(chain)
    low, high = description.limits("position_min_rad"), description.limits("position_max_rad")
    places = np.stack([RADII_M, 0.0 * RADII_M, np.full(len(RADII_M), height_m)], axis=1)
    wanted = np.concatenate([places, np.tile(DOWN, (len(places), 1))], axis=1)
    joints = np.tile(posture_rad, (len(places), 1))
    tool, _ = kinematics.differentiate(joints, description.approach)
    at = int(np.abs(RADII_M - tool[0, 0]).argmin())
    for _ in range(REACH_STEPS):
        joints = np.clip(motion.joint_target(places - tool[:, :3], joints), low, high)
        tool, _ = kinematics.differentiate(joints, description.approach)
    fails = np.flatnonzero((np.abs(tool - wanted) > REACH_TOLERANCE).any(axis=1))
    before, after = fails[fails <= at], fails[fails >= at]
    first = before.max(initial=-1) + 1
    last = after.min(initial=len(RADII_M)) - 1
    if last < first:
        return float(RADII_M[at]), float(RADII_M[at])
    return float(RADII_M[first]), float(RADII_M[last])
