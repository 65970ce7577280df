"""The engines by name; each is imported only when a robot is made in it."""

import importlib
import importlib.util
from typing import Literal, get_args

from wpg.hardware_bridge.description import RobotDescription
from wpg.sim_envs.errors import EngineError
from wpg.sim_envs.scene import Cube
from wpg.sim_envs.servo import ServoArm

EngineName = Literal["mujoco", "pybullet"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
_CLASSES: dict[EngineName, tuple[str, str]] = {
    "mujoco": ("wpg.sim_envs.mujoco_robot", "MuJoCoRobot"),
    "pybullet": ("wpg.sim_envs.pybullet_robot", "PyBulletRobot"),
}


def make_robot(
    description: RobotDescription,
    engine: EngineName = "mujoco",
    *,
    visuals: bool = False,
    cube: Cube | None = None,
    payload: bool = False,
) -> ServoArm:
    """A simulated robot.

    Args:
        description: the robot.
        engine: which physics.
        visuals: load what :meth:`ServoArm.render` needs; the physics is the same without.
        cube: an object on the table in front of the arm.
        payload: fix something to the tool that weighs nothing until :meth:`ServoArm.apply` gives it a mass.

    Raises:
        EngineError: the engine is unknown or not installed.
    """
    if engine not in _CLASSES:
        raise EngineError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if importlib.util.find_spec(engine) is None:
        raise EngineError(f"engine {engine} is not installed: pip install {engine}")
    module, name = _CLASSES[engine]
    make = getattr(importlib.import_module(module), name)
    robot: ServoArm = make(description, visuals=visuals, cube=cube, payload=payload)
    return robot
