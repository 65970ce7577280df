"""A finished or running training run, as its folder holds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wpg.controllers import checkpoint
from wpg.controllers.checkpoint import under
from wpg.controllers.config import ResolvedConfig, Select
from wpg.controllers.critic import Critic
from wpg.controllers.environment import EnvSpec, FloatArray
from wpg.controllers.errors import CheckpointFormatError, RunFolderError
from wpg.controllers.evaluation import Act
from wpg.controllers.flow import scale_noise
from wpg.controllers.policy import ParticlePolicy

CONFIG_NAME = "config.yaml"
CHECKPOINT_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Policy and critic at rest, with what they were trained on."""

    config: ResolvedConfig
    """Settings of the run."""
    policy: ParticlePolicy
    """The average of its last updates, in eval mode."""
    critic: Critic
    """In eval mode."""
    spec: EnvSpec
    """Sizes and ranges of the environment."""
    metadata: dict[str, Any]
    """`env, seed, steps, updates, episodes, gamma, tau, success_rate, git_commit, packages`."""

    def act(self, select: Select | None = None, *, seed: int = 0) -> Act:
        """Controller for `evaluate`: observation (obs_dim,) -> action in the environment's units."""
        return make_act(self.policy, self.critic, self.spec, select or self.config.select, seed=seed)


def build_networks(
    spec: EnvSpec, config: ResolvedConfig, generator: torch.Generator | None = None
) -> tuple[ParticlePolicy, Critic]:
    """Networks of the sizes that environment and settings ask for."""
    sizes = (spec.obs_dim, spec.action_dim)
    policy = ParticlePolicy(
        *sizes, num_particles=config.num_particles, hidden=config.hidden, generator=generator
    )
    return policy, Critic(*sizes, hidden=config.hidden, generator=generator)


def make_act(policy: ParticlePolicy, critic: Critic, spec: EnvSpec, select: Select, *, seed: int = 0) -> Act:
    """Act by the critic's best particle, by the particles' mean, or by a sample of the policy.

    The networks are taken as they are now, folded: later updates of them do not show.
    """
    generator = torch.Generator().manual_seed(seed)
    mixture, values = policy.at_rest(), critic.at_rest()

    def choose(obs: torch.Tensor) -> torch.Tensor:
        mean, log_std, stretch = (part[0] for part in mixture(obs))  # (K, A) each
        if select == "mean":
            return torch.tanh(mean.mean(0))
        if select == "sample":
            index = int(torch.randint(policy.num_particles, (), generator=generator))
            noise = torch.randn(policy.action_dim, generator=generator).to(mean.device)
            return torch.tanh(mean[index] + scale_noise(noise, log_std[index], stretch[index]))
        particles = torch.tanh(mean)
        return particles[values(obs.expand(len(particles), -1), particles).amin(0).argmax()]

    device = next(policy.parameters()).device

    @torch.inference_mode()
    def act(obs: FloatArray) -> FloatArray:
        action = choose(torch.from_numpy(np.asarray(obs, np.float32))[None].to(device))
        return spec.scale_action(action.cpu().numpy())

    return act


def spec_to_json(spec: EnvSpec) -> dict[str, Any]:
    """The spec as JSON values."""
    return {**vars(spec), "action_low": spec.action_low.tolist(), "action_high": spec.action_high.tolist()}


def spec_from_json(values: dict[str, Any]) -> EnvSpec:
    """What `spec_to_json` wrote; float32 survives the way through JSON unchanged."""
    box = {name: np.array(values[name], np.float32) for name in ("action_low", "action_high")}
    return EnvSpec(**{**values, **box})


def read_config(folder: Path) -> ResolvedConfig:
    """Settings of the run in `folder`, which has a checkpoint that this release reads.

    Another release's run is told by its checkpoint, before its settings are found to be others.

    Raises:
        RunFolderError: the folder is no run folder.
        ConfigError: its settings cannot be read.
        CheckpointFormatError: its checkpoint is missing, damaged or of another version.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no {CONFIG_NAME}")
    checkpoint.read(folder / CHECKPOINT_NAME, lambda name: False)
    return ResolvedConfig.load(folder / CONFIG_NAME)


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """While tensors of the checkpoint in `folder` are put in their places.

    Raises:
        CheckpointFormatError: they have other sizes than its settings say.
    """
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise CheckpointFormatError(
            f"the checkpoint in {folder} does not fit its {CONFIG_NAME}: {reason}"
        ) from error


def load_run(folder: str | Path) -> Run:
    """Read policy, critic and metadata of a run folder's last checkpoint, onto the CPU.

    Raises:
        RunFolderError: the folder is no run folder.
        ConfigError: its settings cannot be read.
        CheckpointFormatError: its checkpoint is missing, damaged, of another version or does not fit.
    """
    folder = Path(folder)
    config = read_config(folder)
    parts = ("average.", "critic.")
    tensors, state = checkpoint.read(folder / CHECKPOINT_NAME, lambda name: name.startswith(parts))
    spec = spec_from_json(state["spec"])
    policy, critic = build_networks(spec, config)
    with fitting(folder):
        policy.load_state_dict(under(tensors, "average."))
        critic.load_state_dict(under(tensors, "critic."))
    for module in (policy, critic):
        module.eval().requires_grad_(False)
    return Run(config=config, policy=policy, critic=critic, spec=spec, metadata=state["metadata"])
