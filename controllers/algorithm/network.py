"""Ensembles of multilayer perceptrons with batch renormalisation, and their gradient written by hand.

Autograd would store the result of every elementwise operation of a batch normalisation and process each one
again in the backward pass. Here the normalisation is folded into the linear layer behind it (see
`wpg.controllers.algorithm.normalisation`), so that the gradient takes three matrix products a layer and one
pass over the activations (see `FoldedMlp.gradients`).

The E members of an ensemble have the same shape and are computed by one batched matrix product: with small
networks the number of calls costs more than the arithmetic.
"""

import math
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from wpg.controllers.algorithm.normalisation import BatchNorm, BatchUse, FoldedNorm, fold


class Layer(nn.Module):
    """An optional normalisation and a linear layer, for each of E members."""

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
        """Weight, bias and, if there is a normalisation, its scale and shift: the order of the gradients."""
        norm = [] if self.norm is None else [self.norm.scale, self.norm.shift]
        return [self.weight, self.bias, *norm]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (E, in, out) and bias (E, 1, out) with the normalisation by running statistics folded in."""
        if self.norm is None:
            return self.weight, self.bias
        return fold(*self.norm.from_running_statistics(), self.weight, self.bias)


class Step(NamedTuple):
    """What the backward pass needs to know of one layer's forward pass."""

    layer: Layer
    x: Tensor
    """Input of the layer, (E or 1, B, in)."""
    factor: Tensor
    """The same in the precision of the matrix product."""
    weight: Tensor
    """The folded weight in the precision of the matrix product, (E, in, out)."""
    norm: BatchNorm | None
    """The normalisation, if its statistics came from the batch."""


class PlainMlp:
    """Linear layers with ReLU between: a `FoldedMlp` with its normalisations folded in, for inference."""

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
    """E perceptrons `in → hidden → … → out` with ReLU between.

    Before every linear layer there is a batch renormalisation, unless `normalise` is False. "Frozen" below
    means that the running statistics normalise, as in evaluation mode.

    Args:
        sizes: in, hidden, …, out.
        members: E.
        normalise: whether there are normalisations.
        generator: draws the initial parameters.
    """

    def __init__(
        self,
        sizes: list[int],
        *,
        members: int = 1,
        normalise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.low_precision = False  # True takes the hidden layers' products in bfloat16
        self.layers = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            norm = FoldedNorm(fan_in, members=members, raw=index == 0) if normalise else None
            self.layers.append(Layer(fan_in, fan_out, members=members, norm=norm, generator=generator))

    def own_layers(self) -> list[Layer]:
        """The layers, in order."""
        return [cast(Layer, layer) for layer in self.layers]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (E, B, out) of the frozen network for `x (B, in)`, the input of all members."""
        return self.record(x, None)[0]

    def record(self, x: Tensor, use: BatchUse | None) -> tuple[Tensor, list[Step]]:
        """Forward pass that keeps what `gradients` needs.

        Args:
            x: input of all members, (B, in).
            use: how the statistics of this training batch normalise it and change the running statistics;
                None for the frozen network.

        Returns:
            Outputs (E, B, out), and one step for every layer.
        """
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
                weight, bias = layer.folded()
            if self.low_precision and hidden:
                weight = weight.bfloat16()
            factor = x.to(weight.dtype)
            steps.append(Step(layer, x, factor, weight, norm))
            x = _affine(factor, weight, bias)
            if index < len(layers) - 1:
                x.relu_()
        return x, steps

    def gradients(
        self, steps: list[Step], grad: Tensor, *, by_input: bool, by_parameters: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Backward pass: gradients of a loss L by the input and by the parameters.

        For a layer `z = x W' + b + c W` with `W' = diag(s) W`, where the normalisation is `x·s + c`, and with
        `G = ∂L/∂z` and `D = xᵀ G`:

            ∂L/∂W = diag(s) D + cᵀ ΣG
            ∂L/∂b = ΣG
            ∂L/∂s = Σ_out W·D
            ∂L/∂c = ΣG Wᵀ
            ∂L/∂x = G W'ᵀ, plus the gradient through the batch statistics (see `FoldedNorm.backward`)

        Args:
            steps: from `record`.
            grad: `∂L/∂output`, (E, B, out).
            by_input: whether to compute the gradient by the input.
            by_parameters: whether to compute the gradients by the parameters.

        Returns:
            Gradient by the input (B, in) or None, and gradients by the parameters, in the order of
            `parameters()`, or an empty list.
        """
        found: list[Tensor] = []
        for number, step in reversed(list(enumerate(steps))):
            low = self.low_precision and (number > 0 or not by_parameters)
            kind = torch.bfloat16 if low else grad.dtype
            weight, through = step.weight.to(kind), grad.to(kind)
            slope = intercept = None
            if by_parameters:
                product = _product(step.factor.to(kind).mT, through)  # (E, in, out)
                own, slope, intercept = _parameter_grads(step, product, grad.sum(1, keepdim=True))
                found = [*own, *found]
            if number or by_input:
                grad = _product(through, weight.mT)
                if slope is not None and intercept is not None:
                    grad = grad.add_(intercept).addcmul_(step.x, slope)
            if number:
                grad = torch.ops.aten.threshold_backward.grad_input(grad, step.x, 0, grad_input=grad)
        return grad.sum(0) if by_input else None, found

    def frozen(self, *, low_precision: bool = False) -> PlainMlp:
        """A frozen copy of the network, which later updates do not change."""
        return PlainMlp(self.folded_layers(), low_precision=low_precision)

    @torch.no_grad()
    def folded_layers(self) -> list[tuple[Tensor, Tensor]]:
        """The frozen network as linear layers, ReLU between: [(weight (E, in, out), bias (E, 1, out))]."""
        folded = [layer.folded() for layer in self.own_layers()]
        return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in folded]


def _parameter_grads(
    step: Step, product: Tensor, bias_grad: Tensor
) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients of one layer, from `product = xᵀ G` and `bias_grad = ΣG` (see `FoldedMlp.gradients`).

    Returns:
        Gradients in the order of `Layer.own_parameters`, and the slope and intercept of
        `FoldedNorm.backward`, None without statistics of a batch.
    """
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
    """Batched matrix product; of bfloat16 factors it returns float32.

    Products with a single row or column are computed elementwise, which is faster than a BLAS call. A batch
    of one uses `mm`: torch.compile may lose the stride of the batch axis, and oneDNN would then copy both
    factors.
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
