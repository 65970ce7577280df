"""Exploration by random actions that are held for several steps."""

import numpy as np
import torch

from wpg.controllers.experience.environment import FloatArray


class HeldRandomActions:
    """Replaces a share of the policy's actions by uniformly random ones, each held for several steps.

    Random actions that change at every step leave the tool in place, while held ones let it meet objects.
    Source: Dabney et al. 2021, "Temporally-extended ε-greedy exploration".

    Args:
        num_envs: N, number of environments.
        action_dim: A, number of action dimensions.
        hold: largest number of steps that an action is held; the number is drawn uniformly from 1 on.
    """

    def __init__(self, num_envs: int, action_dim: int, hold: int) -> None:
        self.hold = hold
        self._left = torch.zeros(num_envs, dtype=torch.long)
        self.held = torch.zeros(num_envs, action_dim)

    def mix(self, actions: FloatArray, share: float, generator: torch.Generator) -> FloatArray:
        """Replace a share of the steps' actions (N, A), in [−1, 1]; a share of 0 draws no random numbers."""
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

    def reset(self) -> None:
        """Stop holding actions in all environments."""
        self._left.zero_()
