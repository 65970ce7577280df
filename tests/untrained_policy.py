"""A policy that has learned nothing: what it does is of no account, how it is stored and run is."""

from pathlib import Path

from wpg.export.artifact import Artifact
from wpg.export.contract import Provenance
from wpg.export.interface import PolicyInterface
from wpg.export.options import AS_TRAINED, SamplerOptions


def write_untrained(
    path: Path,
    interface: PolicyInterface,
    *,
    seed: int = 0,
    env_id: str = "wpg/PandaReach-v0",
    options: SamplerOptions = AS_TRAINED,
) -> Artifact:
    """Write and load the artifact of a small policy as its random start has it."""
    import torch

    from wpg.controllers.critic import Critic
    from wpg.controllers.policy import ParticlePolicy
    from wpg.export.writing.sources import policy_source
    from wpg.export.writing.writer import write_artifact

    shape = (interface.obs_dim, interface.action.size)
    sizes = {"hidden": 16, "generator": torch.Generator().manual_seed(seed)}
    policy = ParticlePolicy(*shape, num_particles=4, **sizes)
    return write_artifact(
        path,
        policy_source(policy, Critic(*shape, **sizes), temperature=0.1),
        interface=interface,
        provenance=Provenance(
            env_id=env_id, seed=seed, env_steps=0, git_commit=None, packages={}, config_sha256="0" * 64
        ),
        options=options,
    )
