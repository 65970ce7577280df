"""Push: slide a cube over the table to a goal, with the gripper closed."""

import numpy as np

from wpg.export.interface import GoalSpec, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.interface import CONTROL_DT_S, GOAL_TERM, ControlName, arm_action, arm_terms
from wpg.sim_envs.tasks.object_env import OBJECT_TERMS, TOLERANCE_M, ObjectEnv
from wpg.sim_envs.tasks.table import Table, lay_table

POSTURE_TOOL_M = tuple(np.array([x, 0.0, 0.06]) for x in (0.33, 0.36, 0.40))
"""Candidate positions of the tool in the rest posture; the later ones suit arms that cannot reach so near."""
HIGHEST_TOOL_M = 0.12
DISTANCE_MIN_M = 0.10


def push_table(description: RobotDescription) -> Table:
    """The table on which this robot pushes; the tool points down and stays low.

    Raises:
        DescriptionError: the arm cannot push.
    """
    return lay_table(description, POSTURE_TOOL_M, HIGHEST_TOOL_M)


def push_interface(
    description: RobotDescription, table: Table, control: ControlName = "tool"
) -> PolicyInterface:
    """Observation and action of a push policy; on hardware a source has to send the cube's pose."""
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
            distance_min_m=round(DISTANCE_MIN_M * table.scale, 6),
            start_clearance_m=table.clearance_m,
            horizon_steps=TASKS["PandaPush"].horizon,
        ),
    )


class PushEnv(ObjectEnv):
    """Push a 4 cm cube of 0.2 kg to within 5 cm of a goal on the table, on either engine.

    The arm starts with its tool anywhere above the table, but not above the cube.

    The area of cube and goal is one that the arm reaches from every side. If it has to be smaller than the
    full size, distances and tolerance shrink with it. Arms shorter than 75 cm push a cube of 2.5 cm.
    """

    gripper = False
    distance_min_m = DISTANCE_MIN_M
    _lay_table = staticmethod(push_table)
    _interface_at = staticmethod(push_interface)

    def _draw_goal_place(self) -> Vector:
        return self._draw_cube_place()
