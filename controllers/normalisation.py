"""Batch renormalisation, applied by folding it into the linear layer that follows.

A normalisation `y = x·s + c` in front of `z = y W + b` is one linear layer

    z = x (diag(s) W) + (b + c W),

in training as in evaluation; only where `s` and `c` come from differs. No normalised copy of the
activations is ever written, and what is exported is the same function by construction.
Source: Ioffe 2017, "Batch Renormalization", arXiv 1702.03275, eq. 2 to 4.
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


class BatchNorm(NamedTuple):
    """A normalisation taken from a batch; every tensor is (F,).

    `y = x·multiplier + offset` with `multiplier = scale·inverse_std·r` and
    `offset = shift + scale·d − mean·multiplier`; `r` and `d` are constants to the gradient.
    """

    mean: Tensor
    inverse_std: Tensor
    r: Tensor | None
    d: Tensor | None
    multiplier: Tensor
    offset: Tensor


class FoldedNorm(nn.Module):
    """Batch renormalisation over the batch axis of `x (B, F)`."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self._scratch: Tensor | None = None  # fresh memory is far from the cache

    def at_rest(self) -> tuple[Tensor, Tensor]:
        """Multiplier and offset by the running statistics."""
        multiplier = self.scale * (self.running_var + self.epsilon).rsqrt()
        return multiplier, self.shift - self.running_mean * multiplier

    @torch.no_grad()
    def from_batch(self, x: Tensor, use: BatchUse) -> BatchNorm:
        """The normalisation by the statistics of `x (B, F)`; the running ones move towards these."""
        mean = x.mean(0)
        if self._scratch is None or self._scratch.shape != x.shape:
            self._scratch = torch.empty_like(x)
        var = torch.sub(x, mean, out=self._scratch).square_().mean(0)
        inverse_std = (var + self.epsilon).rsqrt()
        multiplier: Tensor = self.scale * inverse_std
        offset: Tensor = self.shift
        r = d = None
        if use.renormalise:
            running_inverse_std = (self.running_var + self.epsilon).rsqrt()
            r = (running_inverse_std / inverse_std).clamp_(1 / MAX_SCALE, MAX_SCALE)
            d = ((mean - self.running_mean) * running_inverse_std).clamp_(-MAX_SHIFT, MAX_SHIFT)
            multiplier, offset = multiplier * r, offset + self.scale * d
        self.running_mean.lerp_(mean, use.rate)
        self.running_var.lerp_(var, use.rate)
        return BatchNorm(mean, inverse_std, r, d, multiplier, offset - mean * multiplier)

    @torch.no_grad()
    def backward(
        self, norm: BatchNorm, rows: int, multiplier_grad: Tensor, offset_grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of scale and shift, and `slope`, `intercept` of what flows back through the statistics.

        The gradient of the loss by `x` gains `x·slope + intercept`, since mean and variance depend on it:
        `∂mean/∂x = 1/B`, `∂var/∂x = 2(x − mean)/B`.
        """
        total = multiplier_grad - norm.mean * offset_grad  # the offset holds −mean·multiplier
        by_scale = norm.inverse_std if norm.r is None else norm.inverse_std * norm.r
        scale_grad = total * by_scale
        inverse_std_grad = total * (self.scale if norm.r is None else self.scale * norm.r)
        if norm.d is not None:
            scale_grad = scale_grad + norm.d * offset_grad
        slope = inverse_std_grad * norm.inverse_std.pow(3) / -rows
        intercept = norm.multiplier * offset_grad / -rows - norm.mean * slope
        return scale_grad, offset_grad, slope, intercept


def fold(multiplier: Tensor, offset: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Put `y = x·multiplier + offset` into `y weight + bias`.

    Args:
        multiplier: (in,).
        offset: (in,).
        weight: (in, out).
        bias: (out,).

    Returns:
        Weight (in, out) and bias (out,) of the folded layer.
    """
    return multiplier.unsqueeze(1) * weight, torch.addmv(bias, weight.t(), offset)
