"""Scripted policies that solve push, pick and place, and insert, and from which a policy can learn.

They get a policy's observations and return its actions, which move the joints or the tool.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.tasks.goal_env import GoalEnv, Observation
from wpg.sim_envs.tasks.insert import InsertEnv
from wpg.sim_envs.tasks.interface import term_slice
from wpg.sim_envs.tasks.pick_and_place import PickAndPlaceEnv
from wpg.sim_envs.tasks.poses import DOWN
from wpg.sim_envs.tasks.push import PushEnv

Action = NDArray[np.float32]
UP = np.array([0.0, 0.0, 1.0])
LEVEL = np.array([1.0, 1.0, 0.0])
LOW = 0.015 * UP
FAST_M = 0.08
"""Longest step of the tool in m, away from the object."""
LAG_S = 0.1
"""Lag of arms on a servo bus, in s."""
DIRECTION_M, TURN_M, TURN_STEP_M = 0.3, 0.1, 0.01
"""Weights of a rad of the tool's direction and of its turn, relative to a m of its position; the most that
one step turns it, so weighted."""
CLOSING_STEPS = 10
"""Steps until the fingers have closed on an object."""


class Script(ABC):
    """Plays one episode: moves the tool from place to place, pointing down."""

    def __init__(self, env: GoalEnv) -> None:
        self.interface, self.robot = env.interface, env.robot.description
        self.kinematics = ForwardKinematics(self.robot.kinematics())
        self.moves_tool = self.interface.action.moves_tool
        self.from_target = self.interface.action.delta_from == "target"
        self.phase = "approach"
        self.row: Vector
        self.joint_pos: Vector

    def __call__(self, obs: Observation) -> Action:
        """The action (action_dim,) in [-1, 1] for an observation of the environment."""
        self.row = np.concatenate([obs["observation"], obs["desired_goal"]], dtype=np.float64)
        self.joint_pos, tool = self.term("joint_pos"), self.term("tool_pos")
        if self.from_target:
            self.joint_pos = self.term("joint_target")[: len(self.joint_pos)]
        thing, goal = (obs[name].astype(np.float64) for name in ("achieved_goal", "desired_goal"))
        return self.act(tool, thing, goal)

    @abstractmethod
    def act(self, tool: Vector, thing: Vector, goal: Vector) -> Action:
        """The action for the positions of tool, object and goal, (3,) m each."""

    def term(self, name: str) -> Vector:
        """Values of an observation term."""
        found: Vector = self.row[term_slice(self.interface, name)]
        return found

    def towards(self, place: Vector, longest_m: float, across: Vector | None = None) -> Action:
        """The action that moves the tool one step towards a place.

        If actions move the joints, they come from damped least squares on the tool's position and direction.

        Args:
            place: target position, (3,) m.
            longest_m: longest step of the tool.
            across: (3,) direction for the line through the fingers, the tool's y axis; used only if actions
                move the joints.
        """
        if self.moves_tool:
            way = place - self.kinematics.tool_position(self.joint_pos)
            way *= min(1.0, longest_m / (_length(way) + 1e-9))
            return np.clip(way / self.interface.action.scale[:3], -1.0, 1.0).astype(np.float32)
        weights = np.repeat([1.0, DIRECTION_M], 3)
        tool, change = self.kinematics.differentiate(self.joint_pos, (0.0, 0.0, 1.0))
        error, jacobian = weights * (np.concatenate([place, DOWN]) - tool), weights[:, None] * change
        error[:3] *= min(1.0, longest_m / (_length(error[:3]) + 1e-9))
        if across is not None:
            side, change = self.kinematics.differentiate(self.joint_pos, (1.0, 0.0, 0.0))
            turn = np.clip(-TURN_M * (across @ side[3:]), -TURN_STEP_M, TURN_STEP_M)
            error, jacobian = np.append(error, turn), np.vstack([jacobian, TURN_M * (across @ change[3:])])
        delta = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(len(error)), error)
        return cast(Action, (delta / max(0.1, np.abs(delta).max())).astype(np.float32))


class Pusher(Script):
    """Moves above the object's far side, down, along the line to the goal, and up."""

    def act(self, tool: Vector, thing: Vector, goal: Vector) -> Action:
        """See `Script.act`."""
        if self.from_target:  # where the object will be when the arm answers
            thing = thing + LAG_S * self.term("object_vel") * LEVEL
        return self.towards(*self._next(tool, thing, goal))

    def _next(self, tool: Vector, thing: Vector, goal: Vector) -> tuple[Vector, float]:
        """The tool's next target, (3,) m, and its longest step in m."""
        distance = _length(goal - thing)
        way = (goal - thing) / (distance + 1e-9)
        task, model = self.interface.goal, self.robot.simulation
        assert task is not None and model is not None  # noqa: PT018  of every task with an object
        half, tolerance, radius = task.low[2], task.tolerance_m, model.tool_radius_m
        behind = (thing - (radius + 1.75 * half + 0.01) * way) * LEVEL + LOW
        along = float((tool - thing) @ way)
        side = (tool - thing - along * way) * LEVEL
        near = distance < 0.8 * tolerance
        if self.phase == "approach" and _length(tool - behind - 3 * half * UP) < half:
            self.phase = "lower"
        if self.phase == "lower" and _length(tool - behind) < half:
            self.phase = "push"
        if self.phase == "push" and near and (distance < 0.3 * tolerance or along > -half):
            self.phase = "leave"
        elif self.phase == "push" and not near and (_length(side) > 2 * half or along > -half / 2):
            self.phase = "approach"
        if self.phase == "leave" and not near and tool[2] > 2.5 * half:
            self.phase = "approach"
        beside = _length((tool - thing)[:2]) < radius + 2.5 * half
        match self.phase:
            case "approach" if beside and tool[2] < 2.5 * half:  # or it would drag the object along
                return tool + 0.05 * UP, FAST_M
            case "approach":
                return behind + 3 * half * UP, FAST_M
            case "lower":
                return behind, FAST_M
            case "push":
                longest_m = min(0.03, 0.25 * half + (0.3 if self.from_target else 0.2) * distance)
                return (thing - 3.0 * side) * LEVEL + LOW, longest_m
        return tool + 0.05 * (tool[2] < 4 * half) * UP, FAST_M


