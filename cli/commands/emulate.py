"""``wpg emulate``: a simulated robot behind a real link and device protocol."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
import tyro

from wpg.cli.options import (
    CommandError,
    JsonFile,
    KeyFile,
    UsageError,
    prepare_outputs,
    require_at_least,
    write_json,
)
from wpg.hardware_bridge.clock import RealClock
from wpg.hardware_bridge.description import ProtocolName, RobotDescription, load_description
from wpg.hardware_bridge.emulation.camera import EmulatedCamera, parse_camera
from wpg.hardware_bridge.emulation.emulator import Companion, Emulator
from wpg.hardware_bridge.emulation.faults import parse_faults
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.keys import read_key
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import SimulatedRobot, StopMode
from wpg.hardware_bridge.signals import stop_on_signals
from wpg.hardware_bridge.sources.sender import PoseSender

if TYPE_CHECKING:
    from wpg.sim_envs.tasks.stand_in import HoleStandIn, TableStandIn

ANY_PORT = "udp://127.0.0.1:0"
Engine = Literal["mujoco", "pybullet", "kinematic"]


def emulate(
    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")],
    *,
    link: str,
    protocol: ProtocolName | None = None,
    engine: Engine = "mujoco",
    actuators: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None,
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None,
    source: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None,
    camera: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "",
    faults: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "",
    seed: int = 0,
    key: KeyFile = None,
    json: JsonFile = None,
) -> None:
    """Serve an emulated robot in real time until SIGTERM.

    The first line printed is JSON: link (for `wpg run --link`), robot, protocol, pid; with a task also source
    and terms (for `wpg run --source`), or goal (for `wpg run --goal`).

    Args:
        robot: A robot's name or the path of its .toml file.
        link: Where to serve: pty:, udp://127.0.0.1:7700, tcp://127.0.0.1:7700, serial:///dev/ttyUSB0. Port 0
            takes a free one.
        protocol: Device protocol; by default the robot's.
        engine: Physics engine; kinematic needs no simulator.
        actuators: How the arm differs from its model: delay, friction, gains, payload, noise. Ranges are
            sampled once, from the seed.
        task: Put the arm at this task's table, with its object or hole: PandaPush, PandaPickAndPlace,
            PandaInsert, or an id such as wpg/PandaPush-v0. An object that is out of reach is put back while
            the arm is at its start.
        source: Where to serve the object's pose; by default udp://127.0.0.1:0.
        camera: Camera that observes the object: rate_hz=30,delay_ms=20 by default; also noise_mm, noise_deg,
            drop=0.05, and hidden_after_s=5 with hidden_for_s=1.
        faults: Faults on the link, as probabilities: drop=0.05,corrupt=0.01,delay=0.02,delay_ms=30;
            also truncate, duplicate, garbage, reorder, partial; and once: dead_servo=3 with dead_after_s=5,
            brownout_after_s=5, unplug_after_s=5 with unplug_for_s=0.3.
        seed: Seed of faults, the arm's parameters and noise, the camera's noise, and object positions.
    """
    prepare_outputs(json, inputs=(robot, actuators, key))
    require_at_least(0, seed=seed)
    spec = parse_camera(camera)
    description = load_description(robot)
    secret = None if key is None else read_key(key)
    table, hole = (None, None) if task is None else _make_scene(task, robot, engine, actuators, seed)
    if table is None and (source is not None or camera):
        raise UsageError("--source and --camera are for an object: give --task, e.g. PandaPush")
    sender = None if table is None else PoseSender(source or ANY_PORT, key=secret)
    companions: list[Companion] = []
    if table is not None and sender is not None:
        seeing = EmulatedCamera(table.look, sender, spec, seed=seed, now_s=RealClock().now())
        companions = [table, seeing]
    scene = table or hole
    with stop_on_signals() as should_stop:
        emulator = Emulator(
            _make_robot(description, engine, actuators, seed) if scene is None else scene.robot,
            link,
            protocol=protocol or description.protocol,
            key=secret,
            faults=parse_faults(faults) if faults else None,
            seed=seed,
            companions=companions,
        )
        hello: dict[str, object] = {**emulator.hello()}
        if sender is not None:
            hello |= {"source": sender.url, "terms": sender.terms}
        if hole is not None:
            hello["goal"] = hole.goal_m.tolist()
        try:
            print(msgspec.json.encode(hello).decode(), flush=True)
            # A robot's own computer is punctual, so the emulator has real-time rights too, below the loop's.
            with realtime(RealtimeConfig(priority=70)):
                emulator.serve(should_stop)
        finally:
            witnessed = msgspec.to_builtins(emulator.witness)
            if table is not None:
                witnessed["put_backs"] = table.put_backs
            write_json(json, witnessed)
            emulator.close()


def _make_scene(
    task: str, robot: str, engine: Engine, actuators: Path | None, seed: int
) -> "tuple[TableStandIn | None, HoleStandIn | None]":
    """The table of a task with an object, or the hole of the inserting task; the other is None."""
    if engine == "kinematic":
        raise UsageError("--task needs physics: --engine mujoco or pybullet")
    from wpg.sim_envs.tasks.stand_in import HoleStandIn, TableStandIn  # noqa: PLC0415  the bare bridge has no simulator

    if HoleStandIn.is_for(task):
        return None, HoleStandIn(robot, engine, effects=actuators, seed=seed)
    return TableStandIn(task, robot, engine, effects=actuators, seed=seed), None


def _make_robot(
    description: RobotDescription, engine: Engine, actuators: Path | None, seed: int
) -> SimulatedRobot:
    if engine == "kinematic":
        if actuators is not None:
            raise UsageError("--actuators needs physics: --engine mujoco or pybullet")
        return KinematicRobot(description, gripper=True)
    if importlib.util.find_spec(engine) is None:
        raise CommandError(
            f"engine {engine} is not installed: pip install 'wpg[train]'; --engine kinematic needs none"
        )
    from wpg.sim_envs.engines import make_robot  # noqa: PLC0415  the bare bridge has no simulator
    from wpg.sim_envs.models.scene import Scene  # noqa: PLC0415

    if actuators is None:
        return make_robot(description, engine, scene=Scene(gripper=_models_gripper(description)))
    return _make_other_robot(description, engine, actuators, seed)


def _make_other_robot(
    description: RobotDescription, engine: Literal["mujoco", "pybullet"], actuators: Path, seed: int
) -> SimulatedRobot:
    """An arm with effects drawn from the file, at home and holding."""
    from wpg.sim_envs.effects import load_effects  # noqa: PLC0415
    from wpg.sim_envs.engines import make_robot  # noqa: PLC0415
    from wpg.sim_envs.models.scene import Scene  # noqa: PLC0415

    effects = load_effects(actuators, description)
    assert effects is not None
    rng = np.random.default_rng(seed)
    robot = make_robot(description, engine, scene=Scene(payload=True, gripper=_models_gripper(description)))
    robot.apply(effects.draw(rng, description), rng)
    robot.reset(description.limits("home_rad"))
    robot.stop(StopMode.HOLD)
    return robot


def _models_gripper(description: RobotDescription) -> bool:
    """Whether the physics engines can simulate this robot's gripper."""
    return description.gripper is not None and description.gripper.joints is not None
