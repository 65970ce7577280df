"""Simulated arms on MuJoCo and PyBullet; an engine is imported only when a robot is made in it."""

import importlib
import importlib.util
from typing import Literal, get_args

from wpg.hardware_bridge.description import RobotDescription
from wpg.sim_envs.engines.servo_arm import ServoArm
from wpg.sim_envs.errors import EngineError
from wpg.sim_envs.models.scene import EMPTY, Scene

EngineName = Literal["mujoco", "pybullet"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
_CLASSES: dict[EngineName, tuple[str, str]] = {
    "mujoco": ("wpg.sim_envs.engines.mujoco_robot", "MuJoCoRobot"),
    "pybullet": ("wpg.sim_envs.engines.pybullet_robot", "PyBulletRobot"),
}


def make_robot(
    description: RobotDescription,
    engine: EngineName = "mujoco",
    *,
    visuals: bool = False,
    window: bool = False,
    scene: Scene = EMPTY,
) -> ServoArm:
    """Make a simulated robot.

    Args:
        description: the robot.
        engine: the physics engine.
        visuals: load what :meth:`ServoArm.render` and :meth:`ServoArm.show` need; the physics is the same.
        window: open a window for :meth:`ServoArm.show`.
        scene: the objects around the arm and the table.

    Raises:
        DescriptionError: the scene needs a part that the robot does not have.
        EngineError: the engine is unknown or not installed.
        RenderError: there is no display to open a window on.
    """
    if engine not in _CLASSES:
        raise EngineError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if importlib.util.find_spec(engine) is None:
        raise EngineError(f"engine {engine} is not installed: pip install {engine}")
    module, name = _CLASSES[engine]
    make = getattr(importlib.import_module(module), name)
    robot: ServoArm = make(description, visuals=visuals, window=window, scene=scene)
    return robot
