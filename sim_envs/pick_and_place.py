"""Pick and place: grasp a cube and hold it at a goal, on the table or above it."""

import numpy as np

from wpg.export.interface import ObservationTerm, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import EffectsSource
from wpg.sim_envs.engines import EngineName
from wpg.sim_envs.goal_env import RenderMode, RewardName
from wpg.sim_envs.object_env import OBJECT_TERMS, ObjectEnv
from wpg.sim_envs.scene import Scene
from wpg.sim_envs.table import Table, lay_table
from wpg.sim_envs.task_interface import (
    CONTROL_DT_S,
    GOAL_TERM,
    ControlName,
    arm_action,
    arm_terms,
    with_gripper,
)

POSTURE_TOOL_M = (np.array([0.45, 0.0, 0.15]),)
HIGHEST_M = 0.20
"""Of goals above the table."""
HIGHEST_TOOL_M = 0.30
ON_TABLE = 0.3
"""Share of goals that lie on the table."""
SHORTEST_WAY_M = 0.08


def pick_and_place_table(description: RobotDescription) -> Table:
    """Where this robot grasps: the gripper points down, and stays over the table.

    Raises:
        DescriptionError: the arm cannot, or has no gripper.
    """
    if description.gripper is None:
        raise DescriptionError(f"robot {description.name} cannot pick and place: it has no [gripper] table")
    return lay_table(description, POSTURE_TOOL_M, HIGHEST_TOOL_M)


def pick_and_place_interface(
    description: RobotDescription, table: Table, control: ControlName = "tool"
) -> PolicyInterface:
    """What such a policy sees and commands on this robot; on hardware the cube needs a source."""
    assert description.gripper is not None
    opening = ObservationTerm(name="gripper", size=1, source="gripper", unit="m")
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), opening, *OBJECT_TERMS, GOAL_TERM),
        action=with_gripper(arm_action(control, table.tool), description.gripper),
        control_dt_s=CONTROL_DT_S,
    )


class PickAndPlaceEnv(ObjectEnv):
    """Bring a 4 cm cube of 0.2 kg to within 5 cm of a goal, seven in ten of which hang in the air.

    The gripper starts open, anywhere over the table but not over the cube, and points down. The last entry of
    the action is its opening, from closed at -1 to open at 1.

    Args:
        engine: which physics.
        reward: ``sparse`` or ``dense``.
        robot: the name or TOML file of a robot with a gripper.
        control: what actions move beside the gripper: the ``tool``, or the ``joints``.
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
        table = pick_and_place_table(description)
        super().__init__(
            description=description,
            table=table,
            engine=engine,
            scene=Scene(cube=table.cube, gripper=True),
            interface=pick_and_place_interface(description, table, control),
            reward=reward,
            render_mode=render_mode,
            effects=effects,
            target_history=target_history,
        )

    def _draw_goal(self) -> Vector:
        cube = self.robot.cube_state().position_m
        while True:
            goal = self._on_table()
            if self.np_random.random() > ON_TABLE:
                goal[2] += self.np_random.uniform(0.0, self._table.scale * HIGHEST_M)
            if np.linalg.norm(goal - cube) >= self._table.scale * SHORTEST_WAY_M:
                return goal
