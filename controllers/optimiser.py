"""Adam over one long tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.5, 0.999)


class FlatAdam:
    """`torch.optim.Adam` over parameters that lie end to end in one tensor.

    The parameters become views of it, so that a step is one call however many they are: on networks of this
    size the calls cost more than what they compute. Move the parameters to their device before.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float) -> None:
        with torch.no_grad():
            self._flat = torch.cat([parameter.reshape(-1) for parameter in parameters])
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, torch.split(self._flat, sizes), strict=True):
            parameter.data = part.view_as(parameter)
        self._adam = torch.optim.Adam([self._flat], lr=learning_rate, betas=BETAS, fused=True)

    def step(self, gradient: Tensor) -> None:
        """Move the parameters down the gradient, which lies end to end as they do."""
        self._flat.grad = gradient
        self._adam.step()

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate

    def tensors(self) -> dict[str, Tensor]:
        """Moments and number of steps; empty before the first step."""
        found: dict[str, Tensor] = dict(self._adam.state_dict()["state"].get(0, {}))
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors()` returned."""
        self._adam.load_state_dict({**self._adam.state_dict(), "state": {0: tensors} if tensors else {}})
