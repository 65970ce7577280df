"""Run folders as artifacts, and interfaces of environments that declare none."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wpg.controllers.experience.declared_interface import check_interface
from wpg.controllers.experience.environment import Env
from wpg.controllers.training.run_folder import CONFIG_NAME, Run, load_run
from wpg.export.contract import Provenance, read_interface
from wpg.export.interface import ActionTerm, ObservationTerm, PolicyInterface
from wpg.export.options import ExportOptions
from wpg.export.writing.exportable_policy import exportable_policy
from wpg.export.writing.writer import write_artifact


def export_run(
    folder: str | Path,
    out: str | Path,
    options: ExportOptions | None = None,
    *,
    env_factory: Callable[[], Env] | None = None,
) -> Path:
    """Write a run's policy as an artifact; returns ``out``.

    Args:
        folder: the run folder, with a checkpoint.
        out: the .onnx file to write.
        options: None exports the policy as it was trained.
        env_factory: the one that the run was trained with, if there was one.

    Raises:
        ControllersError: the folder holds no run that can be read, ``env_factory`` is missing, or the
            environment no longer declares the robot, observations and actions of the training.
        ArtifactError: the policy cannot be written with these options.
        OSError: the file cannot be written.
    """
    folder, out, options = Path(folder), Path(out), options or ExportOptions()
    run = load_run(folder)
    if options.interface is None:
        interface = interface_of(run, env_factory)
    else:
        interface = read_interface(options.interface)
    write_artifact(
        out,
        exportable_policy(run.policy, run.critic, temperature=run.metadata.tau),
        interface=interface,
        provenance=Provenance(
            env_id=run.config.env,
            seed=run.config.seed,
            env_steps=run.metadata.steps,
            git_commit=run.metadata.git_commit,
            packages=run.metadata.packages,
            config_sha256=hashlib.sha256((folder / CONFIG_NAME).read_bytes()).hexdigest(),
            licence=options.licence,
        ),
        options=options.sampler,
        sign_key=options.sign_key,
    )
    return out


def interface_of(run: Run, env_factory: Callable[[], Env] | None = None) -> PolicyInterface:
    """The interface that the run's environment declares, or a bare one if it declares none.

    Raises:
        UnknownEnvError: the run was trained with ``env_factory``, which is not given.
        CheckpointFormatError: the environment declares another interface than at the training.
    """
    env = run.make_env() if env_factory is None else env_factory()
    try:
        check_interface(run.metadata.interface, env)
        declared = getattr(env.unwrapped, "interface", None)
        if isinstance(declared, PolicyInterface):
            return declared
        own, goal = run.spec.own_observation_dim, run.spec.goal_dim
        sizes = {"observation": own, "achieved_goal": run.spec.observation_dim - own, "desired_goal": goal}
        terms = tuple(
            ObservationTerm(name=name, size=size, source="environment")
            for name, size in sizes.items()
            if size
        )
        return bare_interface(env, terms, run.spec.action_low, run.spec.action_high)
    finally:
        env.close()


def bare_interface(
    env: gymnasium.Env[object, object],
    observation: tuple[ObservationTerm, ...],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
) -> PolicyInterface:
    """Interface of an environment that models no robot; its actions (A,) range from ``low`` to ``high``.

    The scale is rounded down, so that no action computed in float32 lies outside this range.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    offset = ((low + high) / 2).astype(np.float32)
    room = np.minimum(high - offset, offset - low)
    scale = room.astype(np.float32)
    scale = np.where(scale > room, np.nextafter(scale, np.float32(0)), scale)
    dt = getattr(env.unwrapped, "dt", None)
    if not (isinstance(dt, int | float | np.number) and dt > 0):
        dt = 1.0 / (env.metadata.get("render_fps") or 1.0)
    return PolicyInterface(
        robot=None,
        observation=observation,
        action=ActionTerm(
            mode="environment",
            size=len(low),
            unit="the environment's",
            scale=tuple(scale.tolist()),
            offset=tuple(offset.tolist()),
        ),
        control_dt_s=float(dt),
    )
