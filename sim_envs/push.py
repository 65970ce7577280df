"""Push: slide a cube over the table to a goal, with the gripper closed."""

import numpy as np

from wpg.export.interface import GoalSpec, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import EffectsSource
from wpg.sim_envs.engines import EngineName
from wpg.sim_envs.goal_env import RenderMode, RewardName
from wpg.sim_envs.object_env import OBJECT_TERMS, TOLERANCE_M, ObjectEnv
from wpg.sim_envs.registration import PUSH_STEPS
from wpg.sim_envs.scene import Scene
from wpg.sim_envs.table import Table, lay_table
from wpg.sim_envs.task_interface import CONTROL_DT_S, GOAL_TERM, ControlName, arm_action, arm_terms

POSTURE_TOOL_M = tuple(np.array([x, 0.0, 0.06]) for x in (0.33, 0.36, 0.40))
"""Where the tool is in the arm's posture; the later ones for arms that do not get so near."""
HIGHEST_TOOL_M = 0.12
SHORTEST_WAY_M = 0.10
"""Cube and goal are at least this far apart, so that doing nothing never succeeds; less for small arms."""


def push_table(description: RobotDescription) -> Table:
    """Where this robot pushes: the tool points down, and stays low.

    Raises:
        DescriptionError: the arm cannot.
    """
    return lay_table(description, POSTURE_TOOL_M, HIGHEST_TOOL_M)


def push_interface(
    description: RobotDescription, table: Table, control: ControlName = "tool"
) -> PolicyInterface:
    """What a push policy sees and commands on this robot; on hardware the cube needs a source."""
    low, high = table.corners()
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), *OBJECT_TERMS, GOAL_TERM),
        action=arm_action(control, table.tool),
        control_dt_s=CONTROL_DT_S,
        goal=GoalSpec(
            achieved="object_pos",
            low=low,
            high=high,
            tolerance_m=round(TOLERANCE_M * table.scale, 6),
            distance_min_m=round(SHORTEST_WAY_M * table.scale, 6),
            start_clearance_m=table.clearance_m,
            horizon_steps=PUSH_STEPS,
        ),
    )


class PushEnv(ObjectEnv):
    """Push a 4 cm cube of 0.2 kg to within 5 cm of a goal on the table, on either engine.

    The arm starts with its tool anywhere over the table, but not over the cube.

    The area lies where the arm reaches it from every side; where it has to be smaller, so are ways and
    tolerance. Arms shorter than 75 cm push a cube of 2.5 cm.

    Args:
        engine: which physics.
        reward: ``sparse`` or ``dense``.
        robot: a shipped robot's name or the path of a TOML file.
        control: what actions move: the ``tool``, or the ``joints``.
        effects: what sets the arm apart from its model, or an ``actuators.toml``: its content, or its path.
        target_history: for an arm that answers late, how many of the last joint targets are seen; None: as
            many as the effects' longest delay asks for.
        render_mode: None, ``rgb_array``, or ``human`` for a window.
    """

    def __init__(
        self,
        *,
        engine: EngineName = "mujoco",
        reward: RewardName = "sparse",
        robot: str = "panda",
        control: ControlName = "tool",
        effects: EffectsSource = None,
        target_history: int | None = None,
        render_mode: RenderMode = None,
    ) -> None:
        description = load_description(robot)
        table = push_table(description)
        super().__init__(
            description=description,
            table=table,
            engine=engine,
            scene=Scene(cube=table.cube),
            interface=push_interface(description, table, control),
            reward=reward,
            render_mode=render_mode,
            effects=effects,
            target_history=target_history,
        )

    def _draw_goal(self) -> Vector:
        cube = self.robot.cube_state().position_m
        while True:
            goal = self._on_table()
            if np.linalg.norm(goal - cube) >= self._table.scale * SHORTEST_WAY_M:
                return goal
