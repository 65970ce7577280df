"""Names of tensors in a checkpoint."""

from collections.abc import Mapping

from torch import Tensor


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix` put before their names."""
    return {prefix + name: value for name, value in tensors.items()}


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it: the inverse of `prefixed`."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
