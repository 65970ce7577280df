"""Twin action-value networks with batch renormalisation and no target network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wpg.controllers.network import FoldedMlp
from wpg.controllers.normalisation import BatchUse


class Critic(nn.Module):
    """E independent networks `Q(obs, action)`, with a common input.

    Every linear layer, the first included, has a batch renormalisation in front, so raw observations go
    in. Source: Bhatt et al., "CrossQ", ICLR 2024, arXiv 1902.05605.
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
        self.network = FoldedMlp(sizes, members=ensemble, generator=generator)

    def forward(self, obs: Tensor, action: Tensor, use: BatchUse | None = None) -> Tensor:
        """Action values (E, B) of `obs (B, obs_dim)` and `action (B, action_dim)` in [−1, 1].

        With `use` the batch is a training batch: its own statistics normalise it, and the running
        statistics follow. Without, statistics and parameters are constants, as `∇_a Q`, acting and
        export need.
        """
        values: Tensor = self.network(torch.cat([obs, action], -1), use)
        return values.squeeze(-1)

    @torch.no_grad()
    def action_gradient(self, obs: Tensor, action: Tensor) -> Tensor:
        """`∇_a min_i Q_i(obs, a)` (B, action_dim) of the critic at rest."""
        values, steps = self.network.record(torch.cat([obs, action], -1), None)
        members = torch.arange(len(values), device=values.device).view(-1, 1, 1)
        least = (values.argmin(0, keepdim=True) == members).to(values.dtype)
        grad, _ = self.network.gradients(steps, least, by_input=True, by_parameters=False)
        assert grad is not None
        return grad[:, self.obs_dim :]

    def at_rest(self) -> Callable[[Tensor, Tensor], Tensor]:
        """`self(obs, action)` as it is now: later updates do not show."""
        network = self.network.at_rest()
        return lambda obs, action: network(torch.cat([obs, action], -1)).squeeze(-1)

    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (E, in, out), bias (E, 1, out))].

        `x = cat(obs, action)`; `x = relu(x @ weight + bias)` but for the last; values are `x[..., 0]`.
        """
        return self.network.folded_layers()
