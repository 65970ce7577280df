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

    def choose(self, components: Tensor) -> "Mixture":
        """The particles that `components (B, N)` names, (B, N, A) each."""
        index = components.unsqueeze(-1).expand(-1, -1, self.mean.shape[-1])
        return Mixture(*(part.gather(1, index) for part in self))

    def per_sample(self) -> "Mixture":
        """The same, to be held against several samples a state, `u (B, N, A)`; (B, 1, K, A) each."""
        return Mixture(*(part.unsqueeze(1) for part in self))


class _Whitened(NamedTuple):
    """How `u` lies in every particle's kernel."""

    z: Tensor
    """`(u − μ)/σ`, (..., K, A)."""
    inverse_std: Tensor
    """(..., K, A)."""
    along: Tensor
    """`w·z`, (..., K)."""
    room: Tensor
    """`1 + w·w`, (..., K)."""


def _whiten(u: Tensor, mixture: Mixture) -> _Whitened:
    inverse_std = (-mixture.log_std).exp()
    z = (u.unsqueeze(-2) - mixture.mean) * inverse_std
    return _Whitened(z, inverse_std, (mixture.stretch * z).sum(-1), 1 + mixture.stretch.square().sum(-1))


def component_log_densities(u: Tensor, mixture: Mixture) -> Tensor:
    """`log N(u; μ_k, Σ_k)`, (B, K)."""
    return _component_log_densities(_whiten(u, mixture), mixture)


def _component_log_densities(whitened: _Whitened, mixture: Mixture) -> Tensor:
    """By Sherman and Morrison: `(u − μ)ᵀ Σ⁻¹ (u − μ) = z·z − (w·z)²/(1 + w·w)`."""
    z, _, along, room = whitened
    distance = z.square().sum(-1) - along.square() / room
    log_volume = mixture.log_std.sum(-1) + 0.5 * room.log() + 0.5 * LOG_2PI * z.shape[-1]
    return -0.5 * distance - log_volume


def log_density(u: Tensor, mixture: Mixture) -> Tensor:
    """`log π(a|s) = logsumexp_k log N(u; μ_k, Σ_k) − log K − Σ log(1 − tanh² u)` at `a = tanh u`, (B,)."""
    components = component_log_densities(u, mixture)
    return components.logsumexp(-1) - math.log(components.shape[-1]) - log_tanh_jacobian(u)


def log_density_and_score(u: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """`log π(a|s)` (B,) and the score `∇_u log p(u) = −Σ_k r_k Σ_k⁻¹ (u − μ_k)` (B, A) in one pass.

    `r_k` is the posterior probability that particle k made `u`. The score is that of the density over `u`,
    so without the tanh term.
    """
    whitened = _whiten(u, mixture)
    components = _component_log_densities(whitened, mixture)
    total = components.logsumexp(-1, keepdim=True)
    responsibility = (components - total).exp().unsqueeze(-1)
    # Σ⁻¹ (u − μ) = (z − w (w·z)/(1 + w·w)) / σ
    z, inverse_std, along, room = whitened
    pull = (z - mixture.stretch * (along / room).unsqueeze(-1)) * inverse_std
    score = -(responsibility * pull).sum(-2)
    return total.squeeze(-1) - math.log(components.shape[-1]) - log_tanh_jacobian(u), score


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
    chosen = Mixture(*(part.squeeze(1) for part in mixture.choose(components.unsqueeze(1))))
    noise = torch.randn(chosen.mean.shape, generator=generator).to(device)
    return place(noise, chosen)


def place(noise: Tensor, kernel: Mixture) -> Tensor:
    """`μ + Σ^½ ε` for standard normal ε, all (..., A)."""
    return kernel.mean + scale_noise(noise, kernel.log_std, kernel.stretch)


def place_gradient(grad: Tensor, noise: Tensor, kernel: Mixture) -> Mixture:
    """Gradient of a loss by the kernel that `u = place(noise, kernel)` came from, for `grad = ∂L/∂u`.

    With `q = sqrt(1 + w·w)` and `g = ∂L/∂u · σ`: `∂L/∂μ = ∂L/∂u`, `∂L/∂log σ = ∂L/∂u (u − μ)`, and
    `∂L/∂w = (g (w·ε) + ε (w·g) − w (w·g)(w·ε) / (q (1 + q))) / (1 + q)`.
    """
    _, log_std, w = kernel
    length = (1 + w.square().sum(-1, keepdim=True)).sqrt()
    along = (w * noise).sum(-1, keepdim=True)
    scaled = grad * log_std.exp()
    through = (w * scaled).sum(-1, keepdim=True)
    log_std_grad = scaled * (noise + w * (along / (1 + length)))
    shrink = w * (through * along / (length * (1 + length)))
    return Mixture(grad, log_std_grad, (scaled * along + noise * through - shrink) / (1 + length))


def scale_noise(noise: Tensor, log_std: Tensor, stretch: Tensor) -> Tensor:
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


def critic_loss(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`½ Σ_i mean (Q_i − y)²` for values (E, B) and target (B,), and its gradient by the values (E, B)."""
    error = values - target
    return 0.5 * error.square().mean(-1).sum(), error / error.shape[-1]


def temperature_gradient(log_prob: Tensor, target_entropy: float) -> Tensor:
    """Gradient by log τ of `−log τ · (mean log π + H̄)`: descent raises τ while the entropy is below `H̄`."""
    return -(log_prob.mean() + target_entropy)
