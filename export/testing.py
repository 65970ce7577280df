"""An untrained policy, for tests and benchmarks in which it does not matter what the policy does.

It needs torch and onnx, as all writing of artifacts does.
"""

from pathlib import Path

import torch

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.export.artifact import Artifact
from wpg.export.contract import Provenance
from wpg.export.interface import PolicyInterface
from wpg.export.options import AS_TRAINED, SamplerOptions
from wpg.export.writing.exportable_policy import exportable_policy
from wpg.export.writing.writer import write_artifact


def untrained_artifact(
    path: Path | str,
    interface: PolicyInterface,
    *,
    num_particles: int = 4,
    hidden: int = 16,
    seed: int = 0,
    env_id: str = "wpg/PandaReach-v0",
    options: SamplerOptions = AS_TRAINED,
) -> Artifact:
    """Write a randomly initialised policy, and load it.

    Args:
        path: the .onnx file to write.
        interface: what the policy sees and commands.
        num_particles: of the policy's mixture.
        hidden: units of each hidden layer.
        seed: of the weights.
        env_id: the environment that the file names as its training environment.
        options: how particles are drawn, refined and chosen.
    """
    shape = (interface.obs_dim, interface.action.size)
    generator = torch.Generator().manual_seed(seed)
    policy = ParticlePolicy(*shape, num_particles=num_particles, hidden=hidden, generator=generator)
    critic = Critic(*shape, hidden=hidden, generator=generator)
    return write_artifact(
        path,
        exportable_policy(policy, critic, temperature=0.1),
        interface=interface,
        provenance=Provenance(
            env_id=env_id, seed=seed, env_steps=0, git_commit=None, packages={}, config_sha256="0" * 64
        ),
        options=options,
    )
