"""Between run folders, artifacts and environments."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from wpg.cli.options import Select
from wpg.controllers import load_run
from wpg.controllers.environment import make_env
from wpg.controllers.evaluation import Act
from wpg.controllers.run import Run
from wpg.export.artifact import Artifact, ArtifactSampler
from wpg.export.contract import Provenance, read_interface
from wpg.export.interface import ActionTerm, ObservationTerm, PolicyInterface
from wpg.export.options import AS_TRAINED, SamplerOptions
from wpg.export.writing.sources import policy_source
from wpg.export.writing.writer import write_artifact


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a policy is written."""

    sampler: SamplerOptions = AS_TRAINED
    """How particles are drawn, refined and chosen."""
    interface: Path | None = None
    """TOML file in place of what the environment declares."""
    licence: str | None = None
    """SPDX identifier."""
    sign_key: bytes | None = None
    """Shared secret to sign the file with."""


def export_run(folder: Path, out: Path, options: ExportOptions | None = None) -> Path:
    """Write a run's policy as an artifact; returns ``out``."""
    options = options or ExportOptions()
    run = load_run(folder)
    config_bytes = (folder / "config.yaml").read_bytes()
    write_artifact(
        out,
        policy_source(run.policy, run.critic, temperature=run.metadata["tau"]),
        interface=interface_of(run) if options.interface is None else read_interface(options.interface),
        provenance=Provenance(
            env_id=run.config.env,
            seed=run.config.seed,
            env_steps=run.metadata["steps"],
            git_commit=run.metadata.get("git_commit"),  # earlier checkpoints have neither
            packages=run.metadata.get("packages", {}),
            config_sha256=hashlib.sha256(config_bytes).hexdigest(),
            licence=options.licence,
        ),
        options=options.sampler,
        sign_key=options.sign_key,
    )
    return out


def interface_of(run: Run) -> PolicyInterface:
    """What the run's environment declares, or, for one that declares nothing, its bare spaces."""
    env = make_env(run.config.env, **run.config.env_kwargs)
    try:
        declared = getattr(env.unwrapped, "interface", None)
        if isinstance(declared, PolicyInterface):
            return declared
        terms = [ObservationTerm(name="observation", size=run.spec.observation_dim, source="environment")]
        if run.spec.goal_dim:
            terms.append(ObservationTerm(name="desired_goal", size=run.spec.goal_dim, source="environment"))
        return bare_interface(env, tuple(terms), run.spec.action_low, run.spec.action_high)
    finally:
        env.close()


def bare_interface(
    env: gymnasium.Env[object, object],
    observation: tuple[ObservationTerm, ...],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
) -> PolicyInterface:
    """Interface of an environment that stands for no robot; actions (A,) from ``low`` to ``high``."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    dt = getattr(env.unwrapped, "dt", None) or 1.0 / (env.metadata.get("render_fps") or 1.0)
    return PolicyInterface(
        robot=None,
        observation=observation,
        action=ActionTerm(
            mode="environment",
            size=len(low),
            unit="the environment's",
            scale=tuple(((high - low) / 2).tolist()),
            offset=tuple(((high + low) / 2).tolist()),
        ),
        control_dt_s=float(dt),
    )


def artifact_act(
    artifact: Artifact,
    action_space: Box,
    select: Select,
    *,
    seed: int,
    sampler: ArtifactSampler | None = None,
) -> Act:
    """Controller for an environment: the artifact's action, in the environment's units.

    Args:
        artifact: what decides.
        action_space: of the environment.
        select: how it chooses among its particles.
        seed: of its noise.
        sampler: the artifact's, where episodes follow each other: who has it lets it forget the one before.
    """
    sampler = sampler or artifact.sampler()
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
