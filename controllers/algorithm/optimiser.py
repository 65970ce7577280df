"""Adam on all parameters of a network at once, as one vector."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.5, 0.999)
EPSILON = 1e-8


class FlatAdam:
    """Adam (Kingma & Ba 2015) whose parameters are views of one contiguous vector.

    A step is then one call, whatever the number of parameters: with networks of this size the calls cost
    more than the arithmetic. The parameters must be on their device already. The step size is `pace` times
    the learning rate.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float, *, pace: float = 1.0) -> None:
        with torch.no_grad():
            self._flat = flat_vector(parameters)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, torch.split(self._flat, sizes), strict=True):
            parameter.data = part.view_as(parameter)
        self._learning_rate, self._pace = learning_rate, pace
        self._state = {
            "step": torch.zeros((), device=self._flat.device),
            "exp_avg": torch.zeros_like(self._flat),
            "exp_avg_sq": torch.zeros_like(self._flat),
        }

    def step(self, gradient: Tensor) -> None:
        """Take one step down the gradient, a vector in the order of the parameters (see `flat_vector`)."""
        adam(
            [self._flat],
            [gradient],
            [self._state["exp_avg"]],
            [self._state["exp_avg_sq"]],
            [],
            [self._state["step"]],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self._pace * self._learning_rate,
            weight_decay=0,
            eps=EPSILON,
            maximize=False,
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate, which is multiplied by `pace`."""
        self._learning_rate = learning_rate

    def tensors(self) -> dict[str, Tensor]:
        """The moments and the number of steps, for a checkpoint."""
        return dict(self._state)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors()` returned."""
        for name, tensor in self._state.items():
            tensor.copy_(tensors[name])


def flat_vector(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of the tensors, in order, as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
