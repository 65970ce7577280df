"""Reach: move the tool to a goal in free space."""

import math
from typing import Unpack

import numpy as np

from wpg.export.interface import GoalSpec, PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription, RobotSource, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.goal_env import EnvOptions, GoalEnv, given_vector
from wpg.sim_envs.tasks.interface import (
    CONTROL_DT_S,
    GOAL_TERM,
    ControlName,
    arm_action,
    arm_terms,
    tool_control,
)

ACTION_SCALE_RAD = 0.05
"""Half of the other tasks' scale: the tool has to stay within 2 cm, and 2.5 s suffice to get there."""
BUS_ACTION_SCALE_RAD = 0.1
"""Action scale of arms with bus servos, which lag; :func:`with_target_history` reduces it."""
START_SPREAD_RAD = 0.4
"""Each joint starts within this distance of its home position."""
LIMIT_MARGIN_RAD = 0.1
"""A given start may lie this far outside a joint's limits, as the readings of a real arm's sensors may."""
START_MARGIN_M = 0.1
"""The tool may start this far outside the box of the goals."""
BOX_LOW_M, BOX_HIGH_M = (-0.06, -0.20, -0.29), (0.24, 0.20, 0.06)
"""Box of the goals for an arm of full size, relative to the tool's position at home."""
FULL_SIZE_M = 0.75
"""Arms of at least this length from the second joint to the tool have full size; smaller ones get smaller
tasks."""
LOWEST_M = 0.02
"""Least height above the table of goals and starts."""
TOLERANCE_M = 0.02


def reach_goal(description: RobotDescription) -> GoalSpec:
    """The robot's goal specification, with the box in whole centimetres."""
    home = ForwardKinematics(description.kinematics()).tool_position(description.limits("home_rad"))
    size = arm_size(description)
    low = np.round(home + size * np.array(BOX_LOW_M), 2)
    low[2] = max(low[2], LOWEST_M)
    return GoalSpec(
        achieved="tool_pos",
        low=tuple(low.tolist()),
        high=tuple(np.round(home + size * np.array(BOX_HIGH_M), 2).tolist()),
        tolerance_m=TOLERANCE_M,
        start_spread_rad=START_SPREAD_RAD,
        horizon_steps=TASKS["PandaReach"].horizon,
    )


def reach_box(goal: GoalSpec) -> tuple[Vector, Vector]:
    """Lowest and highest corner, (3,) m each, of the box where the tool may start or be sent."""
    low, high = np.array(goal.low) - START_MARGIN_M, np.array(goal.high) + START_MARGIN_M
    low[2] = max(low[2], LOWEST_M)
    return low, high


def arm_size(description: RobotDescription) -> float:
    """Length from the second joint to the tool as a share of a full-sized arm's, at most 1."""
    offsets = [*(joint.frame.xyz_m for joint in description.joints[1:]), description.tool.xyz_m]
    return min(1.0, sum(math.hypot(*offset) for offset in offsets) / FULL_SIZE_M)


def reach_interface(description: RobotDescription, control: ControlName = "joints") -> PolicyInterface:
    """Observation and action of a reach policy on this robot."""
    goal = reach_goal(description)
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), GOAL_TERM),
        action=arm_action(
            control,
            tool_control(description, description.limits("home_rad"), *reach_box(goal)),
            joint_scale_rad=ACTION_SCALE_RAD if description.bus is None else BUS_ACTION_SCALE_RAD,
        ),
        control_dt_s=CONTROL_DT_S,
        goal=goal,
    )


class ReachEnv(GoalEnv):
    """Reach a goal drawn from a box, with any described arm on either engine.

    The arm starts at rest at any position where it might stand after another goal, because on hardware nobody
    returns it to its home between two goals.

    Args:
        robot: a robot's name, the path of its description, or the content of one.
        control: what actions move: the ``joints`` or the ``tool``.
        options: see :class:`~wpg.sim_envs.tasks.goal_env.EnvOptions`.
    """

    achieved = "tool_pos"
    tolerance_m = TOLERANCE_M

    def __init__(
        self,
        *,
        robot: RobotSource = "panda",
        control: ControlName = "joints",
        **options: Unpack[EnvOptions],
    ) -> None:
        description = load_description(robot)
        self._home = description.limits("home_rad")
        self._joint_limits = description.limits("position_min_rad"), description.limits("position_max_rad")
        self._kinematics = ForwardKinematics(description.kinematics())
        self._goals = reach_goal(description)
        super().__init__(
            description=description,
            interface=reach_interface(description, control),
            **options,
        )

    def _start_episode(self) -> Vector:
        given = given_vector(self._options, "joint_pos_rad", len(self._home))
        start = self._draw_start() if given is None else self._within_limits(given)
        self.robot.reset(start)
        return start

    def _draw_start(self) -> Vector:
        low, high = reach_box(self._goals)
        while True:
            spread = self.np_random.uniform(-START_SPREAD_RAD, START_SPREAD_RAD, len(self._home))
            start: Vector = np.clip(self._home + spread, *self._joint_limits)
            tool = self._kinematics.tool_position(start)
            if (tool >= low).all() and (tool <= high).all():
                return start

    def _within_limits(self, start: Vector) -> Vector:
        """Return the start, or raise ValueError if a joint lies too far outside its limits."""
        for joint, position in zip(self.robot.description.joints, start.tolist(), strict=True):
            low, high = joint.position_min_rad, joint.position_max_rad
            if not low - LIMIT_MARGIN_RAD <= position <= high + LIMIT_MARGIN_RAD:
                raise ValueError(
                    f"joint_pos_rad: expected {joint.name} from {low} to {high}, found {position}"
                )
        return start

    def _draw_goal(self) -> Vector:
        return self.np_random.uniform(self._goals.low, self._goals.high)
