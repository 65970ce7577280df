"""Checkpoints: one safetensors file, which is replaced atomically and cannot contain executable code.

The tensors are parameters, optimiser moments, normalisation statistics, replay rows and the generator's
state. Everything else is a `TrainState`, stored as JSON in the file's metadata. A reader that needs only the
policy reads only the policy's tensors. The metadata also holds a CRC-32 of every tensor and one of the JSON,
so that damaged bytes are noticed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wpg.controllers.errors import CheckpointFormatError, CheckpointWriteError
from wpg.controllers.experience.environment import EnvSpec
from wpg.controllers.experience.evaluation import LastEvaluation
from wpg.controllers.files import replacing
from wpg.controllers.training.rollout import RolloutState

VERSION = 9
FILE_NAME = "state.safetensors"


class RunMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a trained policy comes from."""

    env: str
    """Gymnasium id of the environment, or the name that `TrainConfig.env` gave it."""
    env_factory: bool
    """Whether the environment is not registered, but was made by a function."""
    interface: Any
    """The environment's `interface` in JSON values (see `declared_interface`)."""
    seed: int
    """Seed of the run."""
    steps: int
    """Environment steps so far."""
    updates: int
    """Critic updates so far."""
    episodes: int
    """Training episodes finished so far."""
    gamma: float
    """Discount."""
    tau: float
    """Temperature at the checkpoint."""
    success_rate: float | None
    """Success rate of the last evaluation, if any."""
    git_commit: str | None
    """Commit of the checkout that trained it, if it was one."""
    packages: dict[str, str]
    """Versions of the packages that trained it."""


class TrainState(msgspec.Struct, frozen=True, kw_only=True):
    """What a resumed training needs besides tensors."""

    position: int
    """Row of the replay memory that is written next."""
    kept: int
    """Number of the replay memory's rows that are never overwritten."""
    streak: int
    """Number of last evaluations in a row that reached `stop_at_success`."""
    last_eval: LastEvaluation
    rollout: RolloutState
    spec: EnvSpec
    metadata: RunMetadata


class _Version(msgspec.Struct):
    version: int


class _Header(_Version):
    state: TrainState
    tensor_crcs: dict[str, int]


def write(folder: Path, tensors: dict[str, Tensor], state: TrainState) -> None:
    """Write a checkpoint; if that fails, the previous one stays as it is.

    Raises:
        CheckpointWriteError: the disk is full, or not writable.
    """
    path = folder / FILE_NAME
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = _Header(VERSION, state, {name: _crc(tensor) for name, tensor in content.items()})
    encoded = msgspec.json.encode(header, enc_hook=lambda numbers: numbers.tolist())
    metadata = {"wpg": encoded.decode(), "crc": str(crc32(encoded))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.touch()
            mode = partial.stat().st_mode
            save_file(content, partial, metadata)
            partial.chmod(mode)  # save_file makes a file that only its owner may read
    except (OSError, SafetensorError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "there is none before it"
        raise CheckpointWriteError(f"cannot write the checkpoint {path}: {error}; {kept}") from error


def read(
    folder: Path, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], TrainState]:
    """Read the state and those tensors whose names are `wanted`.

    Raises:
        CheckpointFormatError: the file is missing, truncated, foreign or of another version.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            encoded = metadata["wpg"].encode()
            version = msgspec.json.decode(encoded, type=_Version).version
            if version != VERSION:
                raise CheckpointFormatError(f"{path} has version {version}, this release reads {VERSION}")
            if metadata["crc"] != str(crc32(encoded)):
                raise CheckpointFormatError(f"{path} is damaged: its state has another CRC")
            header = msgspec.json.decode(encoded, type=_Header, dec_hook=_float32)
            tensors = {name: file.get_tensor(name) for name in header.tensor_crcs if wanted(name)}
            for name, tensor in tensors.items():
                if _crc(tensor) != header.tensor_crcs[name]:
                    raise CheckpointFormatError(f"{path} is damaged: {name} has another CRC")
    except FileNotFoundError as error:
        raise CheckpointFormatError(f"no checkpoint at {path}") from error
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise CheckpointFormatError(f"{path} is no checkpoint of ours, or is damaged: {error}") from error
    return tensors, header.state


def _crc(tensor: Tensor) -> int:
    """CRC-32 of a CPU tensor's type, shape and bytes."""
    kind = f"{tensor.dtype} {tuple(tensor.shape)}"
    return crc32(tensor.flatten().view(torch.uint8).numpy().data, crc32(kind.encode()))


def _float32(_: type, numbers: Any) -> Any:
    """An array of a `TrainState` from its numbers; float32 numbers pass through JSON unchanged."""
    return np.array(numbers, np.float32)
