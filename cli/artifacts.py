"""Between run folders, artefacts and environments."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from wpg.controllers import load_run
from wpg.controllers.environment import make_env
from wpg.controllers.evaluation import Act
from wpg.controllers.run import Run
from wpg.export.contract import ActionTerm, ObservationTerm, PolicyInterface, Provenance
from wpg.export.reader import Artifact
from wpg.export.writer import write_artifact

RECORDED_PACKAGES = ("wpg", "torch", "numpy", "gymnasium", "mujoco", "pybullet", "onnx", "onnxruntime")


def export_run(folder: Path, out: Path, *, particles: int | None = None, refinement_steps: int = 0) -> Path:
    """Write a run's policy as an artefact; returns ``out``."""
    run = load_run(folder)
    config_bytes = (folder / "config.yaml").read_bytes()
    write_artifact(
        out,
        policy=run.policy,
        critic=run.critic,
        interface=interface_of(run),
        provenance=Provenance(
            env_id=run.config.env,
            seed=run.config.seed,
            env_steps=run.metadata["steps"],
            git_commit=_git_commit(),
            packages=installed_versions(),
            config_sha256=hashlib.sha256(config_bytes).hexdigest(),
        ),
        temperature=run.metadata["tau"],
        num_particles=particles or run.config.num_particles,
        refinement_steps=refinement_steps,
    )
    return out


def interface_of(run: Run) -> PolicyInterface:
    """What the run's environment declares, or, for one that declares nothing, its bare spaces."""
    env = make_env(run.config.env)
    try:
        declared = getattr(env.unwrapped, "interface", None)
        return declared if isinstance(declared, PolicyInterface) else _bare_interface(run, env)
    finally:
        env.close()


def _bare_interface(run: Run, env: gymnasium.Env[object, object]) -> PolicyInterface:
    low, high = run.spec.action_low.astype(np.float64), run.spec.action_high.astype(np.float64)
    observation = ObservationTerm(name="observation", size=run.spec.observation_dim, source="environment")
    goal = (
        ObservationTerm(name="desired_goal", size=run.spec.goal_dim, source="environment")
        if run.spec.goal_dim
        else None
    )
    dt = getattr(env.unwrapped, "dt", None) or 1.0 / env.metadata.get("render_fps", 1.0)
    return PolicyInterface(
        robot=None,
        observation=(observation, goal) if goal else (observation,),
        action=ActionTerm(
            mode="environment",
            size=run.spec.action_dim,
            unit="the environment's",
            scale=tuple(((high - low) / 2).tolist()),
            offset=tuple(((high + low) / 2).tolist()),
        ),
        control_dt_s=float(dt),
    )


def artifact_act(
    artifact: Artifact, action_space: Box, select: Literal["best", "mean", "sample"], *, seed: int
) -> Act:
    """Controller for an environment: the artefact's action, in the environment's units."""
    sampler = artifact.sampler()
    generator = np.random.default_rng(seed)
    term = artifact.contract.interface.action
    scale = np.array(term.scale, dtype=np.float32)
    offset = np.array(term.offset, dtype=np.float32)
    normalised = term.mode != "environment"

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = generator.standard_normal(sampler.noise_shape, dtype=np.float32)
        sample = sampler.draw(obs, noise)
        match select:
            case "best":
                action = sample.action
            case "mean":
                action = sample.particles.mean(0)
            case "sample":
                action = sample.particles[generator.integers(len(sample.particles))]
        if normalised:
            action = (action - offset) / scale
        return np.clip(action, action_space.low, action_space.high)

    return act


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, where installed."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Commit of the checkout that the command runs in, if it runs in one."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
