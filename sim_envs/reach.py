"""Reach: move the tool to a goal in free space."""

from typing import Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from wpg.export.contract import ActionTerm, GoalSpec, ObservationTerm, PolicyInterface
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.pipeline import ActionPipeline, ObservationPipeline
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.registration import HORIZON_STEPS
from wpg.sim_envs.scene import GOAL_RGBA, TOOL_RADIUS_M, TOOL_RGBA, Marker

Observation = dict[str, NDArray[np.float32]]
Action = NDArray[np.float32]
RewardName = Literal["sparse", "dense"]

CONTROL_DT_S = 0.05
ACTION_SCALE_RAD = 0.1
START_NOISE_RAD = 0.05
GOAL = GoalSpec(
    achieved="tool_pos",
    low=(0.25, -0.20, 0.20),
    high=(0.55, 0.20, 0.55),
    tolerance_m=0.02,
    horizon_steps=HORIZON_STEPS,
)


def reach_interface(description: RobotDescription) -> PolicyInterface:
    """What a reach policy sees and commands on this robot."""
    n = description.num_joints
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(
            ObservationTerm(name="joint_pos", size=n, source="joint_pos", unit="rad"),
            ObservationTerm(name="joint_vel", size=n, source="joint_vel", unit="rad/s"),
            ObservationTerm(name="tool_pos", size=3, source="tool_pos", unit="m"),
            ObservationTerm(name="goal", size=3, source="goal", unit="m"),
        ),
        action=ActionTerm(
            mode="joint_position_delta",
            size=n,
            unit="rad",
            scale=(ACTION_SCALE_RAD,) * n,
            offset=(0.0,) * n,
        ),
        control_dt_s=CONTROL_DT_S,
        goal=GOAL,
    )


class ReachEnv(gymnasium.Env[Observation, Action]):
    """Reach with any described arm on either engine.

    A step is one policy period, run as the control loop runs it on hardware: the action sets a joint target,
    and at every servo tick the set-point generator moves towards it and the robot follows. The observation is
    made by the pipeline that makes it on hardware, with the tool's place by forward kinematics.

    Observation: ``observation`` (2 * num_joints + 3,) joint positions (rad), velocities (rad/s), tool (m);
    ``achieved_goal`` (3,) the tool; ``desired_goal`` (3,). Action: (num_joints,) in [-1, 1], of 0.1 rad each.

    Args:
        engine: which physics.
        reward: ``sparse``, -1 until the tool is within the tolerance and 0 there, or ``dense``, minus the
            distance in m.
        robot: a shipped robot's name or the path of a TOML file.
        render_mode: None or ``rgb_array``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_DT_S)}  # noqa: RUF012

    def __init__(
        self,
        *,
        engine: EngineName = "mujoco",
        reward: RewardName = "sparse",
        robot: str = "panda",
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        description = load_description(robot)
        self.render_mode = render_mode
        self.interface = reach_interface(description)
        self.robot = make_robot(description, engine, visuals=render_mode is not None)
        self._reward = reward
        self._home = description.limits("home_rad")
        self._scale = np.array(self.interface.action.scale)
        self._observe = ObservationPipeline(self.interface)
        self._act = ActionPipeline(self.interface, description)
        self._setpoints = SetpointGenerator(description, description.servo_dt_s)
        self._servo_dt_s = description.servo_dt_s
        self._ticks = round(CONTROL_DT_S / description.servo_dt_s)
        self._goal = np.zeros(3)
        self.action_space = spaces.Box(-1.0, 1.0, (description.num_joints,), np.float32)
        self.observation_space = cast("spaces.Space[Observation]", _observation_space(description))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Arm near home, at rest; goal drawn from the box."""
        super().reset(seed=seed)
        start = self._home + self.np_random.uniform(-START_NOISE_RAD, START_NOISE_RAD, len(self._home))
        goal = self.np_random.uniform(GOAL.low, GOAL.high).astype(np.float32)
        self._goal = goal.astype(np.float64)
        self.robot.reset(start)
        self._setpoints.reset(start)
        self._observe.reset()
        self._state = self.robot.read()
        obs = self._observation()
        return obs, {"is_success": bool(_distance(obs["achieved_goal"], goal) <= GOAL.tolerance_m)}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One policy period.

        Raises:
            ValueError: the action is not finite or has another shape.
        """
        action = np.asarray(action)
        if action.shape != self._scale.shape or not np.isfinite(action).all():
            raise ValueError(f"expected {len(self._scale)} finite numbers as action, found {action}")
        delta = self._scale * np.clip(action, -1.0, 1.0)
        self._setpoints.set_target(self._act.joint_target(delta, self._state))
        for _ in range(self._ticks):
            self.robot.write(self._setpoints.step())
            self.robot.advance(self._servo_dt_s)
        self._state = self.robot.read()
        obs = self._observation()
        distance = _distance(obs["achieved_goal"], obs["desired_goal"])
        info = {"is_success": bool(distance <= GOAL.tolerance_m)}
        return obs, float(self._reward_at(distance)), False, False, info

    def compute_reward(
        self, achieved_goal: NDArray[np.floating], desired_goal: NDArray[np.floating], info: Any
    ) -> NDArray[np.float32]:
        """Reward of any achieved for any desired goal, (..., 3) and (..., 3) -> (...)."""
        return self._reward_at(_distance(achieved_goal, desired_goal))

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Never: the tool is to stay at the goal."""
        return False

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Never: the time limit truncates."""
        return False

    def render(self) -> NDArray[np.uint8] | None:
        """Picture of the arm, (height, width, 3); the goal's sphere is as large as the tolerance."""
        if self.render_mode is None:
            return None
        goal = Marker(position_m=self._goal, radius_m=GOAL.tolerance_m, rgba=GOAL_RGBA)
        tool = Marker(position_m=self.robot.tool_position(), radius_m=TOOL_RADIUS_M, rgba=TOOL_RGBA)
        return self.robot.render((goal, tool))

    def close(self) -> None:
        """Free the engine."""
        self.robot.close()

    def _observation(self) -> Observation:
        obs = self._observe.observe(self._state, self._goal)
        return {
            "observation": obs[:-3].copy(),
            "achieved_goal": obs[-6:-3].copy(),
            "desired_goal": obs[-3:].copy(),
        }

    def _reward_at(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._reward == "dense":
            return -distance
        return -(distance > GOAL.tolerance_m).astype(np.float32)


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
    difference = np.asarray(a, np.float32) - np.asarray(b, np.float32)
    distance: NDArray[np.float32] = np.sqrt((difference * difference).sum(axis=-1))
    return distance


def _observation_space(description: RobotDescription) -> spaces.Dict:
    """Bounds wide enough for an arm that is pushed past its limits."""
    speed = 4.0 * description.limits("velocity_max_rad_s")
    place = np.full(3, 2.0)
    low = np.concatenate([description.limits("position_min_rad") - 0.5, -speed, -place])
    high = np.concatenate([description.limits("position_max_rad") + 0.5, speed, place])
    goal = spaces.Box(-2.0, 2.0, (3,), np.float32)
    return spaces.Dict(
        observation=spaces.Box(low.astype(np.float32), high.astype(np.float32)),
        achieved_goal=goal,
        desired_goal=goal,
    )
