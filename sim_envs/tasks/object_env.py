"""Base class of the tasks with a cube on the table."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Unpack

import numpy as np

from wpg.export.interface import ObservationTerm, PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription, RobotSource, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.tool_motion import ToolMotion
from wpg.sim_envs.effects import Effects, load_effects, spread_of
from wpg.sim_envs.engines.actuator import DelayLine
from wpg.sim_envs.errors import EffectsError
from wpg.sim_envs.models.scene import Scene
from wpg.sim_envs.tasks.goal_env import EnvOptions, GoalEnv
from wpg.sim_envs.tasks.interface import ControlName
from wpg.sim_envs.tasks.poses import joint_pos_at
from wpg.sim_envs.tasks.table import Table

TOLERANCE_M = 0.05
OBJECT_TERMS = (
    ObservationTerm(name="object_pos", size=3, source="external", unit="m"),
    ObservationTerm(name="object_rot6d", size=6, source="external"),
    ObservationTerm(name="object_vel", size=3, source="external", unit="m/s"),
)
"""Position, first two columns of the rotation matrix (continuous, unlike angles: Zhou et al., CVPR 2019), and
velocity of the cube."""


class ObjectEnv(GoalEnv):
    """A task whose goal is a position of the cube's centre.

    Args:
        robot: a robot's name, the path of its description, or the content of one.
        control: what actions move: the ``tool`` or the ``joints``.
        options: see :class:`~wpg.sim_envs.tasks.goal_env.EnvOptions`.

    Raises:
        EffectsError: the effects are invalid, or put the table too low or too high for the tool.
    """

    achieved = "object_pos"
    gripper: bool
    """Whether actions open and close the gripper."""
    distance_min_m: float
    """Least distance between cube and goal, above the tolerance so that doing nothing never succeeds; it is
    scaled down for small arms."""

    def __init__(
        self,
        *,
        robot: RobotSource = "panda",
        control: ControlName = "tool",
        **options: Unpack[EnvOptions],
    ) -> None:
        description = load_description(robot)
        effects = options["effects"] = load_effects(options.get("effects"), description)
        self._table = table = self._lay_table(description)
        interface = self._interface_at(description, table, control)
        _require_reach(effects, table, interface)
        self.tolerance_m = round(TOLERANCE_M * table.scale, 6)
        self._motion = ToolMotion(description.kinematics(), table.tool)
        self._kinematics = ForwardKinematics(description.kinematics())
        self._joint_limits = description.limits("position_min_rad"), description.limits("position_max_rad")
        super().__init__(
            description=description,
            scene=Scene(cube=table.cube, gripper=self.gripper),
            interface=interface,
            **options,
        )

    @staticmethod
    @abstractmethod
    def _lay_table(description: RobotDescription) -> Table:
        """Lay out the table for this robot.

        Raises:
            DescriptionError: the robot cannot do the task.
        """

    @staticmethod
    @abstractmethod
    def _interface_at(description: RobotDescription, table: Table, control: ControlName) -> PolicyInterface:
        """The policy's observation and action on this robot."""

    @abstractmethod
    def _draw_goal_place(self) -> Vector:
        """Draw a position for a goal regardless of the cube's, (3,) m."""

    def put_down_cube(self) -> None:
        """Put the cube at a random place on the table, clear of the tool."""
        tool = self.robot.tool_position()
        cube = self._draw_cube_place()
        while np.linalg.norm(tool[:2] - cube[:2]) <= self._table.clearance_m:
            cube = self._draw_cube_place()
        self.robot.place_cube(cube, self._draw_yaw())

    def _start_episode(self) -> Vector:
        cube = self._draw_cube_place()
        start = self._draw_start(cube)
        self.robot.reset(start)
        self.robot.place_cube(cube, self._draw_yaw())
        self._delay_line = DelayLine(self._observation_delay_s)
        self._delay_line.restart(self._cube_terms())
        return start

    def _draw_goal(self) -> Vector:
        cube = self.robot.cube_state().position_m
        while True:
            goal = self._draw_goal_place()
            if np.linalg.norm(goal - cube) >= self._table.scale * self.distance_min_m:
                return goal

    def _draw_start(self, cube: Vector) -> Vector:
        """Draw joint positions, (num_joints,) rad, with the tool in its box and clear of table and cube."""
        low, high = self._table.tool.low_m, self._table.tool.high_m
        lowest = self.robot.table_height_m + low[2]
        while True:
            place = self.np_random.uniform(low, high)
            if place[2] >= lowest and np.linalg.norm(place[:2] - cube[:2]) > self._table.clearance_m:
                start = joint_pos_at(
                    place, np.array(self._table.tool.posture_rad), self._motion, self._kinematics
                )
                if start is not None and np.array_equal(start, np.clip(start, *self._joint_limits)):
                    return start

    def _draw_yaw(self) -> float:
        return self.np_random.uniform(-np.pi, np.pi)

    def _draw_cube_place(self) -> Vector:
        """Draw a position for the centre of a cube that lies on the table, (3,) m."""
        height = self.robot.table_height_m + self._table.cube.half_size_m
        return np.array([*self.np_random.uniform(self._table.low_m, self._table.high_m), height])

    def _external_terms(self) -> Mapping[str, Vector]:
        row = self._cube_terms()
        if self._observation_delay_s:
            self._delay_line.push(self._state.time_s, row)
            row = self._delay_line.at(self._state.time_s)
        return {"object_pos": row[:3], "object_rot6d": row[3:9], "object_vel": row[9:]}

    def _cube_terms(self) -> Vector:
        """The observation terms of the cube, concatenated, (12,)."""
        state = self.robot.cube_state()
        return np.concatenate([state.position_m, state.rotation[:, :2].T.ravel(), state.velocity_m_s])

    def _true_achieved_goal(self) -> Vector:
        return self.robot.cube_state().position_m


def _require_reach(effects: Effects | None, table: Table, interface: PolicyInterface) -> None:
    if effects is None or effects.table_height_m is None:
        return
    assert interface.goal is not None
    low, high = table.height_range_m(interface.goal.high[2])
    found = spread_of(effects.table_height_m)
    if not low <= found.low <= found.high <= high:
        raise EffectsError(
            f"effects: table_height_m: expected {low:.4g} to {high:.4g} for the tool to get to cube and goals"
            f", found {found.low if found.low < low else found.high:g}"
        )
