"""Twin action-value networks with batch renormalisation and no target network."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from wpg.controllers.normalisation import BatchUse, FoldedNorm, fold


class Critic(nn.Module):
    """E independent networks `Q(obs, action)`, evaluated as one batched matrix chain.

    Every linear layer, the first included, has a batch renormalisation in front, so raw
    observations go in. Source: Bhatt et al., "CrossQ", ICLR 2024, arXiv 1902.05605.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        hidden: int = 256,
        ensemble: int = 2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.ensemble = obs_dim, action_dim, ensemble
        sizes = [obs_dim + action_dim, hidden, hidden, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norms = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            bound = 1 / math.sqrt(fan_in)
            weight = torch.empty(ensemble, fan_in, fan_out).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(ensemble, 1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
            self.norms.append(FoldedNorm(ensemble, 1, fan_in, epsilon=1e-3 if index else 1e-5))

    def forward(self, obs: Tensor, action: Tensor, use: BatchUse | None = None) -> Tensor:
        """Action values (E, B) of `obs (B, obs_dim)` and `action (B, action_dim)` in [−1, 1].

        With `use` the batch is a training batch: its own statistics normalise it, and the running
        statistics follow. Without, the statistics are frozen, as `∇_a Q`, acting and export need.
        """
        x = torch.cat([obs, action], -1)
        h = x.expand(self.ensemble, *x.shape)
        last = len(self.weights) - 1
        for index, (norm, weight, bias) in enumerate(zip(self.norms, self.weights, self.biases, strict=True)):
            assert isinstance(norm, FoldedNorm)
            multiplier, offset = norm.affine(None if use is None else h, use)
            folded_weight, folded_bias = fold(multiplier, offset, weight, bias)
            h = torch.baddbmm(folded_bias, h, folded_weight)
            if index < last:
                h = torch.relu_(h)
        return h[..., 0]

    @torch.no_grad()
    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (E, in, out), bias (E, 1, out))].

        `x = cat(obs, action)`; `x = relu(x @ weight + bias)` but for the last; values are `x[..., 0]`.
        """
        layers = []
        for norm, weight, bias in zip(self.norms, self.weights, self.biases, strict=True):
            assert isinstance(norm, FoldedNorm)
            layers.append(fold(*norm.affine(), weight, bias))
        return layers
