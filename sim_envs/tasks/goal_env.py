"""Base class of all tasks: runs the simulated arm on the code for real arms; goals, rewards, pictures."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypedDict, cast

import gymnasium
import msgspec
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.pipeline import ActionPipeline, ObservationPipeline
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs.effects import EffectsSource, load_effects
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.engines.display import has_display
from wpg.sim_envs.engines.servo_arm import ServoArm
from wpg.sim_envs.models.scene import EMPTY, GOAL_RGBA, TOOL_RADIUS_M, TOOL_RGBA, Marker, Scene
from wpg.sim_envs.tasks.interface import (
    CONTROL_DT_S,
    default_target_history,
    observation_space,
    term_slice,
    with_target_history,
)

Observation = dict[str, NDArray[np.float32]]
Action = NDArray[np.float32]
RewardName = Literal["sparse", "dense"]
RenderMode = Literal["rgb_array", "human"] | None


class EnvOptions(TypedDict, total=False):
    """Options that every task takes besides its robot."""

    engine: EngineName
    """The physics engine; ``mujoco`` by default."""
    reward: RewardName
    """``sparse``, the default, or ``dense``."""
    effects: EffectsSource
    """Differences between the arm and its model: an ``Effects``, or the content or path of an
    ``actuators.toml``."""
    target_history: int | None
    """How many of the last joint targets the policy sees; meant for arms with delays. None, the default: as
    many as were sent within the longest delay of the effects, and at least one on a servo bus."""
    render_mode: RenderMode
    """None, the default, ``rgb_array``, or ``human`` for a window."""


class GoalEnv(gymnasium.Env[Observation, Action], ABC):
    """A task whose goal is a position of the tool or of an object.

    A step is one policy period, and it runs as the control loop runs it on hardware: the action sets a joint
    target, and at every servo tick the setpoint generator moves towards it and the robot follows. The
    observation comes from the pipeline that is used on hardware; the tool's position in it comes from forward
    kinematics.

    The action is in [-1, 1]. It is the displacement of each joint, (num_joints,) in units of 0.1 rad unless
    the task says otherwise, or of the tool, (3,) in units of 5 cm. If the task uses the gripper, the last
    entry is its opening.

    ``desired_goal`` and ``achieved_goal`` are (3,) m; ``observation`` holds every term of ``interface``
    except the goal. The ``sparse`` reward is 0 where the achieved goal is within the tolerance and -1
    elsewhere; the ``dense`` reward is minus the distance in m.

    With effects, :meth:`reset` draws the arm of the episode and reports it in ``info["effects"]``. The policy
    then sees the readings of imperfect sensors, while ``info["is_success"]`` is judged by the true position.
    If the arm has delays, the policy also sees the latest joint targets, and actions are relative to the last
    one.

    Attributes:
        interface: the policy's observation and action.
        robot: the simulated arm.
        commands: setpoints of the last step, (ticks, num_joints) rad and rad/s.
        obs_vector: every observation term after the last reset or step, (obs_dim,); the array is reused.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array", "human"] if has_display() else ["rgb_array"],
        "render_fps": round(1 / CONTROL_DT_S),
    }
    achieved: str
    """Name of the observation term that is compared with the goal."""
    tolerance_m: float

    def __init__(
        self,
        *,
        description: RobotDescription,
        interface: PolicyInterface,
        scene: Scene = EMPTY,
        engine: EngineName = "mujoco",
        reward: RewardName = "sparse",
        effects: EffectsSource = None,
        target_history: int | None = None,
        render_mode: RenderMode = None,
    ) -> None:
        if reward not in ("sparse", "dense"):
            raise ValueError(f"unknown reward {reward!r}: expected sparse or dense")
        effects = load_effects(effects, description)
        if effects is not None:
            scene = replace(scene, payload=True)
            interface = msgspec.structs.replace(
                interface, trained_delay_s=effects.delay_range_s(), trained_ranges=effects.ranges()
            )
        if target_history is None:
            target_history = default_target_history(interface, description)
        interface = with_target_history(interface, target_history)
        self.robot: ServoArm = make_robot(
            description,
            engine,
            visuals=render_mode is not None,
            window=render_mode == "human",
            scene=scene,
        )
        self.interface = interface
        self._effects = effects
        self._observation_delay_s = 0.0
        self.render_mode = render_mode
        self._reward = reward
        self._observation_pipeline = ObservationPipeline(interface)
        self._action_pipeline = ActionPipeline(interface, description)
        self._setpoints = SetpointGenerator(description, description.servo_dt_s)
        self._ticks_per_step = round(interface.control_dt_s / description.servo_dt_s)
        self._scale, self._offset = np.array(interface.action.scale), np.array(interface.action.offset)
        self._achieved_slice = term_slice(interface, self.achieved)
        self._goal = np.zeros(3)
        self._options: dict[str, Any] = {}
        self.commands: tuple[Vector, Vector]
        self.obs_vector: NDArray[np.float32]
        self.action_space = spaces.Box(-1.0, 1.0, (interface.action.size,), np.float32)
        self.observation_space = cast(
            "spaces.Space[Observation]", observation_space(description, interface.observation)
        )

    @abstractmethod
    def _start_episode(self) -> Vector:
        """Place the arm and the objects for an episode; returns the joint positions, (num_joints,) rad."""

    @abstractmethod
    def _draw_goal(self) -> Vector:
        """A goal for this episode, (3,) m."""

    def _external_terms(self) -> Mapping[str, Vector] | None:
        """Values of the observation terms that do not come from the arm, by name."""
        return None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Put the arm at rest at a start position and draw a goal.

        Start and goal depend on the seed alone: the effects are drawn from a random stream of their own.

        Args:
            seed: of the start, the goal and the effects.
            options: ``goal_m`` (3,) replaces the drawn goal; in tasks without objects ``joint_pos_rad``
                (num_joints,) replaces the drawn start.

        Raises:
            ValueError: an option has the wrong shape or is not finite, or a joint lies outside its limits.
        """
        given_goal = given_vector(options or {}, "goal_m", 3)
        super().reset(seed=seed)
        self._options = options or {}
        drawn = None
        if self._effects is not None:
            (chance,) = self.np_random.spawn(1)
            drawn = self._effects.draw(chance, self.robot.description)
            self.robot.apply(drawn, chance)
            self._observation_delay_s = drawn.observation_delay_s
        start = self._start_episode()
        drawn_goal = self._draw_goal()  # always, so that later draws do not depend on the options
        goal = drawn_goal if given_goal is None else given_goal
        self._goal = goal.astype(np.float32).astype(np.float64)
        self._setpoints.reset(start)
        self._observation_pipeline.reset()
        self._update_obs()
        obs = self.as_goal_obs(self.obs_vector)
        info = {"is_success": self.is_success(distance_m(obs["achieved_goal"], obs["desired_goal"]))}
        return obs, info if drawn is None else info | {"effects": msgspec.structs.asdict(drawn)}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Simulate one policy period.

        Raises:
            ValueError: the action is not finite or has the wrong shape.
        """
        scaled = self.scale_action(np.asarray(action))
        self.advance(self.joint_target(scaled, *self.joint_pos_and_target), scaled)
        obs = self.as_goal_obs(self.obs_vector)
        distance = distance_m(obs["achieved_goal"], obs["desired_goal"])
        return obs, float(self.reward_at(distance)), False, False, {"is_success": self.is_success(distance)}

    def scale_action(self, action: NDArray[np.floating], *batch: int) -> Vector:
        """Convert an action from [-1, 1] to the units of the interface, (*batch, action_dim).

        Raises:
            ValueError: as :meth:`step`.
        """
        if action.shape != (*batch, len(self._scale)) or not all(map(math.isfinite, action.ravel().tolist())):
            raise ValueError(f"expected {len(self._scale)} finite numbers as action, found {action}")
        scaled: Vector = self._offset + self._scale * np.minimum(np.maximum(action, -1.0), 1.0)
        return scaled

    @property
    def joint_pos_and_target(self) -> tuple[Vector, Vector]:
        """Measured joint positions and the last joint target, (num_joints,) rad each."""
        return self._state.joint_pos, self._setpoints.target

    def joint_target(self, action: Vector, joint_pos: Vector, last_target: Vector) -> Vector:
        """Joint targets, ([B,] num_joints) rad, for scaled actions ([B,] action_dim).

        Args:
            action: in the units of the interface.
            joint_pos: measured joint positions, ([B,] num_joints) rad.
            last_target: the joint target before this one, ([B,] num_joints) rad.
        """
        return self._action_pipeline.joint_target(action, joint_pos, last_target)

    def advance(self, target: Vector, action: Vector) -> None:
        """Simulate one policy period: move towards the joint target, then update :attr:`obs_vector`.

        Args:
            target: the result of :meth:`joint_target`, (num_joints,) rad.
            action: the scaled action (action_dim,), of which the gripper takes its opening.
        """
        self._setpoints.set_target(target)
        self.commands = self._setpoints.steps(self._ticks_per_step)
        self.robot.follow(*self.commands, self._action_pipeline.gripper_opening_m(action))
        self._update_obs()

    def compute_reward(
        self, achieved_goal: NDArray[np.floating], desired_goal: NDArray[np.floating], info: Any
    ) -> NDArray[np.float32]:
        """Reward for achieved and desired goals, (..., 3) and (..., 3) -> (...)."""
        return self.reward_at(distance_m(achieved_goal, desired_goal))

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> NDArray[np.bool_]:
        """False for every goal, as the goal is to be held; (..., 3) and (..., 3) -> (...)."""
        return np.zeros(np.shape(achieved_goal)[:-1], np.bool_)

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """False: only the time limit truncates episodes."""
        return False

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture of the scene, (height, width, 3), or update the window if the mode is ``human``.

        The radius of the sphere at the goal is the tolerance.

        Raises:
            WindowClosed: the user closed the window.
        """
        if self.render_mode is None:
            return None
        goal = Marker(position_m=self._goal, radius_m=self.tolerance_m, rgba=GOAL_RGBA)
        tool = Marker(position_m=self.robot.tool_position(), radius_m=TOOL_RADIUS_M, rgba=TOOL_RGBA)
        if self.render_mode == "human":
            self.robot.show((goal, tool))
            return None
        return self.robot.render((goal, tool))

    def close(self) -> None:
        """Free the engine."""
        self.robot.close()

    def _true_achieved_goal(self) -> Vector:
        """The achieved goal without sensor errors, (3,) m."""
        return self.robot.tool_position()

    def _update_obs(self) -> None:
        self._state = self.robot.read()
        self.obs_vector = self._observation_pipeline.observe(
            self._state, self._goal, self._external_terms(), target=self._setpoints.target
        )
        if self.render_mode == "human":
            self.render()

    def is_success(self, distance: NDArray[np.float32]) -> bool:
        """Whether the goal is achieved.

        Args:
            distance: between achieved and desired goal in the observation, m; with effects the simulator's
                true distance is used instead.
        """
        if self._effects is not None:
            distance = distance_m(self._true_achieved_goal(), self._goal)
        return bool(distance <= self.tolerance_m)

    def as_goal_obs(self, obs: NDArray[np.float32]) -> Observation:
        """Split observation vectors, (..., obs_dim), into the parts of a goal environment's observation."""
        return {
            "observation": obs[..., :-3].copy(),
            "achieved_goal": obs[..., self._achieved_slice].copy(),
            "desired_goal": obs[..., -3:].copy(),
        }

    def reward_at(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reward at the given distances (...) in m from the goal."""
        if self._reward == "dense":
            return -distance
        return -(distance > self.tolerance_m).astype(np.float32)


def given_vector(options: Mapping[str, Any], name: str, size: int) -> Vector | None:
    """Read the option ``name`` of a reset, (size,); None if it is not given.

    Raises:
        ValueError: it is not ``size`` finite numbers.
    """
    if name not in options:
        return None
    try:
        given = np.array(options[name], np.float64)
    except (TypeError, ValueError):
        given = np.array(np.nan)
    if given.shape != (size,) or not np.isfinite(given).all():
        raise ValueError(f"{name}: expected {size} finite numbers, found {options[name]}")
    return given


def distance_m(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
    """Distance between points, (..., 3) and (..., 3) m -> (...)."""
    difference = np.asarray(a, np.float32) - np.asarray(b, np.float32)
    distance: NDArray[np.float32] = np.sqrt((difference * difference).sum(axis=-1))
    return distance
