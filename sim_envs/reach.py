"""Reach: move the tool to a goal in free space."""

from wpg.export.interface import GoalSpec, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.goal_env import (
    CONTROL_DT_S,
    GOAL_TERM,
    GoalEnv,
    RenderMode,
    RewardName,
    arm_terms,
    joint_deltas,
)
from wpg.sim_envs.registration import REACH_STEPS

START_NOISE_RAD = 0.05
GOAL = GoalSpec(
    achieved="tool_pos",
    low=(0.25, -0.20, 0.20),
    high=(0.55, 0.20, 0.55),
    tolerance_m=0.02,
    horizon_steps=REACH_STEPS,
)


def reach_interface(description: RobotDescription) -> PolicyInterface:
    """What a reach policy sees and commands on this robot."""
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(*arm_terms(description.num_joints), GOAL_TERM),
        action=joint_deltas(description.num_joints),
        control_dt_s=CONTROL_DT_S,
        goal=GOAL,
    )


class ReachEnv(GoalEnv):
    """Reach with any described arm on either engine; it starts near home, the goal comes from a box.

    Args:
        engine: which physics.
        reward: ``sparse`` or ``dense``.
        robot: a shipped robot's name or the path of a TOML file.
        render_mode: None or ``rgb_array``.
    """

    achieved = GOAL.achieved
    tolerance_m = GOAL.tolerance_m

    def __init__(
        self,
        *,
        engine: EngineName = "mujoco",
        reward: RewardName = "sparse",
        robot: str = "panda",
        render_mode: RenderMode = None,
    ) -> None:
        description = load_description(robot)
        self._home = description.limits("home_rad")
        super().__init__(
            robot=make_robot(description, engine, visuals=render_mode is not None),
            interface=reach_interface(description),
            reward=reward,
            render_mode=render_mode,
        )

    def _start(self) -> Vector:
        noise = self.np_random.uniform(-START_NOISE_RAD, START_NOISE_RAD, len(self._home))
        start: Vector = self._home + noise
        self.robot.reset(start)
        return start

    def _draw_goal(self) -> Vector:
        return self.np_random.uniform(GOAL.low, GOAL.high)
