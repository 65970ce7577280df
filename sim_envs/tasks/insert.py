"""Insert: put the peg at the tool into a hole."""

from typing import Unpack

import numpy as np

from wpg.export.interface import GoalSpec, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, RobotSource, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import load_effects, spread_of
from wpg.sim_envs.models.scene import Peg, Scene
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.goal_env import EnvOptions, GoalEnv
from wpg.sim_envs.tasks.interface import (
    CONTROL_DT_S,
    GOAL_TERM,
    ControlName,
    arm_action,
    arm_terms,
    tool_control,
)
from wpg.sim_envs.tasks.poses import tool_down

START_NOISE_RAD = 0.05
START_TOOL_M = np.array([0.50, 0.0, 0.18])
AREA_LOW_M, AREA_HIGH_M = (0.42, -0.12), (0.58, 0.12)
"""Corners of the area in which the hole is."""
TOOL_BOX_M = (np.array([0.35, -0.2, 0.0]), np.array([0.65, 0.2, 0.3]))
"""Corners of the box in which tool control may move the tool."""
DEPTH_M = 0.03
"""Depth of the peg's tip in the hole when the tool is at the goal."""
TOLERANCE_M = 0.005


def insert_interface(
    description: RobotDescription,
    control: ControlName = "tool",
    *,
    peg: Peg,
    table_height_m: tuple[float, float] = (0.0, 0.0),
) -> PolicyInterface:
    """Observation and action of an insertion policy on this robot.

    With joint control the interface has no place for the posture in which training starts. It then has no
    goal specification, and the bridge does not send the policy to goals.

    Args:
        description: the robot.
        control: what actions move.
        peg: peg and hole.
        table_height_m: lowest and highest table.
    """
    low_m, high_m = (round(height + _tool_height_m(peg), 6) for height in table_height_m)
    goal = GoalSpec(
        achieved=InsertEnv.achieved,
        low=(*AREA_LOW_M, low_m),
        high=(*AREA_HIGH_M, high_m),
        tolerance_m=TOLERANCE_M,
        start_spread_rad=START_NOISE_RAD,
        given=True,
        horizon_steps=TASKS["PandaInsert"].horizon,
    )
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), GOAL_TERM),
        action=arm_action(
            control, tool_control(description, tool_down(description, START_TOOL_M), *TOOL_BOX_M)
        ),
        control_dt_s=CONTROL_DT_S,
        goal=goal if control == "tool" else None,
    )


def _tool_height_m(peg: Peg) -> float:
    """Height of the tool above the table when the peg is in the hole."""
    return peg.block_height_m - DEPTH_M + peg.length_m


class InsertEnv(GoalEnv):
    """Put a round peg of 2 cm diameter, fixed to the tool, 3 cm deep into a square hole.

    The goal is the position of the tool when the peg is in the hole. The block with the hole stands anywhere
    in front of the arm and cannot be moved.

    Args:
        robot: a robot's name, the path of its description, or the content of one.
        control: what actions move: the ``tool`` or the ``joints``.
        clearance_m: side of the hole minus diameter of the peg.
        options: see :class:`~wpg.sim_envs.tasks.goal_env.EnvOptions`.
    """

    achieved = "tool_pos"
    tolerance_m = TOLERANCE_M

    def __init__(
        self,
        *,
        robot: RobotSource = "panda",
        control: ControlName = "tool",
        clearance_m: float = 0.004,
        **options: Unpack[EnvOptions],
    ) -> None:
        description = load_description(robot)
        self._peg = Peg(clearance_m=clearance_m)
        effects = options["effects"] = load_effects(options.get("effects"), description)
        height = spread_of((effects.table_height_m if effects else None) or 0.0)
        self._start_pos = tool_down(description, START_TOOL_M)
        super().__init__(
            description=description,
            scene=Scene(peg=self._peg),
            interface=insert_interface(
                description, control, peg=self._peg, table_height_m=(height.low, height.high)
            ),
            **options,
        )

    def _start_episode(self) -> Vector:
        noise = self.np_random.uniform(-START_NOISE_RAD, START_NOISE_RAD, len(self._start_pos))
        start: Vector = self._start_pos + noise
        self.robot.reset(start)
        x, y = self.np_random.uniform(AREA_LOW_M, AREA_HIGH_M)
        self._block_place = np.array([x, y, self.robot.table_height_m])
        self.put_block()
        return start

    def put_block(self) -> None:
        """Put the block with its hole at the goal of the episode; resetting the robot removes the block."""
        self.robot.place_block(self._block_place)

    def _draw_goal(self) -> Vector:
        inserted: Vector = self._block_place + np.array([0.0, 0.0, _tool_height_m(self._peg)])
        return inserted
