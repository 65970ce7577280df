"""Policies that Stable-Baselines3 has trained: SAC, TQC, TD3, DDPG, PPO and A2C, ``VecNormalize`` included.

The zip is read without Stable-Baselines3 and without unpickling anything: weights as tensors, settings as
JSON.

A policy sees the entries of a dictionary of observations one after another, in the order that the space had
in training; the terms of its interface must follow it.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wpg.export.errors import ArtifactError, ContractError, CorruptArtifactError
from wpg.export.writing.networks import Activation, Array, InputNormaliser, Layer, Networks, as_array
from wpg.export.writing.vec_normalize import read_vec_normalize

_ACTIVATIONS: dict[str, Activation] = {"ReLU": "Relu", "Tanh": "Tanh", "ELU": "Elu"}
_LOG_STD_RANGE = (-20.0, 2.0)  # of SAC and TQC


@dataclass(frozen=True, kw_only=True)
class StableBaselinesPolicy:
    """What a zip holds."""

    networks: Networks
    observation_keys: tuple[str, ...]
    """Entries of a dictionary of observations, in the order in which the policy sees them; else empty."""
    action_low: Array
    """Lower end of the action box that it was trained with, (A,)."""
    action_high: Array
    temperature: float
    """Entropy coefficient of SAC and TQC, else 0."""
    env_steps: int
    seed: int | None
    version: str
    """Version of Stable-Baselines3 that saved the policy."""


def read_stable_baselines(
    path: Path | str, *, vec_normalize: Path | str | None = None, deterministic: bool = True
) -> StableBaselinesPolicy:
    """Read a saved policy.

    Args:
        path: the zip that ``model.save`` has written.
        vec_normalize: the file that ``VecNormalize.save`` has written, where training used one.
        deterministic: act like ``predict(obs, deterministic=True)``; else particles are samples.

    Raises:
        CorruptArtifactError: a file cannot be read.
        ContractError: the policy is of a kind that cannot be written.
    """
    path = Path(path)
    try:
        return _read(path, vec_normalize, deterministic=deterministic)
    except ArtifactError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        reason = " ".join(str(error).split())
        raise CorruptArtifactError(f"{path}: expected a Stable-Baselines3 zip: {reason}") from error


def _read(path: Path, vec_normalize: Path | str | None, *, deterministic: bool) -> StableBaselinesPolicy:
    with zipfile.ZipFile(path) as archive:
        settings = json.loads(archive.read("data"))
        weights = _tensors(archive.read("policy.pth"))
        variables = _tensors(archive.read("pytorch_variables.pth"))
        version = archive.read("_stable_baselines3_version").decode().strip()
    _refuse_unsupported(path, settings, weights)
    low, high = _box(path, settings)
    keys = _observation_keys(settings)
    normaliser = None if vec_normalize is None else read_vec_normalize(Path(vec_normalize), keys)
    networks = _networks(path, settings, weights, normaliser, (low, high), deterministic=deterministic)
    log_coefficient = variables.get("log_ent_coef", variables.get("ent_coef_tensor"))
    coefficient = 0.0 if log_coefficient is None else log_coefficient.reshape(-1)[0].item()
    return StableBaselinesPolicy(
        networks=networks,
        observation_keys=keys,
        action_low=low,
        action_high=high,
        temperature=math.exp(coefficient) if "log_ent_coef" in variables else coefficient,
        env_steps=int(settings.get("num_timesteps", 0)),
        seed=settings.get("seed"),
        version=version,
    )


def _tensors(data: bytes) -> dict[str, Tensor]:
    loaded = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return dict(loaded)


def _refuse_unsupported(path: Path, settings: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    if settings.get("use_sde"):
        raise ContractError(f"{path}: expected a policy without state-dependent exploration, found use_sde")
    features = [name for name in weights if "features_extractor" in name]
    if features:
        raise ContractError(f"{path}: expected a policy on plain vectors, found weights of {features[0]}")
    if not {"actor.mu.weight", "actor.mu.0.weight", "action_net.weight"} & weights.keys():
        raise ContractError(
            f"{path}: expected SAC, TQC, TD3, DDPG, PPO or A2C with continuous actions, "
            f"found weights named {', '.join(sorted(weights)[:3])}, …"
        )


def _networks(
    path: Path,
    settings: dict[str, Any],
    weights: dict[str, Tensor],
    normaliser: InputNormaliser | None,
    box: tuple[Array, Array],
    *,
    deterministic: bool,
) -> Networks:
    if "action_net.weight" in weights:
        networks = _on_policy(weights, box, _activation(path, settings, default="Tanh"), deterministic)
    else:
        networks = _off_policy(weights, box, _activation(path, settings, default="Relu"), deterministic)
    return replace(networks, normaliser=normaliser)


def _on_policy(
    weights: dict[str, Tensor], box: tuple[Array, Array], activation: Activation, deterministic: bool
) -> Networks:
    """PPO, A2C: actions in the environment's unit, clipped to its box."""
    low, high = box
    trunk, (weight, bias) = _stack(weights, "mlp_extractor.policy_net"), _layer(weights, "action_net")
    half, middle = (high - low) / 2, (high + low) / 2
    log_std = np.zeros_like(weight), as_array(weights["log_std"]) - np.log(half)
    return Networks(
        obs_dim=len(trunk[0][0] if trunk else weight),
        action_dim=len(low),
        num_components=1,
        trunk=trunk,
        mean=(weight / half, (bias - middle) / half),
        log_std=None if deterministic else log_std,
        log_std_range=(-math.inf, math.inf),
        squash="clip",
        activation=activation,
    )


