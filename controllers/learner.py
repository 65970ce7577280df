"""One update of critics and actor."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.actor import ACTOR_METRICS, ACTOR_SAMPLES, Actor, Task, compiled
from wpg.controllers.checkpoint import under
from wpg.controllers.config import LearnerSettings
from wpg.controllers.critic import Critic
from wpg.controllers.fork import Fork
from wpg.controllers.network import FoldedMlp
from wpg.controllers.normalisation import BatchUse, batch_use
from wpg.controllers.optimiser import FlatAdam, end_to_end
from wpg.controllers.policy import ParticlePolicy
from wpg.controllers.replay import Batch

CRITIC_METRICS = ("critic_loss", "value")
METRICS = (*CRITIC_METRICS, *ACTOR_METRICS)


class Learner:
    """Parameters, optimisers and the update that moves them.

    Every `actor_period` updates of the critics one of the actor begins, by the critics as they are then. It
    takes effect when the next one begins, so that it may run beside the critics' updates meanwhile, in a
    process of its own (`apart`); without one the results are the same, bit for bit.
    """

    def __init__(
        self,
        policy: ParticlePolicy,
        critic: Critic,
        settings: LearnerSettings,
        *,
        generator: torch.Generator,
        apart: bool = False,
    ) -> None:
        self.critic, self.settings, self.generator = critic, settings, generator
        for module in (*policy.modules(), *critic.modules()):
            if isinstance(module, FoldedMlp):
                module.low_precision = settings.low_precision
        self._device = next(policy.parameters()).device
        self._actor = Actor(policy, critic, settings)
        self.updates = 0
        self._metrics = torch.zeros(len(CRITIC_METRICS), device=self._device)
        self._optimiser = FlatAdam(list(critic.parameters()), settings.learning_rate)
        self._learning_rate = settings.learning_rate
        self._step = (
            compiled(self.critic_gradient, self._device) if settings.compile else self.critic_gradient
        )
        self._tau = torch.zeros((), device=self._device)
        self._fork: Fork | None = None
        self._pending = False
        if apart:
            self._actor.share()
            self._fork = Fork("the policy's process", self._actor.serving)
        self.settle()

    def close(self) -> None:
        """End the actor's process, if it has one."""
        if self._fork is not None:
            self._fork.close()

    @property
    def actor(self) -> Actor:
        """Policy, average and temperature, with the update that was begun last."""
        if self._pending and self._fork is not None:
            self._pending = False
            self._fork.receive()
        return self._actor

    def settle(self) -> None:
        """Let the actor's last update take effect: it acts from now on, and the critics' targets ask it."""
        self.resting = self.actor.policy.at_rest(low_precision=self.settings.low_precision)
        self._tau.copy_(self.actor.log_tau.exp())

    def update(self, batch: Batch) -> None:
        """Move the critics, and with every `actor_period`-th time policy and temperature."""
        if self.updates % self.settings.actor_period == 0:
            self.settle()
            self._begin_actor(batch.obs)
        self._update_critic(batch)
        self.updates += 1

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of every optimiser."""
        self._learning_rate = learning_rate
        self._optimiser.set_learning_rate(learning_rate)

    def _components(self, rows: int, samples: int) -> Tensor:
        """Which particle each of a state's samples comes from, (rows, samples): balanced over all of them."""
        drawn = flow.stratified_components(rows * samples, self._actor.policy.num_particles, self.generator)
        return drawn.view(rows, samples).to(self._device)

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, self.critic.action_dim, generator=self.generator).to(self._device)

    def _begin_actor(self, obs: Tensor) -> None:
        self._actor.look(self.critic)
        task = Task(
            obs,
            self._components(len(obs), ACTOR_SAMPLES),
            self._noise(len(obs), ACTOR_SAMPLES),
            self.updates // self.settings.actor_period,
            self._learning_rate,
        )
        if self._fork is None:
            self._actor.update(task)
        else:
            self._fork.send(task.sent())
            self._pending = True

    @torch.no_grad()
    def _update_critic(self, batch: Batch) -> None:
        rows = len(batch.reward)
        use = batch_use(self.updates, self.settings.norm_warmup, self._device)
        noise = self._components(rows, 1), self._noise(rows, 1)
        gradient, loss, value = self._step(batch, self.resting, *noise, use)
        self._optimiser.step(gradient)
        self._metrics[0], self._metrics[1] = loss, value

    def critic_gradient(
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
            gamma=self.settings.gamma,
            tau=self._tau,
        )
        loss, by_values = flow.critic_loss(values, target)
        by_output = torch.cat([by_values, torch.zeros_like(next_values)], 1).unsqueeze(-1)
        _, found = self.critic.network.gradients(steps, by_output, by_input=False, by_parameters=True)
        return end_to_end(found), loss, next_value.mean()

    def tau(self) -> float:
        """Temperature; synchronises the device."""
        return math.exp(self.actor.log_tau.item())

    def metrics(self) -> dict[str, float]:
        """What the last update of critics and actor measured; synchronises the device."""
        numbers = torch.cat([self._metrics, self.actor.metrics]).tolist()
        return dict(zip(METRICS, numbers, strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an update reads and changes, for a checkpoint; the actor's last takes effect."""
        self.settle()
        found = {
            "log_tau": self.actor.log_tau.detach(),
            "metrics": torch.cat([self._metrics, self.actor.metrics]),
            "generator": self.generator.get_state(),
        }
        for name, module in self._modules().items():
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimiser in self._optimisers().items():
            found |= {f"adam.{name}.{key}": value for key, value in optimiser.tensors().items()}
        return found

    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Load what `tensors()` returned, after so many updates."""
        self.updates = updates
        with torch.no_grad():
            self.actor.log_tau.copy_(tensors["log_tau"])
            self._metrics.copy_(tensors["metrics"][: len(CRITIC_METRICS)])
            self.actor.metrics.copy_(tensors["metrics"][len(CRITIC_METRICS) :])
        self.generator.set_state(tensors["generator"].cpu())
        for name, module in self._modules().items():
            module.load_state_dict(under(tensors, f"{name}."))
        for name, optimiser in self._optimisers().items():
            optimiser.restore(under(tensors, f"adam.{name}."))
        self.settle()

    def _modules(self) -> dict[str, ParticlePolicy | Critic]:
        return {"policy": self.actor.policy, "average": self.actor.average, "critic": self.critic}

    def _optimisers(self) -> dict[str, FlatAdam]:
        return {"critic": self._optimiser, **self.actor.optimisers}

    def first_fault(self, limit: float = 1e8) -> str | None:
        """The first quantity that is not finite, if any; synchronises the device.

        τ and the parameters are held to `limit` as well. Loss and value are not: they grow with the rewards.
        """
        bounded = {"tau": self.tau()}
        for name, module in (("policy", self.actor.policy), ("critic", self.critic)):
            norms = torch._foreach_norm([parameter.detach() for parameter in module.parameters()])
            bounded[f"{name} parameters"] = float(torch.stack(norms).max())
        for name, number in {**self.metrics(), **bounded}.items():
            if not math.isfinite(number) or (name in bounded and number > limit):
                return f"{name} = {number:g}"
        return None
