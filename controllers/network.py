"""A multilayer perceptron with batch renormalisation, and a gradient written by hand.

Autograd would keep and pass over every elementwise step of a batch normalisation. Since the
normalisation is folded into the linear layer behind it, the whole gradient is three matrix products a
layer and one pass over the activations (see `backward`).
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from wpg.controllers.normalisation import BatchNorm, BatchUse, FoldedNorm, fold

INPUT_EPSILON = 1e-5
"""Added to the variance of raw inputs: these may be metres that vary by millimetres."""
HIDDEN_EPSILON = 1e-3
"""Added to the variance of hidden activations."""


class Layer(nn.Module):
    """Normalisation (optional), then a linear layer."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        *,
        norm_epsilon: float | None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        weight = torch.empty(fan_in, fan_out).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(fan_out).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.norm = None if norm_epsilon is None else FoldedNorm(fan_in, epsilon=norm_epsilon)

    def own_parameters(self) -> list[Tensor]:
        """Weight, bias and, with a normalisation, scale and shift: the order that gradients come in."""
        norm = [] if self.norm is None else [self.norm.scale, self.norm.shift]
        return [self.weight, self.bias, *norm]

    def at_rest(self) -> tuple[Tensor, Tensor]:
        """Weight (in, out) and bias (out,) with the normalisation folded in."""
        return (
            (self.weight, self.bias)
            if self.norm is None
            else fold(*self.norm.at_rest(), self.weight, self.bias)
        )


class Step(NamedTuple):
    """What the backward pass needs of one layer."""

    layer: Layer
    x: Tensor
    weight: Tensor
    norm: BatchNorm | None
    low: bool


class FoldedMlp(nn.Module):
    """`in → hidden → … → out` with ReLU between, a normalisation before every linear layer."""

    def __init__(
        self,
        sizes: list[int],
        *,
        normalise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.low_precision = False  # products of the hidden layers in bfloat16
        self.layers = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            epsilon = (HIDDEN_EPSILON if index else INPUT_EPSILON) if normalise else None
            layer = Layer(fan_in, fan_out, norm_epsilon=epsilon, generator=generator)
            self.layers.append(layer)

    def own_layers(self) -> list[Layer]:
        """The layers, in order."""
        return [cast(Layer, layer) for layer in self.layers]

    def forward(self, x: Tensor, use: BatchUse | None = None) -> Tensor:
        """Outputs (B, out) of `x (B, in)`.

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
        """The network at rest as plain layers, ReLU between: [(weight (in, out), bias (out,))]."""
        folded = [layer.at_rest() for layer in self.own_layers()]
        return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in folded]


class _Chain(torch.autograd.Function):
    """The forward and backward pass of `FoldedMlp`."""

    @staticmethod
    def forward(ctx: Any, network: FoldedMlp, use: BatchUse | None, x: Tensor, *parameters: Tensor) -> Tensor:
        del parameters  # autograd has to see them; their values are read from the network
        layers = network.own_layers()
        ctx.steps = []
        for index, layer in enumerate(layers):
            norm = None
            if use is not None and layer.norm is not None:
                norm = layer.norm.from_batch(x, use)
                weight, bias = fold(norm.multiplier, norm.offset, layer.weight, layer.bias)
            else:
                weight, bias = layer.at_rest()
            low = network.low_precision and 0 < index < len(layers) - 1
            ctx.steps.append(Step(layer, x, weight, norm, low))
            x = _multiply(x, weight, low).add_(bias) if low else torch.addmm(bias, x, weight)
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
            slope = intercept = None
            if wants_parameters:
                own, slope, intercept = _parameter_grads(step, grad)
                found = [*own, *found]
            if number or wants_input:
                grad = _input_grad(step, grad, slope, intercept)
            if number:
                torch.ops.aten.threshold_backward.grad_input(grad, step.x, 0, grad_input=grad)
        if not wants_parameters:
            found = [None] * (len(ctx.needs_input_grad) - 3)
        return None, None, grad if wants_input else None, *found


def _parameter_grads(step: Step, grad: Tensor) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients in the order of `own_parameters`, then slope and intercept of the statistics' share."""
    product = _multiply(step.x.t(), grad, step.low)  # (in, out)
    bias_grad = grad.sum(0)
    layer, norm = step.layer, step.norm
    if norm is None or layer.norm is None:
        return [product, bias_grad], None, None
    multiplier_grad = (layer.weight * product).sum(1)
    offset_grad = layer.weight @ bias_grad
    weight_grad = product.mul_(norm.multiplier.unsqueeze(1)).addr_(norm.offset, bias_grad)
    backward = layer.norm.backward(norm, len(step.x), multiplier_grad, offset_grad)
    scale_grad, shift_grad, slope, intercept = backward
    return [weight_grad, bias_grad, scale_grad, shift_grad], slope, intercept


def _input_grad(step: Step, grad: Tensor, slope: Tensor | None, intercept: Tensor | None) -> Tensor:
    transposed = step.weight.t()
    if slope is None or intercept is None:
        return _multiply(grad, transposed, step.low)
    if step.low:
        result = _multiply(grad, transposed, low=True).add_(intercept)
    else:
        result = torch.addmm(intercept, grad, transposed)
    return result.addcmul_(step.x, slope)


def _multiply(a: Tensor, b: Tensor, low: bool) -> Tensor:
    """Matrix product, with `low` in bfloat16; in and out are float32 all the same."""
    return torch.mm(a.bfloat16(), b.bfloat16()).float() if low else torch.mm(a, b)
