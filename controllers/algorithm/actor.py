"""The policy, its running average and the temperature, and the update of all three."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.normalisation import BatchUse, batch_use
from wpg.controllers.algorithm.optimiser import FlatAdam, flat_vector
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.algorithm.settings import LearnerSettings
from wpg.controllers.algorithm.tensor_names import prefixed, under
from wpg.controllers.forked_process import RequestHandler

ACTOR_SAMPLES = 4
"""Actions drawn at every state of an update. With a single one, each particle would be updated at only one
state in K."""
AVERAGED_SHARE, AVERAGED_UPDATES = 0.2, 500
"""The average of the policy, which is evaluated and exported, covers this share of its updates, but at most
this many."""
SPREAD_ROWS = 16
"""The particle spread is measured on this many rows only; on the whole batch it would cost as much as a
network layer."""
ACTOR_METRICS = ("entropy", "particle_spread")


class ActorBatch(NamedTuple):
    """Inputs of one actor update: B states with N sampled actions each.

    The parameters that the update changes are not part of it.
    """

    obs: Tensor
    """(B, obs_dim)."""
    components: Tensor
    """Index of the particle that each sample is drawn from, (B, N)."""
    noise: Tensor
    """Standard normal, (B, N, action_dim)."""
    previous_updates: int
    """Number of actor updates before this one."""
    learning_rate: float

    def to_numpy(self) -> tuple[Any, ...]:
        """The fields with tensors as NumPy arrays, which are pickled by value for another process."""
        return self.obs.numpy(), self.components.numpy(), self.noise.numpy(), *self[3:]

    @classmethod
    def from_numpy(cls, fields: tuple[Any, ...]) -> Self:
        """The inverse of `to_numpy`."""
        obs, components, noise = map(torch.from_numpy, fields[:3])
        return cls(obs, components, noise, *fields[3:])


class Actor:
    """Holds the policy, its running average and the temperature.

    It also holds a private copy of the critics, whose action gradient the updates use.
    """

    def __init__(self, policy: ParticlePolicy, critic: Critic, settings: LearnerSettings) -> None:
        self.policy, self.target_entropy = policy, settings.target_entropy
        self.norm_warmup = settings.norm_warmup / settings.policy_delay
        device = next(policy.parameters()).device
        self.log_tau = torch.tensor(math.log(settings.initial_tau), device=device)
        self.average = copy.deepcopy(policy).requires_grad_(False)
        """Running average of the policy's parameters, which varies less from update to update."""
        self.critic = copy.deepcopy(critic).requires_grad_(False)
        self.metrics = torch.zeros(len(ACTOR_METRICS), device=device)
        self.optimisers = {
            "policy": FlatAdam(list(policy.parameters()), settings.learning_rate),
            "temperature": FlatAdam([self.log_tau], settings.learning_rate, pace=settings.temperature_pace),
        }
        self._step = compiled(self.gradient, device) if settings.compile else self.gradient
        self._policy_tensors, self._average_tensors = _state(policy), _state(self.average)
        self._critic_tensors = _state(self.critic)

    def sync_critic(self, critic: Critic) -> None:
        """Copy the current critics, which the next update will follow."""
        torch._foreach_copy_(self._critic_tensors, _state(critic))

    @torch.no_grad()
    def update(self, batch: ActorBatch) -> None:
        """Update policy, average and temperature, with the critics of the last `sync_critic`."""
        for optimiser in self.optimisers.values():
            optimiser.set_learning_rate(batch.learning_rate)
        use = batch_use(batch.previous_updates, self.norm_warmup, self.metrics.device)
        gradient, by_log_tau, entropy, spread = self._step(batch.obs, batch.components, batch.noise, use)
        self.optimisers["policy"].step(gradient)
        self.optimisers["temperature"].step(by_log_tau)
        weight = max(1 / AVERAGED_UPDATES, 1 / (1 + AVERAGED_SHARE * batch.previous_updates))
        torch._foreach_lerp_(self._average_tensors, self._policy_tensors, weight)
        self.metrics[0], self.metrics[1] = entropy, spread

    def gradient(
        self, obs: Tensor, components: Tensor, noise: Tensor, use: BatchUse
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of the actor's two losses.

        The policy's loss `−⟨u, sg[v]⟩` moves every sample `u` along the Wasserstein velocity `v` (see
        `flow.velocity`). The temperature's loss moves the entropy towards its target.

        Args:
            obs: (B, obs_dim).
            components: index of the particle that each sample is drawn from, (B, N).
            noise: standard normal, (B, N, action_dim).
            use: how the batch normalisations use these states.

        Returns:
            Gradient by the policy's parameters as one vector, gradient by log τ (1,), entropy in nat, and
            standard deviation over the particles in action space.
        """
        heads, steps = self.policy.network.record(obs, use)
        mixture = self.policy.mixture(heads)
        kernels = mixture.choose(components)
        u = flow.reparameterise(noise, kernels)  # (B, N, A)
        log_prob, score = flow.log_density_and_score(u, mixture.per_sample())
        action = torch.tanh(u)
        states = obs.repeat_interleave(components.shape[1], 0)
        by_action = self.critic.action_gradient(states, action.flatten(0, 1)).view_as(action)
        v = flow.velocity(u, by_action * (1 - action.square()), score, self.log_tau.exp())
        by_u = -v / log_prob.numel()  # of −⟨u, sg[v]⟩, averaged over all samples
        by_kernels = flow.reparameterise_gradient(by_u, noise, kernels)
        by_heads = self.policy.heads_gradient(heads, components, by_kernels)
        _, by_parameters = self.policy.network.gradients(steps, by_heads, by_input=False, by_parameters=True)
        by_log_tau = flow.temperature_gradient(log_prob, self.target_entropy).view(1)
        spread = torch.tanh(mixture.mean[:SPREAD_ROWS]).std(1, correction=0).mean()
        return flat_vector(by_parameters), by_log_tau, -log_prob.mean(), spread

    def share_memory(self) -> None:
        """Move everything that an update reads or changes to memory shared with processes forked later."""
        optimised = (tensor for one in self.optimisers.values() for tensor in one.tensors().values())
        networks = (*self._policy_tensors, *self._average_tensors, *self._critic_tensors)
        for tensor in (*networks, self.log_tau, self.metrics, *optimised):
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    @contextmanager
    def serve_updates(self) -> Iterator[RequestHandler]:
        """Handle requests for updates in a forked process.

        It uses one thread, because torch's other threads do not survive a fork.
        """
        torch.set_num_threads(1)
        yield lambda fields: self.update(ActorBatch.from_numpy(fields))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an update changes, except the metrics, for a checkpoint."""
        found = {"log_tau": self.log_tau}
        for name, module in self._modules().items():
            found |= prefixed(f"{name}.", module.state_dict())
        for name, optimiser in self.optimisers.items():
            found |= prefixed(f"adam.{name}.", optimiser.tensors())
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors()` returned."""
        self.log_tau.copy_(tensors["log_tau"])
        for name, module in self._modules().items():
            module.load_state_dict(under(tensors, f"{name}."))
        for name, optimiser in self.optimisers.items():
            optimiser.restore(under(tensors, f"adam.{name}."))

    def _modules(self) -> dict[str, ParticlePolicy]:
        return {"policy": self.policy, "average": self.average}


def compiled(gradient: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """`gradient` compiled into one graph by `torch.compile`.

    On a CPU, where this needs a C++ compiler anyway, the code that calls the kernels is compiled as well.
    """
    options: dict[str, Any] = {"cpp_wrapper": device.type == "cpu"}
    return torch.compile(gradient, fullgraph=True, dynamic=False, options=options)


def _state(module: torch.nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())
