"""One update of critics, policy and temperature."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.checkpoint import under
from wpg.controllers.critic import Critic
from wpg.controllers.network import FoldedMlp
from wpg.controllers.normalisation import BatchUse
from wpg.controllers.optimiser import FlatAdam
from wpg.controllers.policy import ParticlePolicy
from wpg.controllers.replay import Batch

STATISTICS_RATE = 0.05
"""Weight of a batch in the running statistics, once twenty have been seen."""
ACTOR_SAMPLES = 4
"""Actions drawn at every state of a policy update: with one, each particle is moved at one state in K."""
AVERAGED_SHARE, AVERAGED_UPDATES = 0.2, 500
"""What is evaluated and exported averages the policy over this share of its updates, this many at most."""
SPREAD_ROWS = 16
"""Rows of a batch that the spread is measured on: it costs as much as a layer."""
METRICS = ("critic_loss", "value", "entropy", "particle_spread")


class Learner:
    """Parameters, optimisers and the update that moves them."""

    def __init__(
        self,
        policy: ParticlePolicy,
        critic: Critic,
        *,
        gamma: float,
        learning_rate: float,
        actor_period: int,
        initial_tau: float,
        temperature_pace: float = 1.0,
        target_entropy: float,
        norm_warmup: int,
        low_precision: bool = False,
        compiled: bool = False,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.critic, self.generator = policy, critic, generator
        self.gamma, self.actor_period, self.target_entropy = gamma, actor_period, target_entropy
        self.norm_warmup = norm_warmup
        for module in (*policy.modules(), *critic.modules()):
            if isinstance(module, FoldedMlp):
                module.low_precision = low_precision
        device = next(policy.parameters()).device
        self.log_tau = torch.tensor(math.log(initial_tau), device=device)
        self.average = copy.deepcopy(policy).requires_grad_(False)
        """The policy's running average: what one update gains, the next may lose, and the average keeps."""
        self.updates = 0
        self.metrics = torch.zeros(len(METRICS), device=device)
        self.optimisers = {
            "critic": FlatAdam(list(critic.parameters()), learning_rate),
            "policy": FlatAdam(list(policy.parameters()), learning_rate),
            "temperature": FlatAdam([self.log_tau], learning_rate, pace=temperature_pace),
        }
        self._critic_step, self._policy_step = self._critic_gradient, self._policy_gradient
        if compiled:
            # Compiling the calls, too, needs a C++ compiler, which only a CPU needs anyway.
            how: Any = {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": device.type == "cpu"}}
            self._critic_step = torch.compile(self._critic_gradient, **how)
            self._policy_step = torch.compile(self._policy_gradient, **how)
        self._low_precision = low_precision
        self._rest()
        self._followed = list(policy.state_dict().values())
        self._following = list(self.average.state_dict().values())

    def _rest(self) -> None:
        self.resting = self.policy.at_rest(low_precision=self._low_precision)
        """The policy as its last update left it: it acts, and the critics' targets ask it."""

    def update(self, batch: Batch) -> None:
        """Move the critics, and every `actor_period`-th time policy and temperature."""
        self._update_critic(batch)
        if self.updates % self.actor_period == 0:
            self._update_policy(batch.obs)
        self.updates += 1

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of every optimiser."""
        for optimiser in self.optimisers.values():
            optimiser.set_learning_rate(learning_rate)

    def _use(self, count: int, warmup: float) -> BatchUse:
        """Statistics average over all batches at first, over the last twenty or so later."""
        rate = torch.tensor(max(STATISTICS_RATE, 1 / (count + 1)), device=self.metrics.device)
        return BatchUse(rate, count >= warmup)

    def _components(self, rows: int, samples: int) -> Tensor:
        """Which particle each of a state's samples comes from, (rows, samples): balanced over all of them."""
        drawn = flow.stratified_components(rows * samples, self.policy.num_particles, self.generator)
        return drawn.view(rows, samples).to(self.metrics.device)

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, self.policy.action_dim, generator=self.generator).to(self.metrics.device)

    @torch.no_grad()
    def _update_critic(self, batch: Batch) -> None:
        rows = len(batch.reward)
        gradient, loss, value = self._critic_step(
            batch,
            self.resting,
            self._components(rows, 1),
            self._noise(rows, 1),
            self._use(self.updates, self.norm_warmup),
        )
        self.optimisers["critic"].step(gradient)
        self.metrics[0], self.metrics[1] = loss, value

    def _critic_gradient(
        self,
        batch: Batch,
        policy: Callable[[Tensor], flow.Mixture],
        components: Tensor,
        noise: Tensor,
        use: BatchUse,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient by the critic's parameters, end to end; loss, and mean of the next values.

        Both state–action pairs go through in one batch, so that one set of statistics fits both.
        """
        rows = len(batch.reward)
        mixture = policy(batch.next_obs)
        next_u = flow.place(noise, mixture.choose(components)).squeeze(1)
        states = torch.cat([batch.obs, batch.next_obs])
        actions = torch.cat([batch.action, torch.tanh(next_u)])
        output, steps = self.critic.network.record(torch.cat([states, actions], 1), use)
        values, next_values = torch.split(output.squeeze(-1), rows, 1)
        next_value = next_values.amin(0)
        target = flow.critic_target(
            batch.reward,
            batch.terminated,
            next_value,
            flow.log_density(next_u, mixture),
            gamma=self.gamma,
            tau=self.log_tau.exp(),
        )
        loss, by_values = flow.critic_loss(values, target)
        by_output = torch.cat([by_values, torch.zeros_like(next_values)], 1).unsqueeze(-1)
        _, found = self.critic.network.gradients(steps, by_output, by_input=False, by_parameters=True)
        return _end_to_end(found), loss, next_value.mean()

    @torch.no_grad()
    def _update_policy(self, obs: Tensor) -> None:
        count = self.updates // self.actor_period
        gradient, by_log_tau, entropy, spread = self._policy_step(
            obs,
            self._components(len(obs), ACTOR_SAMPLES),
            self._noise(len(obs), ACTOR_SAMPLES),
            self._use(count, self.norm_warmup / self.actor_period),
        )
        self.optimisers["policy"].step(gradient)
        self.optimisers["temperature"].step(by_log_tau)
        weight = max(1 / AVERAGED_UPDATES, 1 / (1 + AVERAGED_SHARE * count))
        torch._foreach_lerp_(self._following, self._followed, weight)
        self._rest()
        self.metrics[2], self.metrics[3] = entropy, spread

    def _policy_gradient(
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
        states = obs.repeat_interleave(ACTOR_SAMPLES, 0)
        by_action = self.critic.action_gradient(states, action.flatten(0, 1)).view_as(action)
        v = flow.velocity(u, by_action * (1 - action.square()), score, self.log_tau.exp())
        by_u = -v / log_prob.numel()  # of −⟨u, sg[v]⟩, averaged over all samples
        by_heads = self.policy.heads_gradient(heads, components, flow.place_gradient(by_u, noise, kernels))
        _, found = self.policy.network.gradients(steps, by_heads, by_input=False, by_parameters=True)
        by_log_tau = flow.temperature_gradient(log_prob, self.target_entropy).view(1)
        spread = torch.tanh(mixture.mean[:SPREAD_ROWS]).std(1, correction=0).mean()
        return _end_to_end(found), by_log_tau, -log_prob.mean(), spread

    def tau(self) -> float:
        """Temperature; synchronises the device."""
        return math.exp(self.log_tau.item())

    def _modules(self) -> dict[str, ParticlePolicy | Critic]:
        return {"policy": self.policy, "average": self.average, "critic": self.critic}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an update reads and changes, for a checkpoint."""
        found = {
            "log_tau": self.log_tau.detach(),
            "metrics": self.metrics,
            "generator": self.generator.get_state(),
        }
        for name, module in self._modules().items():
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            found |= {f"adam.{name}.{key}": value for key, value in optimiser.tensors().items()}
        return found

    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Load what `tensors()` returned, after so many updates."""
        self.updates = updates
        with torch.no_grad():
            self.log_tau.copy_(tensors["log_tau"])
            self.metrics.copy_(tensors["metrics"])
        self.generator.set_state(tensors["generator"].cpu())
        for name, module in self._modules().items():
            module.load_state_dict(under(tensors, f"{name}."))
        for name, optimiser in self.optimisers.items():
            optimiser.restore(under(tensors, f"adam.{name}."))
        self._rest()

    def first_fault(self, limit: float = 1e8) -> str | None:
        """The first quantity that is not finite, if any; synchronises the device.

        τ and the parameters are held to `limit` as well. Loss and value are not: they grow with the rewards.
        """
        bounded = {"tau": self.log_tau.detach().exp()}
        for name, module in (("policy", self.policy), ("critic", self.critic)):
            norms = torch._foreach_norm([parameter.detach() for parameter in module.parameters()])
            bounded[f"{name} parameters"] = torch.stack(norms).max()
        for name, value in {**dict(zip(METRICS, self.metrics, strict=True)), **bounded}.items():
            number = float(value)
            if not math.isfinite(number) or (name in bounded and number > limit):
                return f"{name} = {number:g}"
        return None


def _end_to_end(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
