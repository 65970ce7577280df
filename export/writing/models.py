"""Policies and critics in float64 torch, written independently of the graph to check it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.flow import scale_noise
from wpg.controllers.algorithm.network import FoldedMlp
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.export.errors import ContractError
from wpg.export.writing.networks import Layer, Networks


class Model(Protocol):
    """Policy and critics in float64, stated in torch."""

    def draw(self, states: Tensor, noise: Tensor) -> Tensor:
        """Samples before the squash, (B, K, A), from standard normal noise of that shape.

        Particle k comes from component k mod C.
        """
        ...

    def squash(self, u: Tensor) -> Tensor:
        """Into [-1, 1]."""
        ...

    def value(self, states: Tensor, a: Tensor) -> Tensor:
        """Smallest critic value (N,) of observations (N, obs_dim) and actions (N, A)."""
        ...


class OwnModel:
    """A particle policy and its critics as trained: nothing folded."""

    def __init__(self, policy: ParticlePolicy, critic: Critic) -> None:
        self._policy, self._critic = copy.deepcopy(policy), copy.deepcopy(critic)
        for module in (self._policy, self._critic):
            module.cpu().double().eval().requires_grad_(False)
            for part in module.modules():
                if isinstance(part, FoldedMlp):
                    part.low_precision = False

    def draw(self, states: Tensor, noise: Tensor) -> Tensor:
        """Samples before the squash (B, K, A)."""
        component = torch.arange(noise.shape[1]) % self._policy.num_particles
        mean, log_std, stretch = (part[:, component] for part in self._policy(states))
        u: Tensor = mean + scale_noise(noise, log_std, stretch)
        return u

    def squash(self, u: Tensor) -> Tensor:
        """Into [-1, 1]."""
        return torch.tanh(u)

    def value(self, states: Tensor, a: Tensor) -> Tensor:
        """Smallest critic value (N,)."""
        values: Tensor = self._critic(states, a)  # (E, N)
        return values.amin(0)


class PlainModel:
    """Networks given as numbers, run by torch."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._activation = {"Relu": torch.relu, "Tanh": torch.tanh, "Elu": functional.elu}[
            networks.activation
        ]

    def draw(self, states: Tensor, noise: Tensor) -> Tensor:
        """Samples before the squash (B, K, A)."""
        networks = self._networks
        component = torch.arange(noise.shape[1]) % networks.num_components
        h = self._seen(states)
        for layer in networks.trunk:
            h = self._activation(_linear(h, layer))

        def head(layer: Layer) -> Tensor:
            return _linear(h, layer).view(-1, networks.num_components, networks.action_dim)[:, component]

        mean = head(networks.mean)
        if networks.log_std is None:
            return mean
        log_std = head(networks.log_std).clamp(*networks.log_std_range)
        if networks.stretch is None:
            return mean + log_std.exp() * noise
        return mean + scale_noise(noise, log_std, head(networks.stretch).clamp(*networks.stretch_range))

    def squash(self, u: Tensor) -> Tensor:
        """Into [-1, 1]."""
        return torch.tanh(u) if self._networks.squash == "tanh" else u.clamp(-1, 1)

    def value(self, states: Tensor, a: Tensor) -> Tensor:
        """Smallest critic value (N,), 0 without critics."""
        x = torch.cat([self._seen(states), a], -1)
        members = [torch.zeros(len(x), dtype=x.dtype)] if not self._networks.critics else []
        for first, *rest in self._networks.critics:
            h = _linear(x, first)
            for layer in rest:
                h = _linear(torch.relu(h), layer)
            members.append(h[:, 0])
        return torch.stack(members).amin(0)

    def _seen(self, states: Tensor) -> Tensor:
        rule = self._networks.normaliser
        if rule is None:
            return states
        seen = states - torch.from_numpy(rule.mean).double()
        if rule.std is not None:
            seen = seen / torch.from_numpy(rule.std).double()
        return seen if rule.clip is None else seen.clamp(-rule.clip, rule.clip)


class ModuleModel:
    """A module that maps observations to actions, which are limited to [-1, 1]."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module).cpu().double().eval().requires_grad_(False)

    def draw(self, states: Tensor, noise: Tensor) -> Tensor:
        """The deterministic action for every particle, (B, K, A)."""
        with blaming_module(f"fails on float64 observations {tuple(states.shape)}"):
            action: Tensor = self._module(states)
        return action.unsqueeze(1).expand(-1, noise.shape[1], -1)

    def squash(self, u: Tensor) -> Tensor:
        """Into [-1, 1]."""
        return u.clamp(-1, 1)

    def value(self, states: Tensor, a: Tensor) -> Tensor:
        """Zeros, because there is no critic."""
        del a
        return states.new_zeros(len(states))


@contextmanager
def blaming_module(fault: str) -> Iterator[None]:
    """Raise whatever a module raises as a ContractError that says ``fault``."""
    try:
        yield
    except Exception as error:  # a module may raise anything
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ContractError(f"module: {fault}: {reason}") from error


def _linear(x: Tensor, layer: Layer) -> Tensor:
    weight, bias = (torch.from_numpy(array).double() for array in layer)
    return x @ weight + bias
