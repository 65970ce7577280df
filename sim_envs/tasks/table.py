"""Lays out the table of a task: an area for cubes and goals that suits the reach of the arm."""

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
"""The area of full size: its distance in front of the base, its depth, and half its width."""
SCALES = np.arange(20, 5, -1) / 20
"""Candidate scales of the area and of all distances in a task; the largest that the arm reaches is used."""
CLEARANCE = 1.75
"""Least distance between the cube's centre and the tool's surface at the start, in half sizes of the cube."""
OVERSHOOT_M = 0.03
"""The arm can still fetch back a cube that was pushed this far past the area."""
MARGIN_M = 0.055
"""The tool may be sent this far, plus its radius, past the area: around a cube that was pushed too far."""
LOWEST_TOOL_M = 0.012
TOOL_HEIGHTS = (1.0, 3.0)
"""Heights of the tool when it works and when it passes over the cube, in half sizes of the cube."""
GRIP_HEIGHT = 0.5
"""Height of the cube's side that has to be above the lowest tool, for fingers to grip; in half sizes of the
cube."""
RADII_M = np.arange(0.06, 1.0, 0.02)
REACH_STEPS, REACH_TOLERANCE = 40, np.repeat([0.01, 0.1], 3)
"""Steps of inverse kinematics, and their tolerance: the tool's position in m, then its direction."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The layout of a task with a cube."""

    low_m: tuple[float, float]
    """Lowest corner (x, y) of the area in which cubes and goals lie."""
    high_m: tuple[float, float]
    """Highest corner."""
    scale: float
    """Scale of distances and tolerances; 1 for an arm of full size."""
    cube: Cube
    clearance_m: float
    """Least horizontal distance between the cube's centre and the tool at the start."""
    tool: ToolControl
    """Tool control with the tool pointing down, in a box above the area."""

    def corners(self) -> tuple[Vector3, Vector3]:
        """Corners (m) of the goals for the cube's centre on a table at the height of the arm's base."""
        (x, y), (to_x, to_y), z = self.low_m, self.high_m, self.cube.half_size_m
        return (x, y, z), (to_x, to_y, z)

    def height_range_m(self, highest_goal_m: float) -> tuple[float, float]:
        """Lowest and highest table top, in m above the arm's base, that suit the tool's fixed box.

        Args:
            highest_goal_m: height of the highest goal, on a table at the height of the arm's base.
        """
        half, (*_, low), (*_, high) = self.cube.half_size_m, self.tool.low_m, self.tool.high_m
        lowest, highest = low + (GRIP_HEIGHT - 2.0) * half, high - max(TOOL_HEIGHTS[1] * half, highest_goal_m)
        return round(lowest, 6), round(max(highest, 0.0), 6)


def lay_table(description: RobotDescription, posture_m: tuple[Vector, ...], highest_m: float) -> Table:
    """Lay out the largest area that the arm reaches from every side with the tool pointing down.

    Args:
        description: the robot.
        posture_m: candidate positions of the tool in the rest posture, for an arm of full size; the first
            that the arm reaches is used.
        highest_m: top of the tool's box.

    Raises:
        DescriptionError: the arm cannot point down, or its reach is too short.
    """
    size = arm_size(description)
    cube = CUBE if size == 1.0 else SMALL_CUBE
    posture = tool_down(description, *(place * [size, 1.0, 1.0] for place in posture_m))
    radius = simulation_model(description).tool_radius_m
    clearance, margin = radius + CLEARANCE * cube.half_size_m, radius + MARGIN_M
    reaches = [reach_down(description, posture, height * cube.half_size_m) for height in TOOL_HEIGHTS]
    nearest, furthest = max(first for first, _ in reaches), min(last for _, last in reaches)
    for scale in SCALES.tolist():
        slack = scale * OVERSHOOT_M
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
    """Range of distances in front of the base, in m, that the tool reaches pointing down, without a gap."""
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
