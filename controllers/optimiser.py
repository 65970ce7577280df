"""Adam over one long tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.5, 0.999)
EPSILON = 1e-8


class FlatAdam:
    """Adam over parameters that lie end to end in one tensor.

    The parameters become views of it, so that a step is one call however many they are: on networks of this
    size the calls cost more than what they compute. Move the parameters to their device before. Steps are
    `pace` times as large as the step size says.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float, *, pace: float = 1.0) -> None:
        with torch.no_grad():
            self._flat = end_to_end(parameters)
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
        """Move the parameters down the gradient, which lies end to end as they do."""
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
        """Set the step size, before it is multiplied by `pace`."""
        self._learning_rate = learning_rate

    def tensors(self) -> dict[str, Tensor]:
        """Moments and number of steps."""
        return dict(self._state)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors()` returned."""
        for name, tensor in self._state.items():
            tensor.copy_(tensors[name])


def end_to_end(tensors: Sequence[Tensor]) -> Tensor:
    """One long tensor of all elements, as `FlatAdam` holds its parameters."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
