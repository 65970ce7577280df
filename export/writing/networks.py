"""Policy and critics as plain arrays, from which a graph is written; any library may have trained them."""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.policy import LOG_STD_MAX, LOG_STD_MIN, STRETCH_MAX, ParticlePolicy

Array = NDArray[Any]
Layer = tuple[Array, Array]
"""Weight (in, out) and bias (out,)."""
Activation = Literal["Relu", "Tanh", "Elu"]
"""Operator of ONNX between layers."""


@dataclass(frozen=True, kw_only=True)
class InputNormaliser:
    """``clip((obs − mean) / std, −clip, clip)`` in front of the policy and of the critics.

    Without ``std`` and ``clip`` it only centres. The mean is never folded into the layers: an input that
    hardly varies has large weights, so its difference from the mean must be taken before any rounding.
    """

    mean: Array
    std: Array | None = None
    clip: float | None = None


@dataclass(frozen=True, kw_only=True)
class Networks:
    """A mixture of C Gaussians before the squash, and critics of the squashed action in [-1, 1].

    The covariance of a Gaussian is ``diag(σ) (I + w wᵀ) diag(σ)``, with its stretch w.
    """

    obs_dim: int
    action_dim: int
    num_components: int
    trunk: list[Layer]
    """Hidden layers of the policy, each followed by the activation."""
    mean: Layer
    """Output viewed as (C, A)."""
    log_std: Layer | None
    """Output viewed as (C, A), before it is clipped; None for a deterministic policy."""
    log_std_range: tuple[float, float]
    stretch: Layer | None = None
    """Output viewed as (C, A), before it is clipped; None if all covariances are diagonal."""
    stretch_range: tuple[float, float] = (-STRETCH_MAX, STRETCH_MAX)
    squash: Literal["tanh", "clip"] = "tanh"
    """How samples are limited to [-1, 1]."""
    activation: Activation = "Relu"
    critics: list[list[Layer]] = field(default_factory=list)
    """Layers of each critic, with ReLU between them; the input is the observation, then the action. Without
    critics all values are 0."""
    normaliser: InputNormaliser | None = None

    @classmethod
    def of(cls, policy: ParticlePolicy, critic: Critic) -> "Networks":
        """The layers of a particle policy and its critics, normalisation folded in, in float64."""
        *trunk, (weight, bias) = [
            (_exact(weight), _exact(bias).reshape(-1))
            for weight, bias in copy.deepcopy(policy).cpu().double().folded_layers()
        ]
        ensemble = [
            (_exact(weight), _exact(bias))
            for weight, bias in copy.deepcopy(critic).cpu().double().folded_layers()
        ]
        critics = [
            [(weight[member], bias[member].reshape(-1)) for weight, bias in ensemble]
            for member in range(critic.ensemble)
        ]
        normaliser = None
        if (norm := policy.network.own_layers()[0].norm) is not None:
            normaliser = InputNormaliser(mean=as_array(norm.running_mean).reshape(-1))
            for layers in (trunk, *critics):
                layers[0] = _centred(layers[0], normaliser.mean)
        heads = zip(np.split(weight, 3, axis=1), np.split(bias, 3), strict=True)
        mean, log_std, stretch = heads
        return cls(
            obs_dim=policy.obs_dim,
            action_dim=policy.action_dim,
            num_components=policy.num_particles,
            trunk=trunk,
            mean=mean,
            log_std=log_std,
            log_std_range=(LOG_STD_MIN, LOG_STD_MAX),
            stretch=stretch,
            critics=critics,
            normaliser=normaliser,
        )


def _centred(layer: Layer, centre: Array) -> Layer:
    """The layer for inputs from which ``centre`` is subtracted first; it applies to the first inputs."""
    weight, bias = layer
    return weight, bias + centre.astype(np.float64) @ weight[: len(centre)]


def _exact(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()


def as_array(tensor: torch.Tensor) -> Array:
    """Float32 copy in numpy."""
    return tensor.detach().cpu().to(torch.float32).numpy().copy()
