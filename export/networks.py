"""Policy and critics at rest, as plain numbers: what a graph is written from, whoever trained them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from numpy.typing import NDArray

from wpg.controllers.critic import Critic
from wpg.controllers.policy import LOG_STD_MAX, LOG_STD_MIN, ParticlePolicy

Array = NDArray[Any]
Layer = tuple[Array, Array]
"""Weight (in, out) and bias (out,)."""
Activation = Literal["Relu", "Tanh", "Elu"]
"""Operator of ONNX between layers."""


@dataclass(frozen=True, kw_only=True)
class InputNormaliser:
    """``clip((obs − mean) / std, −clip, clip)`` in front of the policy and of the critics."""

    mean: Array
    std: Array
    clip: float


@dataclass(frozen=True, kw_only=True)
class Networks:
    """A mixture of C Gaussians before the squash, and critics of the squashed action in [-1, 1]."""

    obs_dim: int
    action_dim: int
    num_components: int
    trunk: list[Layer]
    """Hidden layers of the policy, an activation behind each."""
    mean: Layer
    """Output viewed as (C, A)."""
    log_std: Layer | None
    """Output viewed as (C, A), before it is clipped; None for a policy that always does the same."""
    log_std_range: tuple[float, float]
    squash: Literal["tanh", "clip"] = "tanh"
    """How the sample comes into [-1, 1]."""
    activation: Activation = "Relu"
    critics: list[list[Layer]] = field(default_factory=list)
    """One list a member, ReLU between; the input is observation, then action. None at all: values are 0."""
    normaliser: InputNormaliser | None = None

    @classmethod
    def of(cls, policy: ParticlePolicy, critic: Critic) -> "Networks":
        """The layers of a particle policy and its critics, normalisation folded in."""
        *trunk, (weight, bias) = [
            (as_array(weight), as_array(bias).reshape(-1)) for weight, bias in policy.folded_layers()
        ]
        half = weight.shape[1] // 2
        ensemble = [(as_array(weight), as_array(bias)) for weight, bias in critic.folded_layers()]
        return cls(
            obs_dim=policy.obs_dim,
            action_dim=policy.action_dim,
            num_components=policy.num_particles,
            trunk=trunk,
            mean=(weight[:, :half], bias[:half]),
            log_std=(weight[:, half:], bias[half:]),
            log_std_range=(LOG_STD_MIN, LOG_STD_MAX),
            critics=[
                [(weight[member], bias[member].reshape(-1)) for weight, bias in ensemble]
                for member in range(critic.ensemble)
            ],
        )


def as_array(tensor: torch.Tensor) -> Array:
    """Float32 copy in numpy."""
    return tensor.detach().cpu().to(torch.float32).numpy().copy()
