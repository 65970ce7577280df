"""One update of critics and actor."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.actor import ACTOR_METRICS, ACTOR_SAMPLES, Actor, ActorBatch, compiled
from wpg.controllers.algorithm.batch import Batch
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.network import FoldedMlp
from wpg.controllers.algorithm.normalisation import BatchUse, batch_use
from wpg.controllers.algorithm.optimiser import FlatAdam, flat_vector
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.algorithm.settings import LearnerSettings
from wpg.controllers.algorithm.tensor_names import prefixed, under
from wpg.controllers.forked_process import ForkedProcess

CRITIC_METRICS = ("critic_loss", "value")
METRICS = (*CRITIC_METRICS, *ACTOR_METRICS)
LARGEST = 1e8


class Learner:
    """Critics and actor with their optimisers, and the update of both.

    With every `policy_delay`-th update of the critics, an update of the actor begins. It uses the critics as
    they are at that moment, and its result is published when the next actor update begins. In between it can
    therefore run in a process of its own (`actor_process`), beside the critics' updates. With and without
    that process the results are the same, bit for bit.
    """

    def __init__(
        self,
        policy: ParticlePolicy,
        critic: Critic,
        settings: LearnerSettings,
        *,
        generator: torch.Generator,
        actor_process: bool = False,
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
        self._process: ForkedProcess | None = None
        self._actor_is_busy = False
        if actor_process:
            self._actor.share_memory()
            self._process = ForkedProcess("the policy's process", self._actor.serve_updates)
        self.publish_policy()

    def close(self) -> None:
        """End the actor's process, if it has one."""
        if self._process is not None:
            self._process.close()

    def wait_for_actor(self) -> Actor:
        """Wait until the actor's last update is complete, and return the actor."""
        if self._actor_is_busy and self._process is not None:
            self._actor_is_busy = False
            self._process.receive()
        return self._actor

    def publish_policy(self) -> None:
        """Publish the actor's last update.

        From now on the updated policy chooses actions and computes the critics' targets.
        """
        actor = self.wait_for_actor()
        self.frozen_policy = actor.policy.frozen(low_precision=self.settings.low_precision)
        self._tau.copy_(actor.log_tau.exp())

    def update(self, batch: Batch) -> None:
        """Update the critics, and with every `policy_delay`-th call begin an update of the actor."""
        if self.updates % self.settings.policy_delay == 0:
            self.publish_policy()
            self._begin_actor_update(batch.obs)
        self._update_critic(batch)
        self.updates += 1

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of every optimiser."""
        self._learning_rate = learning_rate
        self._optimiser.set_learning_rate(learning_rate)

    def _components(self, rows: int, samples: int) -> Tensor:
        """Particle indices (rows, samples), stratified over all of them."""
        drawn = flow.stratified_components(rows * samples, self._actor.policy.num_particles, self.generator)
        return drawn.view(rows, samples).to(self._device)

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, self.critic.action_dim, generator=self.generator).to(self._device)

    def _begin_actor_update(self, obs: Tensor) -> None:
        self._actor.sync_critic(self.critic)
        batch = ActorBatch(
            obs=obs,
            components=self._components(len(obs), ACTOR_SAMPLES),
            noise=self._noise(len(obs), ACTOR_SAMPLES),
            previous_updates=self.updates // self.settings.policy_delay,
            learning_rate=self._learning_rate,
        )
        if self._process is None:
            self._actor.update(batch)
        else:
            self._process.send(batch.to_numpy())
            self._actor_is_busy = True

    @torch.no_grad()
    def _update_critic(self, batch: Batch) -> None:
        rows = len(batch.reward)
        use = batch_use(self.updates, self.settings.norm_warmup, self._device)
        noise = self._components(rows, 1), self._noise(rows, 1)
        gradient, loss, value = self._step(batch, self.frozen_policy, *noise, use)
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
        """Gradient of `flow.critic_loss` towards `flow.critic_target`.

        The pairs `(s, a)` and `(s', a')` go through the critics in one batch, so that both are normalised
        by the same statistics (CrossQ).

        Args:
            batch: B transitions.
            policy: from observations to the mixture that the next actions are drawn from.
            components: index of the particle of each next action, (B, 1).
            noise: standard normal, (B, 1, action_dim).
            use: how the batch normalisations use these pairs.

        Returns:
            Gradient by the critics' parameters as one vector, loss, and mean of the next states' values.
        """
        rows = len(batch.reward)
        mixture = policy(batch.next_obs)
        next_u = flow.reparameterise(noise, mixture.choose(components)).squeeze(1)
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
        _, by_parameters = self.critic.network.gradients(steps, by_output, by_input=False, by_parameters=True)
        return flat_vector(by_parameters), loss, next_value.mean()

    def tau(self) -> float:
        """Temperature; synchronises the device."""
        return math.exp(self.wait_for_actor().log_tau.item())

    def metrics(self) -> dict[str, float]:
        """Measurements of the last update of critics and actor; synchronises the device."""
        numbers = torch.cat([self._metrics, self.wait_for_actor().metrics]).tolist()
        return dict(zip(METRICS, numbers, strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an update reads and changes, for a checkpoint; publishes the policy first."""
        self.publish_policy()
        actor = self.wait_for_actor()
        return {
            **actor.tensors(),
            **prefixed("critic.", self.critic.state_dict()),
            **prefixed("adam.critic.", self._optimiser.tensors()),
            "metrics": torch.cat([self._metrics, actor.metrics]),
            "generator": self.generator.get_state(),
        }

    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Load what `tensors()` returned after so many updates."""
        self.updates = updates
        actor = self.wait_for_actor()
        actor.restore(tensors)
        self.critic.load_state_dict(under(tensors, "critic."))
        self._optimiser.restore(under(tensors, "adam.critic."))
        self._metrics.copy_(tensors["metrics"][: len(CRITIC_METRICS)])
        actor.metrics.copy_(tensors["metrics"][len(CRITIC_METRICS) :])
        self.generator.set_state(tensors["generator"].cpu())
        self.publish_policy()

    def first_fault(self) -> str | None:
        """The first quantity that is not finite, or None; synchronises the device.

        The temperature and the parameters must not exceed `LARGEST` either. Loss and value may, because they
        grow with the rewards.
        """
        bounded = {"tau": self.tau()}
        for name, module in (("policy", self.wait_for_actor().policy), ("critic", self.critic)):
            norms = torch._foreach_norm([parameter.detach() for parameter in module.parameters()])
            bounded[f"{name} parameters"] = float(torch.stack(norms).max())
        for name, number in {**self.metrics(), **bounded}.items():
            if not math.isfinite(number) or (name in bounded and number > LARGEST):
                return f"{name} = {number:g}"
        return None
