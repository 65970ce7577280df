"""Fit the particle policy to a given action value: the actor's half of the algorithm alone.

Two gradients share the work. The Wasserstein flow carries samples to where the Gibbs density
`exp(q/τ)` is; it is local, so it settles how particles lie within a mode and not how many a mode gets.
Importance-weighted maximum likelihood, with every particle held to its equal share of the mass, moves
particles between modes. The flow leads while the temperature is still high, and fades as it falls.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.policy import ParticlePolicy

QFunction = Callable[[Tensor, Tensor], Tensor]

ROWS = 512
"""Samples of one iteration, over all its states."""
MAX_STATES = 32
"""States of one iteration."""
LEARNING_RATE = 2e-3
HEAT = 10.0
"""Temperature at the start, in multiples of τ."""
COOLED = 0.5
"""Share of the iterations after which the temperature is τ."""
FADED = 0.25
"""Share of the iterations after which the flow has faded out."""
SPEED_LIMIT = 30.0
"""Bound of the velocity, in units of the temperature."""
SINKHORN_SWEEPS = 20


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
        sample_obs: draws (batch, obs_dim) observations; without it they are one-hot rows.

    Returns:
        The fitted policy, at rest.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = ParticlePolicy(
        obs_dim, action_dim, num_particles=num_particles, normalise=False, generator=generator
    )
    optimiser = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: 1 - 0.98 * done / iterations)
    states = min(obs_dim, MAX_STATES) if sample_obs is None else MAX_STATES
    for iteration in range(iterations):
        if sample_obs is None:
            obs = torch.eye(obs_dim)[torch.randperm(obs_dim, generator=generator)[:states]]
        else:
            obs = sample_obs(states)
        done = iteration / iterations
        loss = fit_loss(
            policy,
            q,
            obs,
            tau=tau * max(HEAT ** (1 - done / COOLED), 1.0),
            flow_weight=max(1 - done / FADED, 0.0),
            generator=generator,
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return policy.eval().requires_grad_(False)


def fit_loss(
    policy: ParticlePolicy,
    q: QFunction,
    obs: Tensor,
    *,
    tau: float,
    flow_weight: float,
    generator: torch.Generator,
) -> Tensor:
    """`flow_weight · −⟨u, sg[v/τ]⟩ − Σ_ik P_ik log N_k(u_i)` over N samples of each of `obs (S, obs_dim)`."""
    particles, states = policy.num_particles, len(obs)
    per_state = -(-max(ROWS // states, particles) // particles) * particles
    mixture: flow.Mixture = policy(obs).repeat(per_state)  # (S·N, K, A)
    rows = obs.repeat_interleave(per_state, 0)
    components = torch.arange(len(rows)) % particles
    u = flow.draw(mixture, generator=generator, components=components)
    point = u.detach()
    with torch.no_grad():
        log_prob, score = flow.log_density_and_score(point, mixture)
        v = flow.velocity(point, flow.value_gradient(point, lambda a: q(rows, a)), score, tau) / tau
        log_weight = (q(rows, torch.tanh(point)) / tau - log_prob).view(states, per_state).log_softmax(-1)
    log_likelihood = flow.component_log_densities(point, mixture).view(states, per_state, particles)
    coupling = balanced_coupling(log_likelihood.detach(), log_weight)
    likelihood = (coupling * log_likelihood).sum((1, 2)).mean()
    if not flow_weight:
        return -likelihood
    return flow_weight * flow.actor_loss(u, v.clamp(-SPEED_LIMIT, SPEED_LIMIT)) - likelihood


def balanced_coupling(log_likelihood: Tensor, log_weight: Tensor) -> Tensor:
    """Soft assignment `P (S, N, K)` of weighted samples to particles of equal mass.

    `Σ_k P_ik = w_i` and `Σ_i P_ik = 1/K`, with P as near to the posterior `r_ik` as these allow; where
    the mixture has the target's density, it is the posterior. Source: Cuturi 2013, "Sinkhorn distances".

    Args:
        log_likelihood: `log N_k(u_i)`, (S, N, K).
        log_weight: `log w_i`, normalised over each state's samples, (S, N).
    """
    share = -math.log(log_likelihood.shape[-1])
    potential = torch.zeros_like(log_likelihood[:, :1])  # (S, 1, K)
    rows = log_weight.unsqueeze(-1)
    for _ in range(SINKHORN_SWEEPS):
        rows = log_weight.unsqueeze(-1) - (log_likelihood + potential).logsumexp(2, keepdim=True)
        potential = share - (log_likelihood + rows).logsumexp(1, keepdim=True)
    return (log_likelihood + rows + potential).exp()