class Picker(Script):
    """Moves above the object, turns to its faces, moves down, closes the fingers, and moves to the goal."""

    steps_left = 0
    """Steps until the fingers have closed."""

    def act(self, tool: Vector, thing: Vector, goal: Vector) -> Action:
        """See `Script.act`; the last entry is the gripper's."""
        across = self._face()
        place, longest_m, opening = thing + 0.06 * UP, FAST_M, 1.0
        off = _length((tool - thing)[:2])
        if self.phase == "approach" and off < 0.01 and self._is_turned(across):
            self.phase = "lower"
        if self.phase == "lower":
            place, longest_m = thing, 0.04
            if _length(tool - thing) < 0.008:
                self.phase, self.steps_left = "close", CLOSING_STEPS
        if self.phase == "close":
            place, opening = thing, -1.0
            self.steps_left -= 1
            if not self.steps_left:
                self.phase = "carry"
        if self.phase == "carry":
            place, opening, longest_m = tool + goal - thing, -1.0, 0.05
            if _length(tool - thing) > 0.04:
                self.phase = "approach"
        turn = None if self.phase == "carry" else across
        return np.append(self.towards(place, longest_m, turn), np.float32(opening))

    def _face(self) -> Vector:
        """The horizontal normal of the object's faces, (3,), to which the fingers have to turn least."""
        faces = self.term("object_rot6d").reshape(2, 3) * LEVEL
        face = max(faces, key=_length)  # if the object lies on its side, the other column points up
        fingers = self.kinematics.tool_pose(self.joint_pos)[:3, 1]
        across: Vector = max(face, np.cross(UP, face), key=lambda line: abs(float(fingers @ line)))
        return across / _length(across)

    def _is_turned(self, across: Vector) -> bool:
        return self.moves_tool or abs(float(self.kinematics.tool_pose(self.joint_pos)[:3, 0] @ across)) < 0.1


class Inserter(Script):
    """Moves above the hole, then down."""

    def act(self, tool: Vector, thing: Vector, goal: Vector) -> Action:
        """See `Script.act`."""
        if _length((tool - goal)[:2]) < 0.001:
            self.phase = "lower"
        if self.phase == "lower":
            return self.towards(goal, 0.02)
        return self.towards(goal + 0.05 * UP, FAST_M)


class ScriptedPolicy:
    """A script with the interface of a policy, so that the bridge's control loop can run it.

    Args:
        env: the task; it is not stepped.
        script: class of the script; a new one is made for every goal.
    """

    def __init__(self, env: GoalEnv, script: type[Script]) -> None:
        self.interface = env.interface
        self._env, self._make = env, script
        self.reset()

    def act(self, obs: Action) -> Decision:
        """The command (action_dim,) for an observation (obs_dim,), in the interface's units."""
        action = self._script(self._env.as_goal_obs(obs))
        return Decision(self._env.scale_action(action).astype(np.float32))

    def reset(self) -> None:
        """Start the script anew, for another goal or after the arm was held."""
        self._script = self._make(self._env)


def _length(way: Vector) -> float:
    return float(np.linalg.norm(way))


SCRIPTS: dict[type[GoalEnv], type[Script]] = {
    PushEnv: Pusher,
    PickAndPlaceEnv: Picker,
    InsertEnv: Inserter,
}


def script_for(env: gymnasium.Env[Any, Any]) -> Callable[[], Script] | None:
    """A factory of the environment's script, to be called for each episode; None: no script solves it."""
    task = env.unwrapped
    if not isinstance(task, GoalEnv):
        return None
    script = SCRIPTS.get(type(task))
    return None if script is None else partial(script, task)
