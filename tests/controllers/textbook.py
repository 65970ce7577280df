"""The network in its textbook form, for comparison."""

from torch import Tensor

from wpg.controllers.algorithm.network import FoldedMlp
from wpg.controllers.algorithm.normalisation import BatchUse


def textbook(network: FoldedMlp, x: Tensor, use: BatchUse | None) -> Tensor:
    """Normalise and multiply layer by layer, without folding, with gradients by autograd."""
    layers = network.own_layers()
    h = x.expand(len(layers[0].weight), -1, -1)
    for index, layer in enumerate(layers):
        norm = layer.norm
        if norm is not None:
            running_std = (norm.running_var + norm.epsilon).sqrt()
            if use is None:
                h = (h - norm.running_mean) / running_std
            else:
                mean, var = h.mean(1, keepdim=True), h.var(1, unbiased=False, keepdim=True)
                std = (var + norm.epsilon).sqrt()
                r = (std.detach() / running_std).clamp(1 / 3, 3) if use.renormalise else 1
                d = ((mean.detach() - norm.running_mean) / running_std).clamp(-5, 5) if use.renormalise else 0
                h = (h - mean) / std * r + d
            h = h * norm.scale + norm.shift
        h = h @ layer.weight + layer.bias
        if index < len(layers) - 1:
            h = h.relu()
    return h
