"""Push: slide a cube over the table to a goal, with the gripper closed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wpg.export.interface import ObservationTerm, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import Effects, load_effects
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
from wpg.sim_envs.poses import tool_down
from wpg.sim_envs.scene import Cube

CUBE = Cube(half_size_m=0.02, mass_kg=0.2, rgba=(0.20, 0.40, 0.85, 1.0))
START_TOOL_M = np.array([0.33, 0.0, 0.06])
START_NOISE_RAD = 0.02
AREA_LOW_M, AREA_HIGH_M = (0.40, -0.15), (0.60, 0.15)
"""Where cube and goal lie on the table."""
SHORTEST_WAY_M = 0.10
"""Cube and goal are at least this far apart, so that doing nothing never succeeds."""


def push_interface(description: RobotDescription) -> PolicyInterface:
    """What a push policy sees and commands on this robot; on hardware the cube needs a source."""
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(
            *arm_terms(description.num_joints),
            ObservationTerm(name="object_pos", size=3, source="external", unit="m"),
            ObservationTerm(name="object_rot6d", size=6, source="external"),
            ObservationTerm(name="object_vel", size=3, source="external", unit="m/s"),
            GOAL_TERM,
        ),
        action=joint_deltas(description.num_joints),
        control_dt_s=CONTROL_DT_S,
    )


class PushEnv(GoalEnv):
    """Push a 4 cm cube of 0.2 kg to within 5 cm of a goal on the table, on either engine.

    Beside the arm's terms the observation has the cube's place, the first two columns of its rotation (Zhou
    et al., CVPR 2019: continuous, unlike angles) and its velocity.

    Args:
        engine: which physics.
        reward: ``sparse`` or ``dense``.
        robot: a shipped robot's name or the path of a TOML file.
        effects: what sets the arm apart from its model, or the path of an ``actuators.toml``.
        render_mode: None or ``rgb_array``.
    """

    achieved = "object_pos"
    tolerance_m = 0.05

    def __init__(
        self,
        *,
        engine: EngineName = "mujoco",
        reward: RewardName = "sparse",
        robot: str = "panda",
        effects: Effects | str | Path | None = None,
        render_mode: RenderMode = None,
    ) -> None:
        description = load_description(robot)
        effects = load_effects(effects, description)
        self._start_pos = tool_down(description, START_TOOL_M)
        super().__init__(
            robot=make_robot(
                description,
                engine,
                visuals=render_mode is not None,
                cube=CUBE,
                payload=effects is not None,
            ),
            interface=push_interface(description),
            reward=reward,
            render_mode=render_mode,
            effects=effects,
        )

    def _start(self) -> Vector:
        noise = self.np_random.uniform(-START_NOISE_RAD, START_NOISE_RAD, len(self._start_pos))
        start: Vector = self._start_pos + noise
        self.robot.reset(start)
        self.robot.place_cube(self._somewhere(), self.np_random.uniform(-np.pi, np.pi))
        return start

    def _draw_goal(self) -> Vector:
        cube = self.robot.cube_state().position_m
        while True:
            goal = self._somewhere()
            if np.linalg.norm(goal - cube) >= SHORTEST_WAY_M:
                return goal

    def _somewhere(self) -> Vector:
        return np.array([*self.np_random.uniform(AREA_LOW_M, AREA_HIGH_M), CUBE.half_size_m])

    def _external(self) -> Mapping[str, Vector]:
        state = self.robot.cube_state()
        return {
            "object_pos": state.position_m,
            "object_rot6d": state.rotation[:, :2].T.ravel(),
            "object_vel": state.velocity_m_s,
        }
