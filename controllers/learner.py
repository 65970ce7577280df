"""One update of critics, policy and temperature."""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.critic import Critic
from wpg.controllers.network import FoldedMlp
from wpg.controllers.normalisation import BatchUse
from wpg.controllers.policy import ParticlePolicy
from wpg.controllers.replay import Batch

STATISTICS_RATE = 0.05
"""Weight of a batch in the running statistics, once twenty have been seen."""
ADAM_BETAS = (0.5, 0.999)
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
        target_entropy: float,
        norm_warmup: int,
        low_precision: bool = False,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.critic, self.generator = policy, critic, generator
        self.gamma, self.actor_period, self.target_entropy = gamma, actor_period, target_entropy
        self.norm_warmup = norm_warmup
        for module in (*policy.modules(), *critic.modules()):
            if isinstance(module, FoldedMlp):
                module.low_precision = low_precision
        device = next(policy.parameters()).device
        self.log_tau = torch.tensor(math.log(initial_tau), device=device, requires_grad=True)
        self.average = copy.deepcopy(policy).requires_grad_(False)
        """The policy's running average: what one update gains, the next may lose, and the average keeps."""
        self.updates = 0
        self.metrics = torch.zeros(len(METRICS), device=device)
        adam: dict[str, Any] = {"lr": learning_rate, "betas": ADAM_BETAS, "fused": True}
        self.optimisers = {
            "critic": torch.optim.Adam(critic.parameters(), **adam),
            "policy": torch.optim.Adam(policy.parameters(), **adam),
            "tau": torch.optim.Adam([self.log_tau], **adam),
        }
        self._followed = list(policy.state_dict().values())
        self._following = list(self.average.state_dict().values())

    def update(self, batch: Batch) -> None:
        """Move the critics, and every `actor_period`-th time policy and temperature."""
        self._update_critic(batch)
        if self.updates % self.actor_period == 0:
            self._update_policy(batch.obs)
        self.updates += 1

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of every optimiser."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate

    def _use(self, count: int, warmup: float) -> BatchUse:
        """Statistics average over all batches at first, over the last twenty or so later."""
        return BatchUse(max(STATISTICS_RATE, 1 / (count + 1)), count >= warmup)

    def _update_critic(self, batch: Batch) -> None:
        """Both state–action pairs go through in one batch, so that one set of statistics fits both."""
        rows = len(batch.reward)
        with torch.no_grad():
            mixture = self.policy(batch.next_obs)
            next_u = flow.draw(mixture, generator=self.generator)
            next_log_prob = flow.log_density(next_u, mixture)
            tau = self.log_tau.exp()
        states = torch.cat([batch.obs, batch.next_obs])
        actions = torch.cat([batch.action, torch.tanh(next_u)])
        values = self.critic(states, actions, self._use(self.updates, self.norm_warmup))
        next_value = values[:, rows:].detach().amin(0)
        target = flow.critic_target(
            batch.reward, batch.terminated, next_value, next_log_prob, gamma=self.gamma, tau=tau
        )
        loss = flow.critic_loss(values[:, :rows], target)
        optimiser = self.optimisers["critic"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.metrics[0] = loss.detach()
        self.metrics[1] = next_value.mean()

    def _update_policy(self, obs: Tensor) -> None:
        """Move every sample along the Wasserstein velocity, and the temperature towards its entropy."""
        count = self.updates // self.actor_period
        per_state: flow.Mixture = self.policy(obs, self._use(count, self.norm_warmup / self.actor_period))
        mixture, obs = per_state.repeat(ACTOR_SAMPLES), obs.repeat_interleave(ACTOR_SAMPLES, 0)
        u = flow.draw(mixture, generator=self.generator)
        with torch.no_grad():
            log_prob, score = flow.log_density_and_score(u, mixture)
            gradient = flow.value_gradient(u, lambda action: self.critic(obs, action).amin(0))
            v = flow.velocity(u, gradient, score, self.log_tau.exp())
        loss = flow.actor_loss(u, v)
        optimiser = self.optimisers["policy"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        weight = max(1 / AVERAGED_UPDATES, 1 / (1 + AVERAGED_SHARE * count))
        torch._foreach_lerp_(self._following, self._followed, weight)
        tau_optimiser = self.optimisers["tau"]
        tau_optimiser.zero_grad()
        flow.temperature_loss(self.log_tau, log_prob, self.target_entropy).backward()  # type: ignore[no-untyped-call]
        tau_optimiser.step()
        self.metrics[2] = -log_prob.mean()
        if self.policy.num_particles > 1:
            some = per_state.mean[:SPREAD_ROWS].detach()
            self.metrics[3] = torch.tanh(some).std(1).mean()

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
            for index, state in optimiser.state_dict()["state"].items():
                found |= {f"adam.{name}.{index}.{key}": value for key, value in state.items()}
        return found

    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Take back what `tensors` said."""
        self.updates = updates
        with torch.no_grad():
            self.log_tau.copy_(tensors["log_tau"])
            self.metrics.copy_(tensors["metrics"])
        self.generator.set_state(tensors["generator"].cpu())
        for name, module in self._modules().items():
            module.load_state_dict(_under(tensors, f"{name}."))
        for name, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"adam.{name}.").items():
                index, _, entry = key.partition(".")
                state.setdefault(int(index), {})[entry] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

    def first_fault(self, limit: float = 1e8) -> str | None:
        """The name of a quantity that is not finite or beyond `limit`, if any; synchronises the device."""
        values = {"tau": self.log_tau.detach().exp(), **dict(zip(METRICS, self.metrics, strict=True))}
        for name, module in (("policy", self.policy), ("critic", self.critic)):
            norms = torch._foreach_norm([parameter.detach() for parameter in module.parameters()])
            values |= {f"{name} parameters": torch.stack(norms).max()}
        for name, value in values.items():
            number = float(value)
            if not math.isfinite(number) or abs(number) > limit:
                return f"{name} = {number:g}"
        return None


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
