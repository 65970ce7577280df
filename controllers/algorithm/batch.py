"""What an update learns from."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of B transitions for the learner."""

    obs: Tensor
    """(B, obs_dim)."""
    action: Tensor
    """(B, action_dim) in [−1, 1]."""
    reward: Tensor
    """(B,)."""
    terminated: Tensor
    """(B,), 1 if the step terminated the episode; 0 otherwise, also if it was truncated."""
    next_obs: Tensor
    """(B, obs_dim)."""

    def to(self, device: str) -> "Batch":
        """The batch on `device`."""
        return self if device == "cpu" else Batch(*(column.to(device) for column in self))
