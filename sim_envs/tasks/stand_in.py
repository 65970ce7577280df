"""Simulated stand-ins for a laboratory's table: an arm with an object that is put back, or with a hole."""

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from wpg.hardware_bridge.control.start_conditions import StartConditions
from wpg.hardware_bridge.robot import StopMode, Vector
from wpg.sim_envs.effects import EffectsSource
from wpg.sim_envs.engines import EngineName
from wpg.sim_envs.engines.servo_arm import ServoArm
from wpg.sim_envs.errors import EngineError
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.goal_env import GoalEnv
from wpg.sim_envs.tasks.insert import InsertEnv
from wpg.sim_envs.tasks.object_env import ObjectEnv

AT_START_RAD = 0.05
"""The arm is out of the way when every joint is this close to the position in which goals may begin."""
PATIENCE_S = 1.0
"""The object is put back after the arm has been out of the way for this long."""


class TableStandIn:
    """The arm on its brakes at home, and the object anywhere on the table.

    If the object lies outside the area of the goals while the arm stands in the position in which goals
    begin, the object is put back anywhere on the table, as at the start of an episode.

    Args:
        task: name or MuJoCo id of a task with an object: PandaPush, wpg/PandaPush-v0.
        robot: a robot's name or the path of its description.
        engine: the physics engine.
        effects: differences between arm and table and their models.
        seed: of the effects, and of every place where the object is put down.

    Raises:
        EngineError: the task is unknown or has no object.
        DescriptionError: the robot cannot do the task.
    """

    def __init__(
        self,
        task: str,
        robot: str,
        engine: EngineName = "mujoco",
        *,
        effects: EffectsSource = None,
        seed: int = 0,
    ) -> None:
        if _name(task) not in _tasks_with_an_object():
            expected = ", ".join(_tasks_with_an_object())
            raise EngineError(
                f"no task {task!r} with an object or a hole: expected {expected} or {HoleStandIn.task}"
            )
        env, _ = _set_up(_name(task), robot, engine, effects, seed)
        assert isinstance(env, ObjectEnv)
        assert env.interface.goal is not None
        self._env = env
        self._goal = env.interface.goal
        self._start = StartConditions(env.interface, env.robot.description)
        env.put_down_cube()
        self._stands_since_s = np.inf
        self.put_backs = 0
        """Number of times that the object was put back."""

    @property
    def robot(self) -> ServoArm:
        """The simulated arm."""
        return self._env.robot

    def look(self) -> tuple[Vector, Vector]:
        """The object's position (3,) m and rotation (3, 3) in the base frame."""
        state = self.robot.cube_state()
        return state.position_m, upright(state.rotation)

    def advance_to(self, now_s: float) -> None:
        """Put the object back if that is due at ``now_s``."""
        if not self._is_out_of_area() or not self._arm_is_at_start():
            self._stands_since_s = now_s
        elif now_s - self._stands_since_s >= PATIENCE_S:
            self._env.put_down_cube()
            self.put_backs += 1

    def close(self) -> None:
        """Do nothing: the owner of :attr:`robot` closes it."""

    def _is_out_of_area(self) -> bool:
        place, half_m = self.look()[0], self._goal.tolerance_m / 2
        low, high = np.array(self._goal.low) - half_m, np.array(self._goal.high) + half_m
        return bool((place < low).any() or (place > high).any())

    def _arm_is_at_start(self) -> bool:
        way = self.robot.read().joint_pos - self._start.joint_pos
        return bool(np.abs(way).max() <= AT_START_RAD)


class HoleStandIn:
    """The arm on its brakes at home with a peg at its tool, and a block with a hole in front of it.

    Args:
        robot: a robot's name or the path of its description.
        engine: the physics engine.
        effects: differences between the arm and its model.
        seed: of the effects and of the block's position.

    Raises:
        DescriptionError: the robot cannot do the task.

    Attributes:
        robot: the simulated arm.
        goal_m: position of the tool when the peg is in the hole, (3,) in the base frame.
    """

    task = "PandaInsert"

    def __init__(
        self, robot: str, engine: EngineName = "mujoco", *, effects: EffectsSource = None, seed: int = 0
    ) -> None:
        env, self.goal_m = _set_up(self.task, robot, engine, effects, seed)
        assert isinstance(env, InsertEnv)
        env.put_block()
        self.robot: ServoArm = env.robot

    @classmethod
    def is_for(cls, task: str) -> bool:
        """Whether this class stands in for the task with this name or MuJoCo id."""
        return _name(task) == cls.task


def _name(task: str) -> str:
    return task.removeprefix("wpg/").removesuffix("-v0")


def _set_up(
    name: str, robot: str, engine: EngineName, effects: EffectsSource, seed: int
) -> tuple[GoalEnv, Vector]:
    """Make the task with the arm on its brakes at home; also returns the drawn goal, (3,) m."""
    suffix = "Bullet" if engine == "pybullet" else ""
    env = gymnasium.make(f"wpg/{name}{suffix}-v0", robot=robot, effects=effects).unwrapped
    assert isinstance(env, GoalEnv)
    obs, _ = env.reset(seed=seed)
    env.robot.reset(env.robot.description.limits("home_rad"))
    env.robot.stop(StopMode.HOLD)
    # Rounding undoes the error of float32, which may put a goal outside its box.
    return env, obs["desired_goal"].astype(float).round(6)


def _tasks_with_an_object() -> list[str]:
    made_by = {name: load_env_creator(task.entry_point) for name, task in TASKS.items()}
    return [name for name, made in made_by.items() if isinstance(made, type) and issubclass(made, ObjectEnv)]


def upright(rotation: Vector) -> Vector:
    """Turn a cube's rotation (3, 3) into an equivalent one whose third axis points up.

    A cube that has tipped over looks the same as before, and no training episode begins with one on its side.
    """
    up = int(np.abs(rotation[2]).argmax())
    third = np.copysign(1.0, rotation[2, up]) * rotation[:, up]
    first = rotation[:, (up + 1) % 3]
    return np.stack([first, np.cross(third, first), third], axis=1)
