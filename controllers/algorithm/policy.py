"""Particle policy: a network gives K particles for every state, each with a learned Gaussian kernel.

The density and the sampling of such a mixture are in `wpg.controllers.algorithm.flow`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.network import FoldedMlp

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0
STRETCH_MAX = 8.0
"""Bound of a kernel's stretch `w` in each action dimension."""
ACTION_MARGIN = 1e-6
"""Actions closer to ±1 than this are moved inwards before the inverse tanh."""


class ParticlePolicy(nn.Module):
    """Equal-weight mixture of K Gaussians over the pre-tanh action `u`; the action is `a = tanh u`.

    `π(a|s) = 1/K Σ_k N(u; μ_k(s), Σ_k(s)) / Π(1 − a²)` with `Σ_k = diag(σ_k) (I + w_k w_kᵀ) diag(σ_k)`. A
    network with two hidden layers outputs the particles `μ`, the widths `log σ` and the stretches `w`.
    Before each of its linear layers there is a batch renormalisation (unless `normalise` is False), so
    the inputs are raw observations.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        num_particles: int = 16,
        hidden: int = 256,
        normalise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.num_particles = obs_dim, action_dim, num_particles
        sizes = [obs_dim, hidden, hidden, 3 * num_particles * action_dim]
        self.network = FoldedMlp(sizes, normalise=normalise, generator=generator)
        self._spread_particles(generator)

    @torch.no_grad()
    def _spread_particles(self, generator: torch.Generator | None) -> None:
        """Give every particle a mean of its own: particles that start at one point would never separate."""
        head = self.network.own_layers()[-1]
        head.weight.mul_(0.3)
        bias = head.bias.view(3, self.num_particles, self.action_dim)
        bias[0] = 0.7 * torch.randn(bias[0].shape, generator=generator) * (self.num_particles > 1)
        bias[1] = math.log(0.5)
        bias[2] = 0.1 * torch.randn(bias[2].shape, generator=generator)

    def forward(self, obs: Tensor) -> flow.Mixture:
        """The mixture over the pre-tanh action at `obs (B, obs_dim)`.

        The running statistics normalise the batch. Training uses `network.record`, where its own
        statistics do.
        """
        return self.mixture(self.network(obs))

    def frozen(self, *, low_precision: bool = False) -> Callable[[Tensor], flow.Mixture]:
        """A copy of this function of obs, which later updates do not change."""
        network = self.network.frozen(low_precision=low_precision)
        return lambda obs: self.mixture(network(obs))

    def mixture(self, heads: Tensor) -> flow.Mixture:
        """The mixture that the network's output `heads (1, B, 3·K·A)` describes."""
        heads = heads.view(-1, 3, self.num_particles, self.action_dim)
        return flow.Mixture(
            heads[:, 0],
            heads[:, 1].clamp(LOG_STD_MIN, LOG_STD_MAX),
            heads[:, 2].clamp(-STRETCH_MAX, STRETCH_MAX),
        )

    def heads_gradient(self, heads: Tensor, components: Tensor, grads: flow.Mixture) -> Tensor:
        """Backward pass of `mixture(heads).choose(components)`.

        Args:
            heads: the network's output, (1, B, 3·K·A).
            components: particle indices that were chosen, (B, N).
            grads: gradients of the loss by mean, log_std and stretch of the chosen particles, (B, N, A) each.

        Returns:
            Gradient by `heads`, of the same shape.
        """
        found = torch.zeros_like(heads).view(-1, 3, self.num_particles, self.action_dim)
        index = components[:, None, :, None].expand(-1, 3, -1, self.action_dim)
        found.scatter_add_(2, index, torch.stack(grads, 1))
        raw = heads.view_as(found)
        found[:, 1] *= (raw[:, 1] >= LOG_STD_MIN) & (raw[:, 1] <= LOG_STD_MAX)
        found[:, 2] *= raw[:, 2].abs() <= STRETCH_MAX
        return found.view_as(heads)

    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network as linear layers with ReLU between: [(weight (in, out), bias (1, out))].

        The last layer's output, viewed as (B, 3, K, A), holds the mean, the log_std before its clamp to
        [LOG_STD_MIN, LOG_STD_MAX], and the stretch before its clamp to [−STRETCH_MAX, STRETCH_MAX].
        """
        return [(weight[0], bias[0]) for weight, bias in self.network.folded_layers()]

    @torch.no_grad()
    def sample(self, obs: Tensor, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Sample N actions for every state, (B, N, A) in [−1, 1].

        Each sample is distributed by the policy's density. Its particle is drawn uniformly, but without
        replacement among K consecutive samples of a state: N = K takes every particle once.
        """
        mixture: flow.Mixture = self(obs)
        rows, device = len(obs), mixture.mean.device
        order = torch.rand(rows, self.num_particles, generator=generator).argsort(-1).to(device)
        repeats = -(-num_samples // self.num_particles)
        components = order.repeat(1, repeats)[:, :num_samples]  # (B, N)
        noise = torch.randn(rows, num_samples, self.action_dim, generator=generator).to(device)
        return torch.tanh(flow.reparameterise(noise, mixture.choose(components)))

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """`log π(a|s)` (B,) in action space, for `obs (B, obs_dim)` and `action (B, A)` in [−1, 1]."""
        return flow.log_density(inverse_tanh(action), self(obs))


def inverse_tanh(action: Tensor) -> Tensor:
    """`atanh`, with actions at ±1 moved inwards by `ACTION_MARGIN`."""
    return torch.atanh(action.clamp(-1 + ACTION_MARGIN, 1 - ACTION_MARGIN))
