"""The policy, its running average and the temperature, and the update that moves them."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.config import LearnerSettings
from wpg.controllers.critic import Critic
from wpg.controllers.fork import Answer
from wpg.controllers.normalisation import BatchUse, batch_use
from wpg.controllers.optimiser import FlatAdam, end_to_end
from wpg.controllers.policy import ParticlePolicy

ACTOR_SAMPLES = 4
"""Actions drawn at every state of an update: with one, each particle is moved at one state in K."""
AVERAGED_SHARE, AVERAGED_UPDATES = 0.2, 500
"""What is evaluated and exported averages the policy over this share of its updates, this many at most."""
SPREAD_ROWS = 16
"""Rows of a batch that the spread is measured on: it costs as much as a layer."""
ACTOR_METRICS = ("entropy", "particle_spread")


class Task(NamedTuple):
    """What an update takes besides what it moves; B states, N samples at each."""

    obs: Tensor
    """(B, obs_dim)."""
    components: Tensor
    """Particle that each sample comes from, (B, N)."""
    noise: Tensor
    """Standard normal, (B, N, action_dim)."""
    number: int
    """Updates before this one."""
    learning_rate: float

    def sent(self) -> tuple[Any, ...]:
        """The same with NumPy's arrays, which another process receives as copies."""
        return self.obs.numpy(), self.components.numpy(), self.noise.numpy(), *self[3:]

    @classmethod
    def received(cls, sent: tuple[Any, ...]) -> Self:
        """The task that `sent` was made of."""
        obs, components, noise = map(torch.from_numpy, sent[:3])
        return cls(obs, components, noise, *sent[3:])


class Actor:
    """The policy, its average and the temperature; a copy of the critics, which they follow."""

    def __init__(self, policy: ParticlePolicy, critic: Critic, settings: LearnerSettings) -> None:
        self.policy, self.target_entropy = policy, settings.target_entropy
        self.norm_warmup = settings.norm_warmup / settings.actor_period
        device = next(policy.parameters()).device
        self.log_tau = torch.tensor(math.log(settings.initial_tau), device=device)
        self.average = copy.deepcopy(policy).requires_grad_(False)
        """The policy's running average: what one update gains, the next may lose, and the average keeps."""
        self.critic = copy.deepcopy(critic).requires_grad_(False)
        self.metrics = torch.zeros(len(ACTOR_METRICS), device=device)
        self.optimisers = {
            "policy": FlatAdam(list(policy.parameters()), settings.learning_rate),
            "temperature": FlatAdam([self.log_tau], settings.learning_rate, pace=settings.temperature_pace),
        }
        self._step = compiled(self.gradient, device) if settings.compile else self.gradient
        self._followed, self._following = _state(policy), _state(self.average)
        self._seen = _state(self.critic)

    def look(self, critic: Critic) -> None:
        """Take the critics as they are now."""
        torch._foreach_copy_(self._seen, _state(critic))

    @torch.no_grad()
    def update(self, task: Task) -> None:
        """Move policy and temperature, by the critics as they were when it looked."""
        for optimiser in self.optimisers.values():
            optimiser.set_learning_rate(task.learning_rate)
        use = batch_use(task.number, self.norm_warmup, self.metrics.device)
        gradient, by_log_tau, entropy, spread = self._step(task.obs, task.components, task.noise, use)
        self.optimisers["policy"].step(gradient)
        self.optimisers["temperature"].step(by_log_tau)
        weight = max(1 / AVERAGED_UPDATES, 1 / (1 + AVERAGED_SHARE * task.number))
        torch._foreach_lerp_(self._following, self._followed, weight)
        self.metrics[0], self.metrics[1] = entropy, spread

    def gradient(
        self, obs: Tensor, components: Tensor, noise: Tensor, use: BatchUse
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient by the policy's parameters, end to end, and by log τ; entropy, spread of the particles.

        Every sample is moved along the Wasserstein velocity, the temperature towards its entropy.
        """
        heads, steps = self.policy.network.record(obs, use)
        mixture = self.policy.mixture(heads)
        kernels = mixture.choose(components)
        u = flow.place(noise, kernels)  # (B, N, A)
        log_prob, score = flow.log_density_and_score(u, mixture.per_sample())
        action = torch.tanh(u)
        states = obs.repeat_interleave(components.shape[1], 0)
        by_action = self.critic.action_gradient(states, action.flatten(0, 1)).view_as(action)
        v = flow.velocity(u, by_action * (1 - action.square()), score, self.log_tau.exp())
        by_u = -v / log_prob.numel()  # of −⟨u, sg[v]⟩, averaged over all samples
        by_heads = self.policy.heads_gradient(heads, components, flow.place_gradient(by_u, noise, kernels))
        _, found = self.policy.network.gradients(steps, by_heads, by_input=False, by_parameters=True)
        by_log_tau = flow.temperature_gradient(log_prob, self.target_entropy).view(1)
        spread = torch.tanh(mixture.mean[:SPREAD_ROWS]).std(1, correction=0).mean()
        return end_to_end(found), by_log_tau, -log_prob.mean(), spread

    def share(self) -> None:
        """Put all that an update reads or moves where processes that are forked later see the same."""
        optimised = (tensor for one in self.optimisers.values() for tensor in one.tensors().values())
        held = (*self._followed, *self._following, *self._seen, self.log_tau, self.metrics, *optimised)
        for tensor in held:
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    @contextmanager
    def serving(self) -> Iterator[Answer]:
        """Answers tasks in a forked process, on one thread: others do not outlive the fork."""
        torch.set_num_threads(1)
        yield lambda sent: self.update(Task.received(sent))


def compiled(gradient: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The gradient as one graph; on a CPU, which needs a C++ compiler anyway, its calls are compiled, too."""
    options: dict[str, Any] = {"cpp_wrapper": device.type == "cpu"}
    return torch.compile(gradient, fullgraph=True, dynamic=False, options=options)


def _state(module: torch.nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())
