"""An untrained policy, for benchmarks in which only its size matters."""

from pathlib import Path

import torch

from wpg.controllers import Critic, ParticlePolicy
from wpg.export import Artifact, PolicyInterface, Provenance
from wpg.export.options import AS_TRAINED, SamplerOptions
from wpg.export.writing.sources import policy_source
from wpg.export.writing.writer import write_artifact

NOWHERE = Provenance(
    env_id="benchmark", seed=0, env_steps=0, git_commit=None, packages={}, config_sha256="0" * 64
)
"""Provenance of an untrained policy."""


def untrained(
    path: Path,
    interface: PolicyInterface,
    *,
    num_particles: int,
    hidden: int,
    options: SamplerOptions = AS_TRAINED,
) -> Artifact:
    """Write and load the artifact of a randomly initialised policy."""
    generator = torch.Generator().manual_seed(0)
    size = interface.action.size
    policy = ParticlePolicy(
        interface.obs_dim, size, num_particles=num_particles, hidden=hidden, generator=generator
    )
    critic = Critic(interface.obs_dim, size, hidden=hidden, generator=generator)
    source = policy_source(policy, critic, temperature=0.1)
    return write_artifact(path, source, interface=interface, provenance=NOWHERE, options=options)
