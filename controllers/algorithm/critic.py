"""Twin action-value networks with batch renormalisation and without target networks (CrossQ)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wpg.controllers.algorithm.network import FoldedMlp


class Critic(nn.Module):
    """E independent networks `Q_i(s, a)` for the same inputs.

    Before every linear layer there is a batch renormalisation. Since this includes the first layer, the
    inputs are raw observations.
    Source: Bhatt et al., "CrossQ", ICLR 2024, arXiv 1902.05605.
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

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Action values (E, B) of `obs (B, obs_dim)` and `action (B, action_dim)` in [−1, 1].

        The running statistics normalise the batch. Training uses `network.record`, where its own
        statistics do.
        """
        values: Tensor = self.network(torch.cat([obs, action], -1))
        return values.squeeze(-1)

    @torch.no_grad()
    def action_gradient(self, obs: Tensor, action: Tensor) -> Tensor:
        """`∇_a min_i Q_i(s, a)` (B, action_dim), normalised by the running statistics."""
        values, steps = self.network.record(torch.cat([obs, action], -1), None)
        members = torch.arange(len(values), device=values.device).view(-1, 1, 1)
        least = (values.argmin(0, keepdim=True) == members).to(values.dtype)
        grad, _ = self.network.gradients(steps, least, by_input=True, by_parameters=False)
        assert grad is not None
        return grad[:, self.obs_dim :]

    def frozen(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A copy of this function of (obs, action), which later updates do not change."""
        network = self.network.frozen()
        return lambda obs, action: network(torch.cat([obs, action], -1)).squeeze(-1)

    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The networks as linear layers with ReLU between: [(weight (E, in, out), bias (E, 1, out))].

        The input is `x = cat(obs, action)`. Every layer but the last computes `x = relu(x @ weight + bias)`,
        and the last one omits the relu. The values are then `x[..., 0]`.
        """
        return self.network.folded_layers()
