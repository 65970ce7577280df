"""E multilayer perceptrons side by side, with batch renormalisation and a gradient written by hand.

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
        ensemble: int,
        fan_in: int,
        fan_out: int,
        *,
        norm_epsilon: float | None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        weight = torch.empty(ensemble, fan_in, fan_out).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(ensemble, 1, fan_out).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.norm = None if norm_epsilon is None else FoldedNorm(ensemble, fan_in, epsilon=norm_epsilon)

    def own_parameters(self) -> list[Tensor]:
        """Weight, bias and, with a normalisation, scale and shift: the order that gradients come in."""
        norm = [] if self.norm is None else [self.norm.scale, self.norm.shift]
        return [self.weight, self.bias, *norm]

    def at_rest(self) -> tuple[Tensor, Tensor]:
        """Weight (E, in, out) and bias (E, 1, out) with the normalisation folded in."""
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
    half: bool


class FoldedMlp(nn.Module):
    """E networks `in → hidden → … → out` with ReLU between, on a shared input."""

    def __init__(
        self,
        sizes: list[int],
        *,
        ensemble: int = 1,
        normalise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.ensemble, self.normalise = ensemble, normalise
        self.low_precision = False
        self.layers = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            epsilon = (HIDDEN_EPSILON if index else INPUT_EPSILON) if normalise else None
            layer = Layer(ensemble, fan_in, fan_out, norm_epsilon=epsilon, generator=generator)
            self.layers.append(layer)

    def own_layers(self) -> list[Layer]:
        """The layers, in order."""
        return [cast(Layer, layer) for layer in self.layers]

    def forward(self, x: Tensor, use: BatchUse | None = None) -> Tensor:
        """Outputs (E, B, out) of `x (B, in)`.

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
        h = x.expand(network.ensemble, *x.shape)
        for index, layer in enumerate(layers):
            norm = None
            if use is not None and layer.norm is not None:
                norm = layer.norm.from_batch(h, use)
                weight, bias = fold(norm.multiplier, norm.offset, layer.weight, layer.bias)
            else:
                weight, bias = layer.at_rest()
            half = network.low_precision and 0 < index < len(layers) - 1
            ctx.steps.append(Step(layer, h, weight, norm, half))
            h = torch.baddbmm(bias, h, weight) if not half else _half_bmm(h, weight).add_(bias)
            if index < len(layers) - 1:
                h.relu_()
        return h

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
            own: list[Tensor] = []
            slope = intercept = None
            if wants_parameters:
                own, slope, intercept = _parameter_grads(step, grad)
                found = [*own, *found]
            if number or wants_input:
                grad = _input_grad(step, grad, slope, intercept)
            if number:
                grad = torch.ops.aten.threshold_backward(grad, step.x, 0)
        if not wants_parameters:
            found = [None] * (len(ctx.needs_input_grad) - 3)
        return None, None, grad.sum(0) if wants_input else None, *found


def _parameter_grads(step: Step, grad: Tensor) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients in the order of `own_parameters`, then slope and intercept of the statistics' share."""
    transposed = step.x.transpose(1, 2)
    product = _half_bmm(transposed, grad) if step.half else torch.bmm(transposed, grad)  # (E, in, out)
    bias_grad = grad.sum(1, keepdim=True)
    layer, norm = step.layer, step.norm
    if norm is None or layer.norm is None:
        return [product, bias_grad], None, None
    multiplier_grad = (layer.weight * product).sum(2).unsqueeze(1)
    offset_grad = torch.bmm(bias_grad, layer.weight.transpose(1, 2))
    weight_grad = product.mul_(norm.multiplier.transpose(1, 2)).baddbmm_(
        norm.offset.transpose(1, 2), bias_grad
    )
    backward = layer.norm.backward(norm, step.x.shape[1], multiplier_grad, offset_grad)
    scale_grad, shift_grad, slope, intercept = backward
    return [weight_grad, bias_grad, scale_grad, shift_grad], slope, intercept


def _input_grad(step: Step, grad: Tensor, slope: Tensor | None, intercept: Tensor | None) -> Tensor:
    transposed = step.weight.transpose(1, 2)
    if slope is None or intercept is None:
        return _half_bmm(grad, transposed) if step.half else torch.bmm(grad, transposed)
    if step.half:
        result = _half_bmm(grad, transposed).add_(intercept)
    else:
        result = torch.baddbmm(intercept, grad, transposed)
    return result.addcmul_(step.x, slope)


def _half_bmm(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product in bfloat16, float32 in and out."""
    return torch.bmm(a.bfloat16(), b.bfloat16()).float()
