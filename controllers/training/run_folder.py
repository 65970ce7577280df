"""The folder of a training run: its settings, and its last checkpoint's networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wpg.controllers.acting import make_act
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.algorithm.tensor_names import under
from wpg.controllers.config import ResolvedConfig, Select
from wpg.controllers.errors import CheckpointFormatError, RunFolderError, UnknownEnvError
from wpg.controllers.experience.environment import Env, EnvSpec, make_env
from wpg.controllers.experience.evaluation import Act
from wpg.controllers.files import locked
from wpg.controllers.training import checkpoint
from wpg.controllers.training.checkpoint import RunMetadata

CONFIG_NAME = "config.yaml"
CHECKPOINT_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained policy with its critic, settings and environment sizes."""

    config: ResolvedConfig
    """Settings of the run."""
    policy: ParticlePolicy
    """The running average of the policy, in eval mode."""
    critic: Critic
    """In eval mode."""
    spec: EnvSpec
    """Sizes and ranges of the environment."""
    metadata: RunMetadata

    def act(self, select: Select | None = None, *, seed: int = 0) -> Act:
        """Controller for `evaluate`: observation (obs_dim,) -> action in the environment's units."""
        select = self.config.select if select is None else select
        return make_act(self.policy, self.critic, self.spec, select, seed=seed)

    def make_env(self, **kwargs: Any) -> Env:
        """Make the environment of the training, with the run's `env_kwargs`, which `kwargs` override.

        Raises:
            UnknownEnvError: it was made by `env_factory`, or is not registered any more.
        """
        require_factory(self.metadata, None)
        return make_env(self.config.env, **self.config.env_kwargs | kwargs)


def is_unused(folder: Path) -> bool:
    """Whether a new run may use this path: there is nothing, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def build_networks(
    spec: EnvSpec, config: ResolvedConfig, generator: torch.Generator | None = None
) -> tuple[ParticlePolicy, Critic]:
    """Make untrained networks for the environment's sizes and these settings."""
    sizes = (spec.obs_dim, spec.action_dim)
    policy = ParticlePolicy(
        *sizes, num_particles=config.num_particles, hidden=config.hidden, generator=generator
    )
    return policy, Critic(*sizes, hidden=config.hidden, generator=generator)


def read_config(folder: Path) -> tuple[ResolvedConfig, RunMetadata]:
    """Read the settings of the run in `folder` and its checkpoint's metadata.

    The checkpoint is read first, so that a run of another release is reported as such, and not by an error in
    its settings.

    Raises:
        RunFolderError: the folder is no run folder.
        ConfigError: its settings cannot be read.
        CheckpointFormatError: its checkpoint is missing, damaged or of another version.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no {CONFIG_NAME}")
    _, state = checkpoint.read(folder / CHECKPOINT_NAME, lambda name: False)
    return ResolvedConfig.load(folder / CONFIG_NAME), state.metadata


def require_factory(metadata: RunMetadata, env_factory: Callable[[], Env] | None) -> None:
    """Check that `env_factory` is given if a run with this metadata was trained with one.

    Raises:
        UnknownEnvError: it is missing, and the environment has no id to make it by.
    """
    if metadata.env_factory and env_factory is None:
        raise UnknownEnvError(
            f"{metadata.env!r} is only a name: the run was trained with env_factory; make the environment "
            "by it, and give it to export_run or resume, too"
        )


@contextmanager
def sole_training(folder: Path) -> Iterator[None]:
    """Context in which no other process can train in `folder`.

    Processes that are forked in this context hold its lock, too, and may outlive this one. Therefore the
    processes of a training are forked before.

    Raises:
        RunFolderError: another process trains there.
    """
    with locked(folder) as alone:
        if alone is False:  # None on a file system without locks, where nothing can be said
            raise RunFolderError(f"another process trains in {folder}")
        yield


def has_checkpoint(folder: Path) -> bool:
    """Whether the run in `folder` has written a checkpoint."""
    return (folder / CHECKPOINT_NAME / checkpoint.FILE_NAME).exists()


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Context in which tensors of the checkpoint in `folder` are loaded into networks and replay.

    Raises:
        CheckpointFormatError: the tensors' sizes differ from those that the run's settings give.
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
    config, _ = read_config(folder)
    parts = ("average.", "critic.")
    tensors, state = checkpoint.read(folder / CHECKPOINT_NAME, lambda name: name.startswith(parts))
    policy, critic = build_networks(state.spec, config)
    with fitting(folder):
        policy.load_state_dict(under(tensors, "average."))
        critic.load_state_dict(under(tensors, "critic."))
    for module in (policy, critic):
        module.float().eval().requires_grad_(False)
    return Run(config=config, policy=policy, critic=critic, spec=state.spec, metadata=state.metadata)
