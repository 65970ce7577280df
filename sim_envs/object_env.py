"""What tasks with a cube on the table share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wpg.export.interface import ObservationTerm, ToolControl
from wpg.export.kinematics import ForwardKinematics, Vector3
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.tool_motion import ToolMotion
from wpg.sim_envs.actuator import DelayLine
from wpg.sim_envs.goal_env import GoalEnv
from wpg.sim_envs.poses import moved_to
from wpg.sim_envs.reach import arm_size
from wpg.sim_envs.scene import Cube
from wpg.sim_envs.task_interface import tool_control

CUBE = Cube(half_size_m=0.02, mass_kg=0.2, rgba=(0.20, 0.40, 0.85, 1.0))
START_CLEARANCE_M = 0.06
AREA_LOW_M, AREA_HIGH_M = (0.40, -0.15), (0.60, 0.15)
"""Where cubes and goals lie on the table, for an arm of full size."""
MARGIN_M = 0.08
"""How far beside that the tool may be sent."""
LOWEST_TOOL_M = 0.012
SMALL_ARM = 2 / 3
"""Things lie nearer by this, beside the arm's size, for a smaller arm: pointing down costs it more."""
TOLERANCE_M = 0.05
OBJECT_TERMS = (
    ObservationTerm(name="object_pos", size=3, source="external", unit="m"),
    ObservationTerm(name="object_rot6d", size=6, source="external"),
    ObservationTerm(name="object_vel", size=3, source="external", unit="m/s"),
)
"""Place, first two columns of the rotation (Zhou et al., CVPR 2019: continuous, unlike angles), velocity."""


def table_scale(description: RobotDescription) -> float:
    """How near things lie for this arm."""
    size = arm_size(description)
    return 1.0 if size == 1.0 else SMALL_ARM * size


def goal_area(description: RobotDescription) -> tuple[Vector3, Vector3]:
    """Corners (3,), (3,) m of where cubes and goals lie on a table at the height of the arm's base."""
    (x, y), (to_x, to_y) = (table_scale(description) * np.array([AREA_LOW_M, AREA_HIGH_M])).tolist()
    return (x, y, CUBE.half_size_m), (to_x, to_y, CUBE.half_size_m)


def over_table(description: RobotDescription, posture_rad: Vector, highest_m: float) -> ToolControl:
    """Control of a tool that stays near the cubes, and does not press on the table."""
    scale = table_scale(description)
    low, high = scale * (np.array(AREA_LOW_M) - MARGIN_M), scale * (np.array(AREA_HIGH_M) + MARGIN_M)
    return tool_control(description, posture_rad, np.append(low, LOWEST_TOOL_M), np.append(high, highest_m))


class ObjectEnv(GoalEnv):
    """A task whose goal is a place for the cube's middle."""

    achieved = "object_pos"
    _table_scale: float
    """Of all distances on the table; 1 for an arm of full size."""

    def __init__(self, *, description: RobotDescription, tool: ToolControl, **kwargs: Any) -> None:
        self._table_scale = table_scale(description)
        self.tolerance_m = TOLERANCE_M * self._table_scale
        self._tool = tool
        self._motion = ToolMotion(description.kinematics(), tool)
        self._kinematics = ForwardKinematics(description.kinematics())
        self._joint_limits = description.limits("position_min_rad"), description.limits("position_max_rad")
        super().__init__(description=description, **kwargs)

    def put_down(self) -> None:
        """Lay the cube anywhere on the table, but not where the tool is."""
        tool = self.robot.tool_position()
        cube = self._on_table()
        while np.linalg.norm(tool[:2] - cube[:2]) <= START_CLEARANCE_M:
            cube = self._on_table()
        self.robot.place_cube(cube, self._draw_yaw())

    def _start(self) -> Vector:
        cube = self._on_table()
        start = self._beside(cube)
        self.robot.reset(start)
        self.robot.place_cube(cube, self._draw_yaw())
        self._line = DelayLine(self._observation_delay_s)
        self._line.restart(self._seen())
        return start

    def _beside(self, cube: Vector) -> Vector:
        """The arm with its tool anywhere in its box, but not over the cube, (num_joints,) rad."""
        while True:
            place = self.np_random.uniform(self._tool.low_m, self._tool.high_m)
            if np.linalg.norm(place[:2] - cube[:2]) > START_CLEARANCE_M:
                start = moved_to(place, np.array(self._tool.posture_rad), self._motion, self._kinematics)
                if start is not None and np.array_equal(start, np.clip(start, *self._joint_limits)):
                    return start

    def _draw_yaw(self) -> float:
        return self.np_random.uniform(-np.pi, np.pi)

    def _on_table(self) -> Vector:
        """Somewhere for a cube that lies on the table."""
        height = self.robot.table_height_m + CUBE.half_size_m
        low, high = self._table_scale * np.array([AREA_LOW_M, AREA_HIGH_M])
        return np.array([*self.np_random.uniform(low, high), height])

    def _external(self) -> Mapping[str, Vector]:
        row = self._seen()
        if self._observation_delay_s:
            self._line.push(self._state.time_s, row)
            row = self._line.at(self._state.time_s)
        return {"object_pos": row[:3], "object_rot6d": row[3:9], "object_vel": row[9:]}

    def _seen(self) -> Vector:
        """The terms of the cube in a row, (12,)."""
        state = self.robot.cube_state()
        return np.concatenate([state.position_m, state.rotation[:, :2].T.ravel(), state.velocity_m_s])

    def _true_place(self) -> Vector:
        return self.robot.cube_state().position_m
