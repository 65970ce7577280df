"""The Wasserstein policy gradient of a particle policy, as pure functions.

The policy is K particles convolved with a learned heat kernel: an equal-weight mixture of Gaussians
over the pre-tanh action `u`, with the action `a = tanh u`. Shapes: B states, K particles, A action
dimensions; `u` (B, A). Losses and velocity follow

- arXiv 2605.26078: the flow `∂_t π = −∇·(π v)`, `v = ∇_a Q − τ ∇_a log π`, and its convergence;
- arXiv 2603.02576: the proximal actor-critic form with a heat step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LOG_2PI = math.log(2 * math.pi)


def log_tanh_jacobian(u: Tensor) -> Tensor:
    """`Σ_A log(1 − tanh² u)`, finite for every finite `u`; (..., A) -> (...)."""
    return (2 * (math.log(2) - u - functional.softplus(-2 * u))).sum(-1)


class Mixture(NamedTuple):
    """K equal Gaussians a state, over the pre-tanh action: particles, and the heat kernels around them.

    Particle k has the covariance `diag(σ) (I + w wᵀ) diag(σ)`: a width for every action dimension, and
    one direction in which it is stretched. Along a curved ridge of the value, or where joints trade off
    against each other, few such kernels do what many axis-aligned ones would be needed for.
    """

    mean: Tensor
    """Particles μ, (B, K, A)."""
    log_std: Tensor
    """Logarithm of the widths σ, (B, K, A)."""
    stretch: Tensor
    """Stretch w, (B, K, A)."""

    def repeat(self, times: int) -> "Mixture":
        """The same with every state's row `times` in a row, (B·times, K, A) each."""
        return Mixture(*(part.repeat_interleave(times, 0) for part in self))


def component_log_densities(u: Tensor, mixture: Mixture) -> Tensor:
    """`log N(u; μ_k, Σ_k)`, (B, K)."""
    return _components(u, mixture)[0]


def _components(u: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """`log N(u; μ_k, Σ_k)` (B, K), and `Σ_k⁻¹ (u − μ_k)` (B, K, A).

    By Sherman and Morrison, with `z = (u − μ)/σ`: `Σ⁻¹ (u − μ) = (z − w (w·z)/(1 + w·w)) / σ`.
    """
    mean, log_std, w = mixture
    inverse_std = (-log_std).exp()
    z = (u.unsqueeze(-2) - mean) * inverse_std  # (B, K, A)
    room = 1 + w.square().sum(-1)  # (B, K)
    along = (w * z).sum(-1)
    pull = (z - w * (along / room).unsqueeze(-1)) * inverse_std
    distance = z.square().sum(-1) - along.square() / room
    log_volume = log_std.sum(-1) + 0.5 * room.log()
    return -0.5 * (distance + LOG_2PI * mean.shape[-1]) - log_volume, pull


def log_density(u: Tensor, mixture: Mixture) -> Tensor:
    """`log π(a|s) = logsumexp_k log N(u; μ_k, Σ_k) − log K − Σ log(1 − tanh² u)` at `a = tanh u`, (B,)."""
    components = component_log_densities(u, mixture)
    return components.logsumexp(-1) - math.log(components.shape[-1]) - log_tanh_jacobian(u)


def responsibilities(u: Tensor, mixture: Mixture) -> Tensor:
    """Posterior probability `r_k` that particle k made `u`, (B, K)."""
    return component_log_densities(u, mixture).softmax(-1)


def log_density_and_score(u: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """`log π(a|s)` (B,) and the score `∇_u log p(u) = −Σ_k r_k Σ_k⁻¹ (u − μ_k)` (B, A) in one pass.

    The score is that of the density over `u`, so without the tanh term.
    """
    components, pull = _components(u, mixture)
    score = -(components.softmax(-1).unsqueeze(-1) * pull).sum(-2)
    return components.logsumexp(-1) - math.log(components.shape[-1]) - log_tanh_jacobian(u), score


def value_gradient(u: Tensor, q: Callable[[Tensor], Tensor]) -> Tensor:
    """`∇_u Q(s, tanh u)` (B, A), for `q` that maps actions (B, A) to values (B,) row by row."""
    with torch.enable_grad():
        point = u.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(q(torch.tanh(point)).sum(), point)
    return gradient


def velocity(u: Tensor, value_grad: Tensor, score: Tensor, tau: Tensor | float) -> Tensor:
    """Wasserstein velocity of the soft objective in pre-tanh space, (B, A).

    `v = ∇_u min_i Q_i(s, tanh u) − 2τ tanh u + τ Σ_k r_k Σ_k⁻¹ (u − μ_k)`: ascent on the value, the
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
    mixture: Mixture,
    *,
    generator: torch.Generator | None = None,
    components: Tensor | None = None,
) -> Tensor:
    """A reparameterised pre-tanh sample a state, `u = μ_k + Σ_k^½ ε` (B, A), k stratified over the batch."""
    rows, num_particles, _ = mixture.mean.shape
    device = mixture.mean.device
    if components is None:
        components = stratified_components(rows, num_particles, generator).to(device)
    index = torch.arange(rows, device=device)
    chosen = Mixture(*(part[index, components] for part in mixture))
    noise = torch.randn(chosen.mean.shape, generator=generator).to(device)
    return chosen.mean + spread(noise, chosen.log_std, chosen.stretch)


def spread(noise: Tensor, log_std: Tensor, stretch: Tensor) -> Tensor:
    """`diag(σ) (I + w wᵀ)^½ ε` for standard normal ε, all (..., A).

    The square root is `I + w wᵀ / (1 + sqrt(1 + w·w))`.
    """
    along = (stretch * noise).sum(-1, keepdim=True)
    root = 1 + (1 + stretch.square().sum(-1, keepdim=True)).sqrt()
    return log_std.exp() * (noise + stretch * (along / root))


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
