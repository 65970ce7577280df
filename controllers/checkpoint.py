"""Checkpoints: one safetensors file, which is replaced atomically and cannot contain executable code.

The tensors are parameters, optimiser moments, normalisation statistics, replay rows and the generator's
state. The counters are one JSON object in the file's metadata. A reader that needs only the policy reads
only the policy's tensors.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wpg.controllers.errors import CheckpointFormatError, CheckpointWriteError
from wpg.controllers.files import replacing

VERSION = 8
FILE_NAME = "state.safetensors"


def write(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint; if that fails, the previous one stays as it is.

    Raises:
        CheckpointWriteError: the disk is full, or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"wpg": json.dumps({"version": VERSION, **state})}
    try:
        with replacing(path) as partial:
            save_file(content, partial, header)
    except (OSError, SafetensorError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "there is none before it"
        raise CheckpointWriteError(f"cannot write the checkpoint {path}: {error}; {kept}") from error


def read(
    folder: Path, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the counters and those tensors whose names are `wanted`.

    Raises:
        CheckpointFormatError: the file is missing, truncated, foreign or of another version.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state: dict[str, Any] = json.loads(metadata["wpg"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointFormatError(f"no checkpoint at {path}") from error
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointFormatError(f"{path} is no checkpoint of ours, or is damaged: {error}") from error
    if state.get("version") != VERSION:
        raise CheckpointFormatError(
            f"{path} has version {state.get('version')}, this release reads {VERSION}"
        )
    return tensors, state


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix` put before their names."""
    return {prefix + name: value for name, value in tensors.items()}


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it: the inverse of `prefixed`."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