def _off_policy(
    weights: dict[str, Tensor], box: tuple[Array, Array], activation: Activation, deterministic: bool
) -> Networks:
    """SAC, TQC, TD3, DDPG: actions squashed by a tanh, and critics of them."""
    if "actor.mu.weight" in weights:  # SAC, TQC
        trunk, mean = _stack(weights, "actor.latent_pi"), _layer(weights, "actor.mu")
        log_std = None if deterministic else _layer(weights, "actor.log_std")
    else:  # TD3, DDPG: the tanh stands behind the last layer
        *trunk, mean = _stack(weights, "actor.mu")
        log_std = None
    critics = []
    if activation == "Relu":  # the graph's critics have no other activation, so others are left out
        members = range(_number_of_critics(weights))
        critics = [_mean_of_quantiles(_stack(weights, f"critic.qf{i}")) for i in members]
    return Networks(
        obs_dim=len((trunk or [mean])[0][0]),
        action_dim=len(box[0]),
        num_components=1,
        trunk=trunk,
        mean=mean,
        log_std=log_std,
        log_std_range=_LOG_STD_RANGE,
        activation=activation,
        critics=critics,
    )


def _layer(weights: Mapping[str, Tensor], name: str) -> Layer:
    return as_array(weights[f"{name}.weight"]).T.copy(), as_array(weights[f"{name}.bias"])


def _stack(weights: Mapping[str, Tensor], name: str) -> list[Layer]:
    """Linear layers of a ``torch.nn.Sequential``, in order."""
    numbers = {
        int(found[1]) for key in weights if (found := re.fullmatch(rf"{re.escape(name)}\.(\d+)\.weight", key))
    }
    return [_layer(weights, f"{name}.{number}") for number in sorted(numbers)]


def _number_of_critics(weights: Mapping[str, Tensor]) -> int:
    return len({found[0] for key in weights if (found := re.match(r"critic\.qf\d+\.", key))})


def _mean_of_quantiles(layers: list[Layer]) -> list[Layer]:
    """A critic whose only output is the mean of the quantiles that the given critic puts out."""
    *hidden, (weight, bias) = layers
    return [*hidden, (weight.mean(1, keepdims=True), bias.mean(keepdims=True))]


def _activation(path: Path, settings: dict[str, Any], default: Activation) -> Activation:
    named = (settings.get("policy_kwargs") or {}).get("activation_fn")
    if named is None:
        return default
    found = re.search(r"\.(\w+)'>", str(named))
    if not found or found[1] not in _ACTIVATIONS:
        raise ContractError(f"{path}: expected activation {', '.join(_ACTIVATIONS)}, found {named}")
    return _ACTIVATIONS[found[1]]


def _observation_keys(settings: dict[str, Any]) -> tuple[str, ...]:
    """Keys of a space of type Dict, from the text that stands beside its pickle.

    That is ``{'key': Box(…)}``, or ``OrderedDict([('key', Box(…))])`` up to Gymnasium 0.29.
    """
    text = str(settings.get("observation_space", {}).get("spaces", ""))
    return tuple(re.findall(r"'([^']+)'(?::|,) [A-Z]\w+\(", text))


def _box(path: Path, settings: dict[str, Any]) -> tuple[Array, Array]:
    """Bounds of the action space, from the text that stands beside its pickle."""
    space = settings["action_space"]
    try:
        (size,) = space["_shape"]
        bounds = [np.array(space[side].strip("[]").split(), np.float64) for side in ("low", "high")]
        low, high = (np.broadcast_to(bound, size) for bound in bounds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"{path}: expected a box of actions, found {space}") from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ContractError(f"{path}: expected a bounded box of actions, found {low} to {high}")
    return low, high
