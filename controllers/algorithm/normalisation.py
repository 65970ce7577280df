"""Batch renormalisation, applied by folding it into the linear layer that follows.

A normalisation `y = x·s + c` in front of `z = y W + b` is one linear layer

    z = x (diag(s) W) + (b + c W),

in training as well as in evaluation; only the source of `s` and `c` differs: the statistics of the batch, or
the running statistics. No normalised copy of the activations is ever written, and the exported network
computes the same function by construction. Shapes: E members of an ensemble, B rows, F features.
Source: Ioffe 2017, "Batch Renormalization", arXiv 1702.03275, eq. 2 to 4.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

MAX_SCALE = 3.0
"""Bound of the renormalisation factor `r` (r_max in the paper)."""
MAX_SHIFT = 5.0
"""Bound of the renormalisation offset `d` (d_max in the paper)."""
INPUT_EPSILON = 1e-5
"""Added to the variance of raw inputs. It is small because positions in metres may vary by millimetres."""
HIDDEN_EPSILON = 1e-3
"""Added to the variance of hidden activations."""
STATISTICS_RATE = 0.05
"""Weight of a batch in the running statistics, from the twentieth batch on."""


class BatchUse(NamedTuple):
    """How the normalisations use a training batch."""

    rate: Tensor | float
    """Weight of this batch in the running statistics."""
    renormalise: bool
    """Whether to correct towards the running statistics, which need some batches before they are useful."""


def batch_use(number: int, warmup: float, device: torch.device) -> BatchUse:
    """How to use the batch after `number` others.

    The running statistics average over all batches at first, and over about the last twenty later.
    Renormalisation begins after `warmup` batches.
    """
    rate = torch.tensor(max(STATISTICS_RATE, 1 / (number + 1)), device=device)
    return BatchUse(rate, number >= warmup)


class BatchNorm(NamedTuple):
    """A normalisation by the statistics of a batch.

    `y = x·multiplier + offset` with `multiplier = scale·inverse_std·r` and
    `offset = shift + scale·d − mean·multiplier`; `r` and `d` are constants to the gradient. Every tensor is
    (E, 1, F), or (1, 1, F) where all members share the input.
    """

    mean: Tensor
    inverse_std: Tensor
    factor: Tensor
    """`inverse_std·r`."""
    d: Tensor | None
    """None without renormalisation, where `r = 1` and `d = 0`."""
    multiplier: Tensor
    offset: Tensor


class FoldedNorm(nn.Module):
    """Batch renormalisation of `x (E, B, F)`, or of `x (1, B, F)` if all members share the input.

    It computes the multiplier and the offset only, which `fold` puts into the next linear layer.

    Args:
        features: F.
        members: E.
        raw: whether `x` is the network's input, which all members share, and not a hidden activation.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, members: int, raw: bool) -> None:
        super().__init__()
        self.raw = raw
        self.epsilon = INPUT_EPSILON if raw else HIDDEN_EPSILON
        self.scale = nn.Parameter(torch.ones(members, 1, features))
        self.shift = nn.Parameter(torch.zeros(members, 1, features))
        sets = 1 if raw else members
        self.register_buffer("running_mean", torch.zeros(sets, 1, features))
        self.register_buffer("running_var", torch.ones(sets, 1, features))

    def from_running_statistics(self) -> tuple[Tensor, Tensor]:
        """Multiplier and offset (E, 1, F) of the normalisation by the running statistics."""
        multiplier = _materialised(self.scale * (self.running_var + self.epsilon).rsqrt())
        return multiplier, torch.addcmul(self.shift, self.running_mean, multiplier, value=-1)

    @torch.no_grad()
    def from_batch(self, x: Tensor, use: BatchUse) -> BatchNorm:
        """The normalisation by the statistics of `x`; also updates the running statistics."""
        mean, var = self._statistics(x)
        inverse_std = factor = _materialised((var + self.epsilon).rsqrt())
        offset: Tensor = self.shift
        d = None
        if use.renormalise:
            running_inverse_std = (self.running_var + self.epsilon).rsqrt()
            factor = _materialised(
                running_inverse_std.clamp(inverse_std / MAX_SCALE, inverse_std * MAX_SCALE)
            )
            d = ((mean - self.running_mean) * running_inverse_std).clamp_(-MAX_SHIFT, MAX_SHIFT)
            offset = torch.addcmul(offset, self.scale, d)
        multiplier = _materialised(self.scale * factor)
        self.running_mean.lerp_(mean, use.rate)
        self.running_var.lerp_(var, use.rate)
        offset = torch.addcmul(offset, mean, multiplier, value=-1)
        return BatchNorm(mean, inverse_std, factor, d, multiplier, offset)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over the batch.

        Raw inputs are centred before they are squared, because they may vary little around a large mean.
        Hidden activations are not, which saves a pass over them.
        """
        rows = x.shape[1]
        mean = x.sum(1, keepdim=True).div_(rows)
        if self.raw:
            return mean, (x - mean).square_().sum(1, keepdim=True).div_(rows)
        square = x.square().sum(1, keepdim=True).div_(rows)
        return mean, square.addcmul_(mean, mean, value=-1).clamp_(min=0)

    @torch.no_grad()
    def backward(
        self, norm: BatchNorm, rows: int, multiplier_grad: Tensor, offset_grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Backward pass of `from_batch`, given the gradients by multiplier and offset, (E, 1, F).

        The statistics depend on `x` by `∂mean/∂x = 1/B` and `∂var/∂x = 2(x − mean)/B`. The gradient of the
        loss through them is linear in `x`: `x·slope + intercept`.

        Returns:
            Gradients by scale and shift, slope, and intercept.
        """
        scale_grad = torch.addcmul(multiplier_grad, norm.mean, offset_grad, value=-1).mul_(norm.factor)
        # ∂L/∂inverse_std · inverse_std³ = ∂L/∂scale · scale · inverse_std², before d's share of the scale
        slope = (scale_grad * self.scale).mul_(norm.inverse_std.square()).div_(-rows)
        intercept = (norm.multiplier * offset_grad).div_(-rows).addcmul_(norm.mean, slope, value=-1)
        if norm.d is not None:
            scale_grad.addcmul_(norm.d, offset_grad)
        return scale_grad, offset_grad, _materialised(slope), _materialised(intercept)


def _materialised(x: Tensor) -> Tensor:
    """Return `x` as a materialised tensor.

    Without this, torch.compile fuses the per-feature square roots and divisions into the loop over rows and
    recomputes them for every row.
    """
    return x.as_strided(x.shape, x.stride())


def fold(multiplier: Tensor, offset: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Fold `y = x·multiplier + offset` into the linear layer `y weight + bias`.

    Args:
        multiplier: (E, 1, in).
        offset: (E, 1, in).
        weight: (E, in, out).
        bias: (E, 1, out).

    Returns:
        Weight (E, in, out) and bias (E, 1, out) of the folded layer.
    """
    return multiplier.mT * weight, torch.baddbmm(bias, offset, weight)
