"""Pick and place: grasp a cube and hold it at a goal, on the table or above it."""

import numpy as np

from wpg.export.interface import GoalSpec, ObservationTerm, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.interface import (
    CONTROL_DT_S,
    GOAL_TERM,
    ControlName,
    arm_action,
    arm_terms,
    with_gripper,
)
from wpg.sim_envs.tasks.object_env import OBJECT_TERMS, TOLERANCE_M, ObjectEnv
from wpg.sim_envs.tasks.reach import arm_size
from wpg.sim_envs.tasks.table import Table, lay_table

POSTURE_TOOL_M = tuple(np.array([x, 0.0, z]) for x, z in ((0.45, 0.15), (0.36, 0.06)))
"""Candidate positions of the tool in the rest posture; the later one suits arms that cannot point down so far
out."""
HIGHEST_M = 0.20
"""Greatest height of goals above the table, in m."""
HIGHEST_TOOL_M, HIGHEST_TOOL_SMALL_M = 0.30, 0.12
"""Top of the tool's box, for arms of full size and for shorter ones."""
ON_TABLE = 0.3
"""Share of goals that lie on the table."""
DISTANCE_MIN_M = 0.08


def pick_and_place_table(description: RobotDescription) -> Table:
    """The table on which this robot grasps; the gripper points down and stays above the table.

    Raises:
        DescriptionError: the arm cannot do this, or has no gripper.
    """
    if description.gripper is None:
        raise DescriptionError(f"robot {description.name} cannot pick and place: it has no [gripper] table")
    highest_m = HIGHEST_TOOL_M if arm_size(description) == 1.0 else HIGHEST_TOOL_SMALL_M
    return lay_table(description, POSTURE_TOOL_M, highest_m)


def pick_and_place_interface(
    description: RobotDescription, table: Table, control: ControlName = "tool"
) -> PolicyInterface:
    """Observation and action of a pick-and-place policy; on hardware a source has to send the cube's pose."""
    assert description.gripper is not None
    opening = ObservationTerm(name="gripper", size=1, source="gripper", unit="m")
    low, (x, y, z) = table.corners()
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), opening, *OBJECT_TERMS, GOAL_TERM),
        action=with_gripper(arm_action(control, table.tool), description.gripper),
        control_dt_s=CONTROL_DT_S,
        goal=GoalSpec(
            achieved="object_pos",
            low=low,
            high=(x, y, round(z + table.scale * HIGHEST_M, 6)),
            tolerance_m=round(TOLERANCE_M * table.scale, 6),
            distance_min_m=round(DISTANCE_MIN_M * table.scale, 6),
            start_clearance_m=table.clearance_m,
            horizon_steps=TASKS["PandaPickAndPlace"].horizon,
        ),
    )


class PickAndPlaceEnv(ObjectEnv):
    """Bring a 4 cm cube of 0.2 kg to within 5 cm of a goal; seven in ten goals are above the table.

    The gripper starts open and pointing down, anywhere above the table but not above the cube. The last entry
    of the action is its opening, from closed at -1 to open at 1.
    """

    gripper = True
    distance_min_m = DISTANCE_MIN_M
    _lay_table = staticmethod(pick_and_place_table)
    _interface_at = staticmethod(pick_and_place_interface)

    def _draw_goal_place(self) -> Vector:
        place = self._draw_cube_place()
        if self.np_random.random() > ON_TABLE:
            place[2] += self.np_random.uniform(0.0, self._table.scale * HIGHEST_M)
        return place
