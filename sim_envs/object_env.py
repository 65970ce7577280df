"""What tasks with a cube on the table share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wpg.export.interface import ObservationTerm
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.tool_motion import ToolMotion
from wpg.sim_envs.actuator import DelayLine
from wpg.sim_envs.goal_env import GoalEnv
from wpg.sim_envs.poses import moved_to
from wpg.sim_envs.table import Table

TOLERANCE_M = 0.05
OBJECT_TERMS = (
    ObservationTerm(name="object_pos", size=3, source="external", unit="m"),
    ObservationTerm(name="object_rot6d", size=6, source="external"),
    ObservationTerm(name="object_vel", size=3, source="external", unit="m/s"),
)
"""Place, first two columns of the rotation (Zhou et al., CVPR 2019: continuous, unlike angles), velocity."""


class ObjectEnv(GoalEnv):
    """A task whose goal is a place for the cube's middle."""

    achieved = "object_pos"

    def __init__(self, *, description: RobotDescription, table: Table, **kwargs: Any) -> None:
        self._table = table
        self.tolerance_m = round(TOLERANCE_M * table.scale, 6)
        self._motion = ToolMotion(description.kinematics(), table.tool)
        self._kinematics = ForwardKinematics(description.kinematics())
        self._joint_limits = description.limits("position_min_rad"), description.limits("position_max_rad")
        super().__init__(description=description, **kwargs)

    def put_down(self) -> None:
        """Lay the cube anywhere on the table, but not where the tool is."""
        tool = self.robot.tool_position()
        cube = self._on_table()
        while np.linalg.norm(tool[:2] - cube[:2]) <= self._table.clearance_m:
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
            place = self.np_random.uniform(self._table.tool.low_m, self._table.tool.high_m)
            if np.linalg.norm(place[:2] - cube[:2]) > self._table.clearance_m:
                start = moved_to(
                    place, np.array(self._table.tool.posture_rad), self._motion, self._kinematics
                )
                if start is not None and np.array_equal(start, np.clip(start, *self._joint_limits)):
                    return start

    def _draw_yaw(self) -> float:
        return self.np_random.uniform(-np.pi, np.pi)

    def _on_table(self) -> Vector:
        """Somewhere for a cube that lies on the table."""
        height = self.robot.table_height_m + self._table.cube.half_size_m
        return np.array([*self.np_random.uniform(self._table.low_m, self._table.high_m), height])

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
