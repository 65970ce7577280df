"""What tasks with a cube on the table share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wpg.export.interface import ObservationTerm
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.actuator import DelayLine
from wpg.sim_envs.goal_env import GoalEnv
from wpg.sim_envs.reach import arm_size
from wpg.sim_envs.scene import Cube

CUBE = Cube(half_size_m=0.02, mass_kg=0.2, rgba=(0.20, 0.40, 0.85, 1.0))
START_NOISE_RAD = 0.02
AREA_LOW_M, AREA_HIGH_M = (0.40, -0.15), (0.60, 0.15)
"""Where cubes and goals lie on the table, for an arm of full size."""
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


class ObjectEnv(GoalEnv):
    """A task whose goal is a place for the cube's middle."""

    achieved = "object_pos"
    _start_pos: Vector
    """Where the arm starts, but for a little noise, (num_joints,) rad."""
    _table_scale: float
    """Of all distances on the table; 1 for an arm of full size."""

    def __init__(self, *, scale: float = 1.0, **kwargs: Any) -> None:
        self._table_scale = scale
        self.tolerance_m = TOLERANCE_M * scale
        super().__init__(**kwargs)

    def _start(self) -> Vector:
        noise = self.np_random.uniform(-START_NOISE_RAD, START_NOISE_RAD, len(self._start_pos))
        start: Vector = self._start_pos + noise
        self.robot.reset(start)
        self.robot.place_cube(self._on_table(), self._draw_yaw())
        self._line = DelayLine(self._observation_delay_s)
        self._line.restart(self._seen())
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
