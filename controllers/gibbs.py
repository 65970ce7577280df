"""Fit the particle policy to a given action value: the actor's half of the algorithm alone.

Three gradients share the work. The Wasserstein flow carries samples to where the Gibbs density
`exp(q/τ)` is; it is local, so it settles how particles lie within a mode and not how many a mode gets.
It leads while the temperature is still high, and fades as it falls. The likelihood of importance-weighted
samples, `KL(Gibbs ‖ π)`, goes on to the end. Equal particles do not leave a mode that they have settled in,
though: where one would raise the likelihood in the place of another, it is drawn there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers import flow
from wpg.controllers.policy import ParticlePolicy

QFunction = Callable[[Tensor, Tensor], Tensor]

ROWS = 512
"""Samples of one iteration, over all its states."""
MAX_STATES = 16
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
TIE = 0.85
"""Share of the best move's gain from which on another move is about as good."""
CERTAINTY = 2.0
"""A move gains if its estimate is this many of its standard errors above zero."""
SETTLED = 0.85
"""Share of the iterations after which none is moved any more."""


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
            moving=done < SETTLED,
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
    moving: bool,
    generator: torch.Generator,
) -> Tensor:
    """Loss over N samples of each of `obs (S, obs_dim)`.

    `flow_weight · −⟨u, sg[v/τ]⟩ − Σ_i w_i log π(u_i) + |θ_k − sg θ_j|²`, the last for the best move,
    if `moving`.
    """
    particles, states = policy.num_particles, len(obs)
    per_particle = max(ROWS // (states * particles), 2)
    per_state = per_particle * particles
    at_states: flow.Mixture = policy(obs)
    mixture = at_states.repeat(per_state)  # (S·N, K, A)
    rows = obs.repeat_interleave(per_state, 0)
    components = torch.arange(len(rows)) % particles
    u = flow.draw(mixture, generator=generator, components=components)
    point = u.detach()
    with torch.no_grad():
        log_prob, score = flow.log_density_and_score(point, mixture)
        weight = (q(rows, torch.tanh(point)) / tau - log_prob).view(states, per_state).softmax(-1)
    log_likelihood = flow.component_log_densities(point, mixture).view(states, per_state, particles)
    loss = -(weight * log_likelihood.logsumexp(-1)).sum(-1).mean()
    if moving:
        gains = move_gains(log_likelihood.detach().softmax(-1), weight)
        heads = torch.cat(at_states, -1)
        distance = (heads.unsqueeze(2) - heads.detach().unsqueeze(1)).square().sum(-1)  # (S, K, K)
        loss = loss + (distance * best_move(gains, distance.detach())).sum((1, 2)).mean()
    if flow_weight:
        v = flow.velocity(point, flow.value_gradient(point, lambda a: q(rows, a)), score, tau) / tau
        loss = loss + flow_weight * flow.actor_loss(u, v.clamp(-SPEED_LIMIT, SPEED_LIMIT))
    return loss


@torch.no_grad()
def move_gains(posterior: Tensor, weight: Tensor) -> Tensor:
    """What the likelihood gains, in nat, with particle k put where particle j is, (S, K, K).

    The density is `π · (1 − r_k + r_j)` then: `KL(Gibbs ‖ π)` falls by `Σ_i w_i log(1 − r_ik + r_ij)`. What
    may be chance counts as 0: every particle made as many samples, so only what differs among those of one
    particle is chance.

    Args:
        posterior: `r_ik`, of every particle for every sample, (S, N, K); particle i mod K made sample i.
        weight: `w_i`, normalised over each state's samples, (S, N).
    """
    change = posterior.unsqueeze(-2) - posterior.unsqueeze(-1)  # (S, N, K, K)
    log_ratio = change.clamp_min(-1 + 1e-6).log1p()
    gain = (weight[..., None, None] * log_ratio).sum(1)
    terms = weight[..., None, None] * (log_ratio - gain.unsqueeze(1))
    particles = posterior.shape[-1]
    per_particle = terms.view(len(terms), -1, *[particles] * 3)  # (S, N/K, K, K, K)
    error = (per_particle.shape[1] * per_particle.var(1).sum(1)).sqrt()
    return torch.where(gain > CERTAINTY * error, gain, 0)


def best_move(gains: Tensor, distance: Tensor) -> Tensor:
    """The move to be made in each state, as one True in (S, K, K), or none where none gains.

    The particle is the one that gains most. Of aims that are about as good the nearest is taken, so that a
    particle on its way keeps its aim.
    """
    most = gains.amax((1, 2), keepdim=True)
    good = (gains > 0) & (gains > TIE * most) & (gains.amax(2, keepdim=True) == most)
    distance = torch.where(good, distance, torch.inf)
    return good & (distance == distance.amin((1, 2), keepdim=True))
