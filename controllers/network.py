"""Multilayer perceptrons with batch renormalisation, side by side, and a gradient written by hand.

Autograd would keep and pass over every elementwise step of a batch normalisation. Since the
normalisation is folded into the linear layer behind it, the whole gradient is three matrix products a
layer and one pass over the activations (see `backward`). Networks of equal shape are members of one
batch of products: on small networks the number of operations costs more than what they compute.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from wpg.controllers.normalisation import BatchNorm, BatchUse, FoldedNorm, fold


class Layer(nn.Module):
    """Normalisation (optional), then a linear layer; E members side by side."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        *,
        members: int,
        norm: FoldedNorm | None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        weight = torch.empty(members, fan_in, fan_out).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(members, 1, fan_out).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.norm = norm

    def own_parameters(self) -> list[Tensor]:
        """Weight, bias and, with a normalisation, scale and shift: the order that gradients come in."""
        norm = [] if self.norm is None else [self.norm.scale, self.norm.shift]
        return [self.weight, self.bias, *norm]

    def at_rest(self) -> tuple[Tensor, Tensor]:
        """Weight (E, in, out) and bias (E, 1, out) with the normalisation folded in."""
        if self.norm is None:
            return self.weight, self.bias
        return fold(*self.norm.at_rest(), self.weight, self.bias)


class Step(NamedTuple):
    """What the backward pass needs of one layer."""

    layer: Layer
    x: Tensor
    left: Tensor
    """`x` as it went into the product."""
    right: Tensor
    """The folded weight as it went into the product."""
    norm: BatchNorm | None


class FoldedMlp(nn.Module):
    """`in → hidden → … → out` with ReLU between, a normalisation before every linear layer; E of them."""

    def __init__(
        self,
        sizes: list[int],
        *,
        members: int = 1,
        normalise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        self.normalise = normalise
        self.low_precision = False  # products of the hidden layers in bfloat16
        self.layers = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            norm = FoldedNorm(fan_in, members=members, raw=index == 0) if normalise else None
            self.layers.append(Layer(fan_in, fan_out, members=members, norm=norm, generator=generator))

    def own_layers(self) -> list[Layer]:
        """The layers, in order."""
        return [cast(Layer, layer) for layer in self.layers]

    def forward(self, x: Tensor, use: BatchUse | None = None) -> Tensor:
        """Outputs (E, B, out) of `x (B, in)`, which all members see.

        With `use`, the batch's own statistics normalise it and the running statistics follow. Without,
        the network is at rest: the running statistics hold, and where there are such, the parameters
        are constants to the gradient.
        """
        parameters = [parameter for layer in self.own_layers() for parameter in layer.own_parameters()]
        if use is None and self.normalise:
            parameters = [parameter.detach() for parameter in parameters]
        output: Tensor = _Chain.apply(self, use, x, *parameters)  # type: ignore[no-untyped-call]
        return output

    @torch.no_grad()
    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (E, in, out), bias (E, 1, out))]."""
        folded = [layer.at_rest() for layer in self.own_layers()]
        return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in folded]


class _Chain(torch.autograd.Function):
    """The forward and backward pass of `FoldedMlp`."""

    @staticmethod
    def forward(ctx: Any, network: FoldedMlp, use: BatchUse | None, x: Tensor, *parameters: Tensor) -> Tensor:
        del parameters  # autograd has to see them; their values are read from the network
        layers = network.own_layers()
        ctx.steps = []
        x = x.unsqueeze(0)
        for index, layer in enumerate(layers):
            norm = None
            if use is not None and layer.norm is not None:
                norm = layer.norm.from_batch(x, use)
                weight, bias = fold(norm.multiplier, norm.offset, layer.weight, layer.bias)
            else:
                weight, bias = layer.at_rest()
            low = network.low_precision and 0 < index < len(layers) - 1
            left, right = (x.bfloat16(), weight.bfloat16()) if low else (x, weight)
            ctx.steps.append(Step(layer, x, left, right, norm))
            x = _affine(left, right, bias)
            if index < len(layers) - 1:
                x.relu_()
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradient of a layer `z = x W' + b + c W`, with `G = ∂L/∂z`, `W' = diag(s) W`, `D = xᵀ G`.

        `∂L/∂W = diag(s) D + cᵀ ΣG`, `∂L/∂s = Σ_out W·D`, `∂L/∂c = ΣG Wᵀ`, and
        `∂L/∂x = G W'ᵀ` plus what flows through the statistics.
        """
        grad = grads[0]
        wants_input, wants_parameters = ctx.needs_input_grad[2], any(ctx.needs_input_grad[3:])
        found: list[Tensor | None] = []
        for number, step in reversed(list(enumerate(ctx.steps))):
            through = grad.to(step.left.dtype)
            slope = intercept = None
            if wants_parameters:
                own, slope, intercept = _parameter_grads(step, grad, through)
                found = [*own, *found]
            if number or wants_input:
                grad = _product(through, step.right.mT)
                if slope is not None and intercept is not None:
                    grad = grad.add_(intercept).addcmul_(step.x, slope)
            if number:
                torch.ops.aten.threshold_backward.grad_input(grad, step.x, 0, grad_input=grad)
        if not wants_parameters:
            found = [None] * (len(ctx.needs_input_grad) - 3)
        return None, None, grad.sum(0) if wants_input else None, *found


def _parameter_grads(
    step: Step, grad: Tensor, through: Tensor
) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients in the order of `own_parameters`, then slope and intercept of the statistics' share."""
    product = _product(step.left.mT, through)  # (E, in, out)
    bias_grad = grad.sum(1, keepdim=True)
    layer, norm = step.layer, step.norm
    if norm is None or layer.norm is None:
        return [product, bias_grad], None, None
    multiplier_grad = (layer.weight * product).sum(2).unsqueeze(1)
    offset_grad = _product(bias_grad, layer.weight.mT)
    weight_grad = product.mul_(norm.multiplier.mT).addcmul_(norm.offset.mT, bias_grad)
    backward = layer.norm.backward(norm, step.x.shape[1], multiplier_grad, offset_grad)
    scale_grad, shift_grad, slope, intercept = backward
    return [weight_grad, bias_grad, scale_grad, shift_grad], slope, intercept


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x weight + bias` in float32, for x (E or 1, B, in) and weight (E, in, out)."""
    if weight.dtype == torch.bfloat16 or weight.shape[2] == 1:
        return _product(x, weight).add_(bias)
    return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batch of matrix products, out in float32; one row or one column is not worth a call of BLAS."""
    if a.shape[2] == 1:
        return a * b
    if b.shape[2] == 1:
        return (a * b.mT).sum(2, keepdim=True)
    members = max(len(a), len(b))
    product = torch.bmm(a.expand(members, -1, -1), b.expand(members, -1, -1))
    return product.float() if product.dtype == torch.bfloat16 else product
