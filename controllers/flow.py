"""The Wasserstein policy gradient of a particle policy, as pure functions.

The policy is K particles convolved with a learned heat kernel: an equal-weight mixture of Gaussians
over the pre-tanh action `u`, with the action `a = tanh u`. Shapes: B states, K particles, A action
dimensions; `mean`, `log_std` (B, K, A); `u` (B, A). Losses and velocity follow

- arXiv 2605.26078: the flow `∂_t π = −∇·(π v)`, `v = ∇_a Q − τ ∇_a log π`, and its convergence;
- arXiv 2603.02576: the proximal actor-critic form with a heat step.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LOG_2PI = math.log(2 * math.pi)


def log_tanh_jacobian(u: Tensor) -> Tensor:
    """`Σ_A log(1 − tanh² u)`, finite for every finite `u`; (..., A) -> (...)."""
    return (2 * (math.log(2) - u - functional.softplus(-2 * u))).sum(-1)


def component_log_densities(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """`log N(u; μ_k, σ_k)`, (B, K)."""
    standardised = (u.unsqueeze(-2) - mean) * (-log_std).exp()
    return (-0.5 * standardised.square() - log_std).sum(-1) - 0.5 * LOG_2PI * mean.shape[-1]


def log_density(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """`log π(a|s) = logsumexp_k log N(u; μ_k, σ_k) − log K − Σ log(1 − tanh² u)` at `a = tanh u`, (B,)."""
    components = component_log_densities(u, mean, log_std)
    return components.logsumexp(-1) - math.log(mean.shape[-2]) - log_tanh_jacobian(u)


def responsibilities(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Posterior probability `r_k` that particle k made `u`, (B, K)."""
    return component_log_densities(u, mean, log_std).softmax(-1)


def log_density_and_score(u: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """`log π(a|s)` (B,) and the score `∇_u log p(u) = −Σ_k r_k (u − μ_k)/σ_k²` (B, A) in one pass.

    The score is that of the density over `u`, so without the tanh term.
    """
    inverse_std = (-log_std).exp()
    standardised = (u.unsqueeze(-2) - mean) * inverse_std  # (B, K, A)
    components = (-0.5 * standardised.square() - log_std).sum(-1)  # (B, K)
    score = -(components.softmax(-1).unsqueeze(-1) * standardised * inverse_std).sum(-2)
    constant = math.log(mean.shape[-2]) + 0.5 * LOG_2PI * mean.shape[-1]
    return components.logsumexp(-1) - constant - log_tanh_jacobian(u), score


def value_gradient(u: Tensor, q: Callable[[Tensor], Tensor]) -> Tensor:
    """`∇_u Q(s, tanh u)` (B, A), for `q` that maps actions (B, A) to values (B,) row by row."""
    with torch.enable_grad():
        point = u.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(q(torch.tanh(point)).sum(), point)
    return gradient


def velocity(u: Tensor, value_grad: Tensor, score: Tensor, tau: Tensor | float) -> Tensor:
    """Wasserstein velocity of the soft objective in pre-tanh space, (B, A).

    `v = ∇_u min_i Q_i(s, tanh u) − 2τ tanh u + τ Σ_k r_k (u − μ_k)/σ_k²`: ascent on the value, the
    gradient `−2 tanh u` of the log-Jacobian, and the repulsion `−score` from the density.
    Source: arXiv 2605.26078, `v = ∇_a Q − τ ∇_a log π`, pulled back through tanh.

    Args:
        u: pre-tanh actions, (B, A).
        value_grad: `∇_u min_i Q_i(s, tanh u)`, (B, A).
        score: `∇_u log p(u)`, (B, A).
        tau: temperature, a scalar or (B, 1).
    """
    return value_grad - tau * (2 * torch.tanh(u) + score)


def stratified_components(num_rows: int, num_particles: int, generator: torch.Generator | None) -> Tensor:
    """Particle index of every row, (num_rows,): each is uniform, together they are balanced."""
    offset = torch.randint(num_particles, (1,), generator=generator)
    return (torch.arange(num_rows) + offset) % num_particles


def draw(
    mean: Tensor,
    log_std: Tensor,
    *,
    generator: torch.Generator | None = None,
    components: Tensor | None = None,
) -> Tensor:
    """One reparameterised pre-tanh sample a state, `u = μ_k + σ_k ε` (B, A), k stratified over the batch."""
    rows, num_particles, _ = mean.shape
    if components is None:
        components = stratified_components(rows, num_particles, generator).to(mean.device)
    index = torch.arange(rows, device=mean.device)
    chosen = mean[index, components]
    noise = torch.randn(chosen.shape, generator=generator).to(mean.device)
    return chosen + log_std[index, components].exp() * noise


def actor_loss(u: Tensor, v: Tensor) -> Tensor:
    """`−⟨u, sg[v]⟩`: its gradient moves every sample along the velocity.

    The score term of the density drops without bias, because k is uniform.
    """
    return -(u * v.detach()).sum(-1).mean()


def critic_target(
    reward: Tensor,
    terminated: Tensor,
    next_value: Tensor,
    next_log_prob: Tensor,
    *,
    gamma: float,
    tau: Tensor | float,
) -> Tensor:
    """`y = r + γ(1 − terminated)[min_i Q_i(s', a') − τ log π(a'|s')]`, all (B,).

    A truncated step is not terminated: it bootstraps.
    """
    return reward + gamma * (1 - terminated) * (next_value - tau * next_log_prob)


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """`½ Σ_i mean (Q_i − y)²`, for values (E, B) and target (B,)."""
    return 0.5 * (values - target).square().mean(-1).sum()


def temperature_loss(log_tau: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """`−log τ · sg[mean log π + H̄]`: raises τ while the entropy is below its target `H̄`."""
    return -(log_tau * (log_prob.detach().mean() + target_entropy)).sum()
