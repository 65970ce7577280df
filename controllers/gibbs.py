"""Fit the particle policy to a given action value: the actor's half of the algorithm alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.policy import ParticlePolicy

QFunction = Callable[[Tensor, Tensor], Tensor]
BATCH = 256


def fit_gibbs(
    q: QFunction,
    *,
    obs_dim: int,
    action_dim: int,
    tau: float,
    iterations: int,
    seed: int,
    num_particles: int = 16,
    sample_obs: Callable[[int], Tensor] | None = None,
) -> ParticlePolicy:
    """Fit `π(a|s) ∝ exp(q(s, a)/τ)` on actions in [−1, 1].

    Args:
        q: differentiable, from obs (B, obs_dim) and action (B, action_dim) to values (B,).
        obs_dim: size of an observation.
        action_dim: size of an action.
        tau: temperature.
        iterations: updates of the policy.
        seed: seed of the policy's start and of its noise.
        num_particles: particles of the policy, K.
        sample_obs: draws (batch, obs_dim) observations; without it they are one-hot rows in turn.

    Returns:
        The fitted policy.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = ParticlePolicy(
        obs_dim, action_dim, num_particles=num_particles, normalise=False, generator=generator
    )
    rows = -(-BATCH // obs_dim) * obs_dim
    one_hot = torch.eye(obs_dim).repeat(rows // obs_dim, 1)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: 1 - 0.95 * i / iterations)
    for _ in range(iterations):
        obs = one_hot if sample_obs is None else sample_obs(BATCH)
        mean, log_std = policy(obs)
        offset = torch.randint(num_particles, (1,), generator=generator)
        components = (
            torch.arange(len(obs)) // (obs_dim if sample_obs is None else 1) + offset
        ) % num_particles
        u = flow.draw(mean, log_std, generator=generator, components=components)
        with torch.no_grad():
            _, score = flow.log_density_and_score(u, mean, log_std)
            gradient = flow.value_gradient(u, lambda action: q(obs, action))  # noqa: B023
            v = flow.velocity(u, gradient, score, tau) / tau
        optimiser.zero_grad()
        flow.actor_loss(u, v).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return policy.eval().requires_grad_(False)
