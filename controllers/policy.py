"""Particle policy: K particles a state, convolved with a learned heat kernel."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from wpg.controllers import flow
from wpg.controllers.normalisation import BatchUse, FoldedNorm, fold

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0
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
        self.normalise = normalise
        sizes = [obs_dim, hidden, hidden, 2 * num_particles * action_dim]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norms = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            bound = 1 / math.sqrt(fan_in)
            weight = torch.empty(fan_in, fan_out).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
            if normalise:
                self.norms.append(FoldedNorm(1, fan_in, epsilon=1e-3 if index else 1e-5))
        self._spread_particles(generator)

    @torch.no_grad()
    def _spread_particles(self, generator: torch.Generator | None) -> None:
        """Start with particles apart from each other: from one point they would never part."""
        self.weights[-1].mul_(0.3)
        bias = self.biases[-1].view(2, self.num_particles, self.action_dim)
        bias[0] = 0.7 * torch.randn(bias[0].shape, generator=generator) * (self.num_particles > 1)
        bias[1] = math.log(0.5)

    def forward(self, obs: Tensor, use: BatchUse | None = None) -> tuple[Tensor, Tensor]:
        """Particles and kernel widths of `obs (B, obs_dim)`: mean and log_std, both (B, K, A), pre-tanh.

        With `use` the batch's own statistics normalise it and the running statistics follow;
        without, the statistics are frozen.
        """
        h = obs
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.normalise:
                norm = self.norms[index]
                assert isinstance(norm, FoldedNorm)
                weight, bias = fold(*norm.affine(None if use is None else h, use), weight, bias)  # noqa: PLW2901
            h = torch.addmm(bias, h, weight)
            if index < last:
                h = torch.relu_(h)
        heads = h.view(-1, 2, self.num_particles, self.action_dim)
        return heads[:, 0], heads[:, 1].clamp(LOG_STD_MIN, LOG_STD_MAX)

    @torch.no_grad()
    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (in, out), bias (1, out))].

        The last layer's output, viewed as (B, 2, K, A), is the mean and the log_std before its clamp to
        [LOG_STD_MIN, LOG_STD_MAX].
        """
        layers = list(zip(self.weights, self.biases, strict=True))
        if not self.normalise:
            return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in layers]
        folded = []
        for norm, (weight, bias) in zip(self.norms, layers, strict=True):
            assert isinstance(norm, FoldedNorm)
            folded.append(fold(*norm.affine(), weight, bias))
        return folded

    @torch.no_grad()
    def particles(self, obs: Tensor) -> Tensor:
        """The particles themselves, (B, K, A) in [−1, 1], in a fixed order."""
        return torch.tanh(self(obs)[0])

    @torch.no_grad()
    def sample(self, obs: Tensor, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, N, A) in [−1, 1]; each has the policy's density.

        The particle that a sample comes from is uniform, and stratified over the N samples of a
        state: N = K takes every particle once.
        """
        mean, log_std = self(obs)
        rows = mean.shape[0]
        order = torch.rand(rows, self.num_particles, generator=generator).argsort(-1).to(mean.device)
        repeats = -(-num_samples // self.num_particles)
        index = order.repeat(1, repeats)[:, :num_samples]  # (B, N)
        index = index.unsqueeze(-1).expand(-1, -1, self.action_dim)
        noise = torch.randn(rows, num_samples, self.action_dim, generator=generator).to(mean.device)
        return torch.tanh(mean.gather(1, index) + log_std.gather(1, index).exp() * noise)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """`log π(action|obs)` (B,) in action space, for `action (B, A)` in [−1, 1]."""
        mean, log_std = self(obs)
        return flow.log_density(inverse_tanh(action), mean, log_std)

    def responsibilities(self, obs: Tensor, action: Tensor) -> Tensor:
        """Posterior probability that each particle made `action`, (B, K)."""
        mean, log_std = self(obs)
        return flow.responsibilities(inverse_tanh(action), mean, log_std)

    def score(self, obs: Tensor, action: Tensor) -> Tensor:
        """`∇_a log π(a|s)` in action space, (B, A).

        `(∇_u log p(u) + 2 tanh u) / (1 − tanh² u)`, by the chain rule through `a = tanh u`.
        """
        mean, log_std = self(obs)
        u = inverse_tanh(action)
        _, score = flow.log_density_and_score(u, mean, log_std)
        tanh = torch.tanh(u)
        return (score + 2 * tanh) / (1 - tanh.square())


def inverse_tanh(action: Tensor) -> Tensor:
    """`atanh`, with actions at the very edge of the box moved inside."""
    return torch.atanh(action.clamp(-1 + ACTION_MARGIN, 1 - ACTION_MARGIN))
