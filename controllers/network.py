"""Multilayer perceptrons with batch renormalisation, side by side, and a gradient written by hand.

Autograd would keep and pass over every elementwise step of a batch normalisation. Since the
normalisation is folded into the linear layer behind it, the whole gradient is three matrix products a
layer and one pass over the activations (see `FoldedMlp.gradients`). Networks of equal shape are members
of one batch of products: on small networks the number of operations costs more than what they compute.
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
    """Its input, (E or 1, B, in)."""
    left: Tensor
    """The input as it went into the product."""
    weight: Tensor
    """The folded weight as it went into the product, (E, in, out)."""
    norm: BatchNorm | None


class PlainMlp:
    """Plain layers with ReLU between: what a `FoldedMlp` was at rest when this was taken from it."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], *, low_precision: bool) -> None:
        first, *hidden, last = layers
        if low_precision:
            hidden = [(weight.bfloat16(), bias.bfloat16()) for weight, bias in hidden]
        self._layers = [first, *hidden, last]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (E, B, out) of `x (B, in)`."""
        x = x.unsqueeze(0)
        for index, (weight, bias) in enumerate(self._layers):
            x = _affine(x, weight, bias)
            if index < len(self._layers) - 1:
                x.relu_()
        return x


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

    def record(self, x: Tensor, use: BatchUse | None) -> tuple[Tensor, list[Step]]:
        """`self(x, use)` without autograd, and what `gradients` needs of it."""
        steps = []
        x = x.unsqueeze(0)
        layers = self.own_layers()
        for index, layer in enumerate(layers):
            hidden = 0 < index < len(layers) - 1
            norm = None
            if use is not None and layer.norm is not None:
                norm = layer.norm.from_batch(x, use)
                weight, bias = fold(norm.multiplier, norm.offset, layer.weight, layer.bias)
            else:
                weight, bias = layer.at_rest()
            if self.low_precision and hidden:
                weight = weight.bfloat16()
            left = x.to(weight.dtype)
            steps.append(Step(layer, x, left, weight, norm))
            x = _affine(left, weight, bias)
            if index < len(layers) - 1:
                x.relu_()
        return x, steps

    def gradients(
        self, steps: list[Step], grad: Tensor, *, by_input: bool, by_parameters: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients by the input (B, in), and by the parameters in the order of `parameters`.

        Of a layer `z = x W' + b + c W`, with `G = ∂L/∂z`, `W' = diag(s) W`, `D = xᵀ G`:
        `∂L/∂W = diag(s) D + cᵀ ΣG`, `∂L/∂s = Σ_out W·D`, `∂L/∂c = ΣG Wᵀ`, and
        `∂L/∂x = G W'ᵀ` plus what flows through the statistics.

        Args:
            steps: from `record`.
            grad: `∂L/∂output`, (E, B, out).
            by_input: whether the first is wanted; else it is None.
            by_parameters: whether the second is wanted; else it is empty.
        """
        found: list[Tensor] = []
        for number, step in reversed(list(enumerate(steps))):
            low = self.low_precision and (number > 0 or not by_parameters)
            kind = torch.bfloat16 if low else grad.dtype
            weight, through = step.weight.to(kind), grad.to(kind)
            slope = intercept = None
            if by_parameters:
                product = _product(step.left.to(kind).mT, through)  # (E, in, out)
                own, slope, intercept = _parameter_grads(step, product, grad.sum(1, keepdim=True))
                found = [*own, *found]
            if number or by_input:
                grad = _product(through, weight.mT)
                if slope is not None and intercept is not None:
                    grad = grad.add_(intercept).addcmul_(step.x, slope)
            if number:
                grad = torch.ops.aten.threshold_backward.grad_input(grad, step.x, 0, grad_input=grad)
        return grad.sum(0) if by_input else None, found

    def at_rest(self, *, low_precision: bool = False) -> PlainMlp:
        """The network at rest, as it is now: later updates of it do not show."""
        return PlainMlp(self.folded_layers(), low_precision=low_precision)

    @torch.no_grad()
    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The network at rest as plain layers, ReLU between: [(weight (E, in, out), bias (E, 1, out))]."""
        folded = [layer.at_rest() for layer in self.own_layers()]
        return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in folded]


class _Chain(torch.autograd.Function):
    """`FoldedMlp` for autograd."""

    @staticmethod
    def forward(ctx: Any, network: FoldedMlp, use: BatchUse | None, x: Tensor, *parameters: Tensor) -> Tensor:
        del parameters  # autograd has to see them; their values are read from the network
        ctx.network = network
        output, ctx.steps = network.record(x, use)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        by_input, by_parameters = ctx.needs_input_grad[2], any(ctx.needs_input_grad[3:])
        input_grad, found = ctx.network.gradients(
            ctx.steps, grads[0], by_input=by_input, by_parameters=by_parameters
        )
        missing = [None] * (len(ctx.needs_input_grad) - 3)
        return None, None, input_grad, *(found or missing)


def _parameter_grads(
    step: Step, product: Tensor, bias_grad: Tensor
) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients in the order of `own_parameters`, then slope and intercept of the statistics' share."""
    layer, norm = step.layer, step.norm
    if norm is None or layer.norm is None:
        return [product, bias_grad], None, None
    multiplier_grad = (layer.weight * product).sum(2).unsqueeze(1)
    offset_grad = torch.bmm(bias_grad, layer.weight.mT)
    weight_grad = product.mul_(norm.multiplier.mT).addcmul_(norm.offset.mT, bias_grad)
    backward = layer.norm.backward(norm, step.x.shape[1], multiplier_grad, offset_grad)
    scale_grad, shift_grad, slope, intercept = backward
    return [weight_grad, bias_grad, scale_grad, shift_grad], slope, intercept


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x weight + bias` in float32, for x (E or 1, B, in), weight (E, in, out) and bias (E, 1, out)."""
    x = x.to(weight.dtype)
    if weight.dtype == torch.bfloat16 or weight.shape[2] == 1:
        return _product(x, weight).add_(bias)
    if len(weight) == 1:
        return torch.addmm(bias[0], x[0], weight[0]).unsqueeze(0)
    return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batch of matrix products, bfloat16 out in float32; one row or column is not worth a call of BLAS.

    Of a batch of one, a compiler may lose the stride, and oneDNN then copies both factors.
    """
    if a.shape[2] == 1:
        return _widen(a) * b
    if b.shape[2] == 1:
        return (_widen(a) * b.mT).sum(2, keepdim=True)
    if len(a) == len(b) == 1:
        return _widen(torch.mm(a[0], b[0])).unsqueeze(0)
    members = max(len(a), len(b))
    return _widen(torch.bmm(a.expand(members, -1, -1), b.expand(members, -1, -1)))


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x
