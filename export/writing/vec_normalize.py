"""Statistics of Stable-Baselines3's ``VecNormalize``.

The file is a pickle; of it only numpy arrays are restored, all else stays inert.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from wpg.export.errors import ContractError, CorruptArtifactError
from wpg.export.writing.networks import InputNormaliser


class _Inert:
    """Stands for every class of a pickle that is not numpy's."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of dictionaries of other libraries, such as those of spaces."""

    def append(self, value: Any) -> None:
        """Entries of lists."""

    extend = append


class _ArraysOnly(pickle.Unpickler):
    """Restores numpy arrays and scalars, and nothing else."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] == "numpy" and name in self._ALLOWED:
            return super().find_class(module, name)
        return _Inert


def read_vec_normalize(path: Path, keys: tuple[str, ...]) -> InputNormaliser:
    """Statistics of the observations.

    Args:
        path: the file that ``VecNormalize.save`` has written.
        keys: entries of a dictionary of observations, in the policy's order; empty for a vector.

    Raises:
        CorruptArtifactError: the file cannot be read.
        ContractError: it has no statistics of such observations.
    """
    try:
        state = _ArraysOnly(io.BytesIO(path.read_bytes())).load().state
        if not state["norm_obs"]:
            raise ContractError(f"{path}: expected normalised observations, found norm_obs off")
        found = state["obs_rms"]
        if isinstance(found, dict) and found.keys() != set(keys):
            expected = ", ".join(keys) or "a vector"
            raise ContractError(f"{path}: expected statistics of {expected}, found {', '.join(found)}")
        parts = [found[key] for key in keys] if keys else [found]
        mean, variance = (
            np.concatenate([np.asarray(part.state[name]) for part in parts]) for name in ("mean", "var")
        )
        epsilon, clip = float(state["epsilon"]), float(state["clip_obs"])
    except ContractError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise CorruptArtifactError(f"{path}: expected VecNormalize statistics of vectors: {error}") from error
    return InputNormaliser(
        mean=mean.astype(np.float32), std=np.sqrt(variance + epsilon).astype(np.float32), clip=clip
    )
