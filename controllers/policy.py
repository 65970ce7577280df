"""Particle policy: K particles a state, convolved with a learned heat kernel."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wpg.controllers import flow
from wpg.controllers.network import FoldedMlp
from wpg.controllers.normalisation import BatchUse

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0
STRETCH_MAX = 8.0
"""Bound of a kernel's stretch in each action dimension."""
ACTION_MARGIN = 1e-6
"""Actions nearer than this to ±1 are moved inside before the inverse tanh."""


class ParticlePolicy(nn.Module):
    """Equal-weight mixture of K Gaussians over the pre-tanh action `u`; the action is `tanh u`.

    A trunk of two hidden layers, each linear layer behind a batch renormalisation (`normalise`), so
    raw observations go in.
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
        """Start with particles apart from each other: from one point they would never part."""
        head = self.network.own_layers()[-1]
        head.weight.mul_(0.3)
        bias = head.bias.view(3, self.num_particles, self.action_dim)
        bias[0] = 0.7 * torch.randn(bias[0].shape, generator=generator) * (self.num_particles > 1)
        bias[1] = math.log(0.5)
        bias[2] = 0.1 * torch.randn(bias[2].shape, generator=generator)

    def forward(self, obs: Tensor, use: BatchUse | None = None) -> flow.Mixture:
        """Particles and their kernels at `obs (B, obs_dim)`, pre-tanh.

        With `use` the batch's own statistics normalise it and the running statistics follow. Without,
        the statistics are frozen, and the parameters of a normalised trunk are constants.
        """
        return self.mixture(self.network(obs, use))

    def at_rest(self, *, low_precision: bool = False) -> Callable[[Tensor], flow.Mixture]:
        """`self(obs)` as it is now: later updates do not show."""
        network = self.network.at_rest(low_precision=low_precision)
        return lambda obs: self.mixture(network(obs))

    def mixture(self, heads: Tensor) -> flow.Mixture:
        """Particles and kernels that the network's output says."""
        heads = heads.view(-1, 3, self.num_particles, self.action_dim)
        return flow.Mixture(
            heads[:, 0],
            heads[:, 1].clamp(LOG_STD_MIN, LOG_STD_MAX),
            heads[:, 2].clamp(-STRETCH_MAX, STRETCH_MAX),
        )

    def heads_gradient(self, heads: Tensor, components: Tensor, grads: flow.Mixture) -> Tensor:
        """Gradient of a loss by the network's output, of its shape.

        Args:
            heads: the output.
            components: particles that were chosen, (B, N).
            grads: gradient by what was chosen, (B, N, A) each.
        """
        found = torch.zeros_like(heads).view(-1, 3, self.num_particles, self.action_dim)
        index = components[:, None, :, None].expand(-1, 3, -1, self.action_dim)
        found.scatter_add_(2, index, torch.stack(grads, 1))
        raw = heads.view_as(found)
        found[:, 1] *= (raw[:, 1] >= LOG_STD_MIN) & (raw[:, 1] <= LOG_STD_MAX)
        found[:, 2] *= raw[:, 2].abs() <= STRETCH_MAX
        return found.view_as(heads)

    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (in, out), bias (1, out))].

        The last layer's output, viewed as (B, 3, K, A), is the mean, the log_std before its clamp to
        [LOG_STD_MIN, LOG_STD_MAX], and the stretch before its clamp to [−STRETCH_MAX, STRETCH_MAX].
        """
        return [(weight[0], bias[0]) for weight, bias in self.network.folded_layers()]

    @torch.no_grad()
    def sample(self, obs: Tensor, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, N, A) in [−1, 1]; each has the policy's density.

        The particle that a sample comes from is uniform, and stratified over the N samples of a
        state: N = K takes every particle once.
        """
        mixture: flow.Mixture = self(obs)
        rows, device = len(obs), mixture.mean.device
        order = torch.rand(rows, self.num_particles, generator=generator).argsort(-1).to(device)
        repeats = -(-num_samples // self.num_particles)
        components = order.repeat(1, repeats)[:, :num_samples]  # (B, N)
        noise = torch.randn(rows, num_samples, self.action_dim, generator=generator).to(device)
        return torch.tanh(flow.place(noise, mixture.choose(components)))

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """`log π(action|obs)` (B,) in action space, for `action (B, A)` in [−1, 1]."""
        return flow.log_density(inverse_tanh(action), self(obs))


def inverse_tanh(action: Tensor) -> Tensor:
    """`atanh`, with actions at the very edge of the box moved inside."""
    return torch.atanh(action.clamp(-1 + ACTION_MARGIN, 1 - ACTION_MARGIN))
