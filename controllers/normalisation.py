"""Batch renormalisation, applied by folding it into the linear layer that follows.

A normalisation `y = (x − m)·s + c` in front of `z = y W + b` is one linear layer

    z = x (diag(s) W) + (b + (c − m·s) W),

in training as in evaluation; only where `m` and `s` come from differs. No normalised copy of the
activations is ever written, and what is exported is the same function by construction.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

MAX_SCALE = 3.0
"""Bound of the renormalisation factor `r` (r_max in the paper)."""
MAX_SHIFT = 5.0
"""Bound of the renormalisation offset `d` (d_max in the paper)."""


class BatchUse(NamedTuple):
    """How a training batch is used by the normalisations it passes through."""

    rate: float
    """Weight of this batch in the running statistics."""
    renormalise: bool
    """Correct towards the running statistics; off while these are still young."""


class FoldedNorm(nn.Module):
    """Batch renormalisation over the batch axis of `x (..., B, F)`, folded into a linear layer.

    Source: Ioffe 2017, "Batch Renormalization", arXiv 1702.03275, eq. 2 to 4.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, *shape: int, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(*shape))
        self.shift = nn.Parameter(torch.zeros(*shape))
        self.register_buffer("running_mean", torch.zeros(*shape))
        self.register_buffer("running_var", torch.ones(*shape))

    def affine(self, x: Tensor | None = None, use: BatchUse | None = None) -> tuple[Tensor, Tensor]:
        """Multiplier and offset of the normalisation, each of the parameters' shape (..., 1, F).

        With `x` and `use` they come from the batch, and the running statistics move towards it;
        without, they come from the running statistics.
        """
        if x is None or use is None:
            at_rest = self.scale * (self.running_var + self.epsilon).rsqrt()
            return at_rest, self.shift - self.running_mean * at_rest
        mean = x.mean(-2, keepdim=True)
        var = (x - mean).square().mean(-2, keepdim=True)
        multiplier = self.scale * (var + self.epsilon).rsqrt()
        offset: Tensor = self.shift
        if use.renormalise:
            r, d = self._correction(mean, var)
            multiplier, offset = multiplier * r, offset + self.scale * d
        with torch.no_grad():
            self.running_mean.lerp_(mean, use.rate)
            self.running_var.lerp_(var, use.rate)
        return multiplier, offset - mean * multiplier

    @torch.no_grad()
    def _correction(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """`r` and `d` that bring a batch's normalisation to that of the running statistics, bounded."""
        inverse_std = (self.running_var + self.epsilon).rsqrt()
        r = (var + self.epsilon).sqrt() * inverse_std
        d = (mean - self.running_mean) * inverse_std
        return r.clamp(1 / MAX_SCALE, MAX_SCALE), d.clamp(-MAX_SHIFT, MAX_SHIFT)


def fold(multiplier: Tensor, offset: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Put `y = x·multiplier + offset` into `y weight + bias`.

    Args:
        multiplier: (..., 1, in).
        offset: (..., 1, in).
        weight: (..., in, out).
        bias: (..., 1, out).

    Returns:
        Weight (..., in, out) and bias (..., 1, out) of the folded layer.
    """
    return multiplier.transpose(-1, -2) * weight, bias + offset @ weight
