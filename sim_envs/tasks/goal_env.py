"""What all tasks share: the arm run by the code that runs it on hardware, goals, rewards, pictures."""

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
    for_late_arm,
    observation_space,
    targets_under_way,
    term_slice,
)

Observation = dict[str, NDArray[np.float32]]
Action = NDArray[np.float32]
RewardName = Literal["sparse", "dense"]
RenderMode = Literal["rgb_array", "human"] | None


class EnvOptions(TypedDict, total=False):
    """What every task takes besides its robot."""

    engine: EngineName
    """Which physics: ``mujoco`` by default."""
    reward: RewardName
    """``sparse``, the default, or ``dense``."""
    effects: EffectsSource
    """What sets the arm apart from its model, or an ``actuators.toml``: its content, or its path."""
    target_history: int | None
    """For an arm that answers late, how many of the last joint targets are seen; None, the default: as many
    as the effects' longest delay asks for."""
    render_mode: RenderMode
    """None, the default, ``rgb_array``, or ``human`` for a window."""


class GoalEnv(gymnasium.Env[Observation, Action], ABC):
    """A task whose goal is a place for the tool or for an object.

    A step is one policy period, run as the control loop runs it on hardware: the action sets a joint target,
    and at every servo tick the setpoint generator moves towards it and the robot follows. The observation is
    made by the pipeline that makes it on hardware, with the tool's place by forward kinematics.

    Action: in [-1, 1], how far each joint shall go, (num_joints,) of 0.1 rad each, or how far the tool shall
    go, (3,) of 5 cm each; where the task needs a gripper, its opening follows.
    ``desired_goal`` and ``achieved_goal`` are (3,) m; ``observation`` is every term of ``interface`` but the
    goal. The reward is ``sparse``, -1 until the achieved goal is within the tolerance and 0 there, or
    ``dense``, minus the distance in m.

    With effects an episode's arm is drawn at :meth:`reset`, whose ``info["effects"]`` says what was drawn.
    The policy then sees what the sensors say, and ``info["is_success"]`` is the truth. Of an arm that answers
    late it also sees where it was sent, and actions count from there.

    Attributes:
        interface: what a policy for this task sees and commands.
        robot: the simulated arm.
        commands: setpoints of the last step, (ticks, num_joints) rad and rad/s.
        row: every observation term after the last reset or step, (obs_dim,), in an array that is used again.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array", "human"] if has_display() else ["rgb_array"],
        "render_fps": round(1 / CONTROL_DT_S),
    }
    achieved: str
    """The observation term that is compared with the goal."""
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
            target_history = targets_under_way(interface, description)
        interface = for_late_arm(interface, target_history)
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
        self._observe = ObservationPipeline(interface)
        self._act = ActionPipeline(interface, description)
        self._setpoints = SetpointGenerator(description, description.servo_dt_s)
        self._ticks = round(interface.control_dt_s / description.servo_dt_s)
        self._scale, self._offset = np.array(interface.action.scale), np.array(interface.action.offset)
        self._achieved = term_slice(interface, self.achieved)
        self._goal = np.zeros(3)
        self._options: dict[str, Any] = {}
        self.commands: tuple[Vector, Vector]
        self.row: NDArray[np.float32]
        self.action_space = spaces.Box(-1.0, 1.0, (interface.action.size,), np.float32)
        self.observation_space = cast(
            "spaces.Space[Observation]", observation_space(description, interface.observation)
        )

    @abstractmethod
    def _start(self) -> Vector:
        """Set the scene for an episode; returns the arm's joints, (num_joints,) rad."""

    @abstractmethod
    def _draw_goal(self) -> Vector:
        """A goal for this episode, (3,) m."""

    def _external(self) -> Mapping[str, Vector] | None:
        """Observation terms that do not come from the arm, by name."""
        return None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Arm at rest at the start, another goal; all chance comes from the seed.

        A seed gives the same start and goal whatever the effects, which have their own stream of chance.

        Args:
            seed: of the start, the goal, and the effects.
            options: ``goal_m`` (3,) in place of the goal that is drawn, and, where the task has nothing but
                the arm, ``joint_pos_rad`` (num_joints,) in place of the start.

        Raises:
            ValueError: an option has another shape or is not finite, or a joint lies outside its limits.
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
        start = self._start()
        drawn_goal = self._draw_goal()  # given or not: what is drawn later stays the same
        goal = drawn_goal if given_goal is None else given_goal
        self._goal = goal.astype(np.float32).astype(np.float64)
        self._setpoints.reset(start)
        self._observe.reset()
        self._look()
        obs = self.split(self.row)
        info = {"is_success": self.is_success(distance_m(obs["achieved_goal"], obs["desired_goal"]))}
        return obs, info if drawn is None else info | {"effects": msgspec.structs.asdict(drawn)}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One policy period.

        Raises:
            ValueError: the action is not finite or has another shape.
        """
        self.act(self.scale_action(np.asarray(action)))
        obs = self.split(self.row)
        distance = distance_m(obs["achieved_goal"], obs["desired_goal"])
        return obs, float(self.reward_at(distance)), False, False, {"is_success": self.is_success(distance)}

    def scale_action(self, action: NDArray[np.floating], *batch: int) -> Vector:
        """From [-1, 1] to the units that are commanded, (*batch, action_dim).

        Raises:
            ValueError: as :meth:`step`.
        """
        if action.shape != (*batch, len(self._scale)) or not all(map(math.isfinite, action.ravel().tolist())):
            raise ValueError(f"expected {len(self._scale)} finite numbers as action, found {action}")
        scaled: Vector = self._offset + self._scale * np.minimum(np.maximum(action, -1.0), 1.0)
        return scaled

    def act(self, action: Vector) -> None:
        """One policy period with a scaled action (action_dim,); :attr:`row` is what is seen then."""
        self.go(self.aim(action, *self.stance), action)

    @property
    def stance(self) -> tuple[Vector, Vector]:
        """Where the joints are, and where they were told to go, (num_joints,) rad each."""
        return self._state.joint_pos, self._setpoints.target

    def aim(self, action: Vector, joint_pos: Vector, told: Vector) -> Vector:
        """Where scaled actions ([B,] action_dim) send the joints, ([B,] num_joints) rad, from a stance."""
        return self._act.joint_target(action, joint_pos, told)

    def go(self, target: Vector, action: Vector) -> None:
        """One policy period towards what :meth:`aim` gave for a scaled action; :attr:`row` is seen then."""
        self._setpoints.set_target(target)
        self.commands = self._setpoints.steps(self._ticks)
        self.robot.follow(*self.commands, self._act.gripper_opening_m(action))
        self._look()

    def compute_reward(
        self, achieved_goal: NDArray[np.floating], desired_goal: NDArray[np.floating], info: Any
    ) -> NDArray[np.float32]:
        """Reward of any achieved for any desired goal, (..., 3) and (..., 3) -> (...)."""
        return self.reward_at(distance_m(achieved_goal, desired_goal))

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> NDArray[np.bool_]:
        """Never: the goal is to be kept; (..., 3) and (..., 3) -> (...)."""
        return np.zeros(np.shape(achieved_goal)[:-1], np.bool_)

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Never: the time limit truncates."""
        return False

    def render(self) -> NDArray[np.uint8] | None:
        """Picture of the scene, (height, width, 3), or with ``human`` the window brought up to date.

        The goal's sphere is as large as the tolerance.

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

    def _true_place(self) -> Vector:
        """What is achieved, whatever the sensors say, (3,) m."""
        return self.robot.tool_position()

    def _look(self) -> None:
        self._state = self.robot.read()
        self.row = self._observe.observe(
            self._state, self._goal, self._external(), target=self._setpoints.target
        )
        if self.render_mode == "human":
            self.render()

    def is_success(self, distance: NDArray[np.float32]) -> bool:
        """Whether the goal is achieved; ``distance`` (m) is how far off the observation says it is."""
        if self._effects is not None:
            distance = distance_m(self._true_place(), self._goal)
        return bool(distance <= self.tolerance_m)

    def split(self, row: NDArray[np.float32]) -> Observation:
        """Observation terms in a row, (..., obs_dim), as the parts of the goal environment's observation."""
        return {
            "observation": row[..., :-3].copy(),
            "achieved_goal": row[..., self._achieved].copy(),
            "desired_goal": row[..., -3:].copy(),
        }

    def reward_at(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reward at these distances (...) m from the goal."""
        if self._reward == "dense":
            return -distance
        return -(distance > self.tolerance_m).astype(np.float32)


def given_vector(options: Mapping[str, Any], name: str, size: int) -> Vector | None:
    """The option ``name`` of a reset, (size,); None where it is not given.

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
    """How far points are apart, (..., 3) and (..., 3) m -> (...)."""
    difference = np.asarray(a, np.float32) - np.asarray(b, np.float32)
    distance: NDArray[np.float32] = np.sqrt((difference * difference).sum(axis=-1))
    return distance
