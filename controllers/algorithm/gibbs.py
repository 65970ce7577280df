"""Fit the particle policy to a given action value `q`: the actor's half of the algorithm alone.

The target is the Gibbs density `π(a|s) ∝ exp(q(s, a)/τ)`. The loss has three terms:

1. The Wasserstein flow moves samples towards the Gibbs density. It is local: it arranges the particles within
   a mode, but not how many particles each mode has. It is strong while the temperature is high, and fades out
   as the temperature falls to τ.
2. The likelihood of importance-weighted samples minimises `KL(Gibbs ‖ π)`, until the end.
3. Particles of equal weight do not leave a mode by the first two terms. So if a particle would raise the
   likelihood at the position of another particle, it is drawn there.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.errors import ConfigError

QFunction = Callable[[Tensor, Tensor], Tensor]

ROWS = 512
"""Samples of one iteration, in all its states together."""
MAX_STATES = 16
"""States of one iteration."""
LEARNING_RATE = 2e-3
HEAT = 10.0
"""Temperature at the start, as a multiple of τ."""
COOLED = 0.5
"""Share of the iterations after which the temperature has fallen to τ."""
FADED = 0.25
"""Share of the iterations after which the flow has faded out."""
SPEED_LIMIT = 30.0
"""Bound of the velocity, as a multiple of the temperature."""
TIE = 0.85
"""A move counts as equally good if it gains at least this share of the best move's gain."""
CERTAINTY = 2.0
"""A move counts as a gain if its estimate is at least this many standard errors above zero."""
SETTLED = 0.85
"""Share of the iterations after which particles are no longer moved to other particles."""


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
        The fitted policy, in eval mode and without gradients.

    Raises:
        ConfigError: a size or number is below 1, or the temperature is not a positive number.
    """
    counts = {"obs_dim": obs_dim, "action_dim": action_dim, "iterations": iterations}
    for name, value in (counts | {"num_particles": num_particles}).items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, it is {value}")
    if not 0 < tau < math.inf:
        raise ConfigError(f"tau must be a finite number greater than 0, it is {tau}")
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
    """Loss over N samples in each of the S states `obs (S, obs_dim)`.

    `−flow_weight ⟨u, sg[v/τ]⟩ − Σ_i w_i log π(u_i) + |θ_k − sg θ_j|²`, where `w_i` is the importance weight
    of sample i, proportional to `exp(q/τ)/π`. The last term draws the parameters `θ_k` of particle k to those
    of particle j, for the best move only, and only if `moving`.
    """
    particles, states = policy.num_particles, len(obs)
    per_particle = max(ROWS // (states * particles), 2)
    per_state = per_particle * particles
    at_states: flow.Mixture = policy(obs)
    mixture = at_states.repeat(per_state)  # (S·N, K, A)
    rows = obs.repeat_interleave(per_state, 0)
    components = torch.arange(len(rows)) % particles
    u = flow.sample(mixture, generator=generator, components=components)
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
    """Gain in log likelihood, in nat, if particle k were moved to the position of particle j, (S, K, K).

    The density would change from `π` to `π · (1 − r_k + r_j)`, so `KL(Gibbs ‖ π)` would fall by
    `Σ_i w_i log(1 − r_ik + r_ij)`. Gains within `CERTAINTY` standard errors count as 0. Samples are
    stratified over the particles, so the standard error comes from the variance among the samples of the
    same particle.

    Args:
        posterior: responsibility `r_ik` of every particle for every sample, (S, N, K); sample i was drawn
            from particle i mod K.
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
    """The move to make in each state, as one True in (S, K, K), or none if no move gains.

    It moves the particle with the largest gain. Among equally good target particles (see `TIE`) it takes the
    nearest, so that a particle that is already moving keeps its target.

    Args:
        gains: from `move_gains`, (S, K, K).
        distance: squared distance between the parameters of particles k and j, (S, K, K).
    """
    most = gains.amax((1, 2), keepdim=True)
    good = (gains > 0) & (gains > TIE * most) & (gains.amax(2, keepdim=True) == most)
    distance = torch.where(good, distance, torch.inf)
    return good & (distance == distance.amin((1, 2), keepdim=True))
