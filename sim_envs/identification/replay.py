"""Replays the commands of a recording in the simulator, with one set of effects or with many in parallel."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.identification.recording import Recording
from wpg.sim_envs.models.scene import Scene
from wpg.sim_envs.models.urdf import simulation_model


class Motion(NamedTuple):
    """Motion of the simulated arm, (T, num_joints) each, at the times at which the setpoints were sent."""

    joint_pos: Vector
    joint_vel: Vector
    joint_torque: Vector


class Replayer:
    """A simulator that replays recordings.

    Args:
        description: the robot.
        engine: the physics engine.
    """

    def __init__(self, description: RobotDescription, engine: EngineName = "mujoco") -> None:
        self._robot = make_robot(description, engine, scene=Scene(payload=True))
        self._step_s = simulation_model(description).step_s

    def replay(self, recording: Recording, effects: DrawnEffects) -> Motion:
        """Send the commands to an arm with these effects, starting at the recorded position."""
        self._robot.apply(effects, np.random.default_rng(0))
        self._robot.reset(recording.joint_pos[0] - effects.joint_pos_offset_rad)
        departures = np.rint(recording.time_s / self._step_s).astype(np.int64)
        joint_pos, joint_vel, joint_torque = self._robot.replay(
            departures, recording.command_pos, recording.command_vel
        )
        return Motion(joint_pos + effects.joint_pos_offset_rad, joint_vel, joint_torque)

    def close(self) -> None:
        """Free the engine."""
        self._robot.close()


class ReplayPool:
    """Replays one recording with many sets of effects on several cores.

    Args:
        description: the robot.
        recording: the recording.
        num_workers: number of processes; 1 uses the calling process; None: one for each usable core.
    """

    def __init__(
        self, description: RobotDescription, recording: Recording, num_workers: int | None = None
    ) -> None:
        num_workers = num_workers or len(os.sched_getaffinity(0))
        self._executor: ProcessPoolExecutor | None = None
        self._replayer: Replayer | None = None
        self._recording = recording
        if num_workers > 1:
            self._executor = ProcessPoolExecutor(
                num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare,
                initargs=(description, recording),
            )
        else:
            self._replayer = Replayer(description)

    def replay(self, effects: Sequence[DrawnEffects]) -> list[Motion]:
        """Replay with each set of effects; returns their motions."""
        if self._executor is not None:
            return list(self._executor.map(_replay, effects))
        assert self._replayer is not None
        return [self._replayer.replay(self._recording, one) for one in effects]

    def __enter__(self) -> "ReplayPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown()
        if self._replayer is not None:
            self._replayer.close()


_prepared: tuple[Replayer, Recording]
"""The simulator and the recording of a worker process."""


def _prepare(description: RobotDescription, recording: Recording) -> None:
    global _prepared  # noqa: PLW0603  an initializer can pass objects to later calls by a global only
    _prepared = Replayer(description), recording


def _replay(effects: DrawnEffects) -> Motion:
    replayer, recording = _prepared
    return replayer.replay(recording, effects)
