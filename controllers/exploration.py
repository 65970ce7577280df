"""Random actions among the policy's own."""

import numpy as np
import torch

from wpg.controllers.environment import FloatArray


class Excursions:
    """Uniformly random actions, each held for a while, in place of a share of what the policy chose.

    Actions that change at every step take a tool nowhere; held ones meet objects.
    Source: Dabney et al. 2021, "Temporally-extended ε-greedy exploration".

    Args:
        num_envs: N, environments side by side.
        action_dim: A.
        hold: most steps that an action is held; how many it is each time is drawn uniformly.
    """

    def __init__(self, num_envs: int, action_dim: int, hold: int) -> None:
        self.hold = hold
        self._left = torch.zeros(num_envs, dtype=torch.long)
        self.held = torch.zeros(num_envs, action_dim)

    def mix(self, actions: FloatArray, share: float, generator: torch.Generator) -> FloatArray:
        """Actions (N, A) in [−1, 1], a share of them replaced; with a share of 0 they stay as they are."""
        if not share:
            return actions
        mean_hold = (1 + self.hold) / 2
        rows, size = self.held.shape
        starting = share / (share + mean_hold * (1 - share))
        starts = (self._left == 0) & (torch.rand(rows, generator=generator) < starting)
        lengths = torch.randint(1, self.hold + 1, (rows,), generator=generator)
        directions = 2 * torch.rand(rows, size, generator=generator) - 1
        self._left = torch.where(starts, lengths, self._left)
        self.held = torch.where(starts[:, None], directions, self.held)
        away = self._left > 0
        self._left = (self._left - 1).clamp(min=0)
        return np.where(away[:, None].numpy(), self.held.numpy(), actions)

    def end(self) -> None:
        """End what is under way in every environment."""
        self._left.zero_()
