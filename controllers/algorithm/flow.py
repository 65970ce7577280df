"""The Wasserstein policy gradient (WPG) of a particle policy, as pure functions.

The policy is an equal-weight mixture of K Gaussians over the pre-tanh action `u`: K particles convolved with
learned heat kernels. The action is `a = tanh u`. Shapes: B states, N samples a state, K particles, A action
dimensions.

- Density `log π(a|s)` and score `∇_u log p(u)`: `log_density`, `log_density_and_score`.
- Velocity `v = ∇_a Q − τ ∇_a log π` of the flow `∂_t π = −∇·(π v)`: `velocity`. arXiv 2605.26078, which also
  shows its convergence.
- Actor loss `−⟨u, sg[v]⟩`: `actor_loss`. Proximal actor-critic form with a heat step: arXiv 2603.02576.
- Critic target `r + γ [min_i Q_i − τ log π]` and loss: `critic_target`, `critic_loss`. As in SAC, arXiv
  1812.05905.
- Temperature loss `−log τ · (log π + H̄)`: `temperature_gradient`. As in SAC, by log τ.
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
    """K equally weighted Gaussians over the pre-tanh action `u`, for each of B states.

    Particle k is the mean `μ_k`. The covariance of the kernel around it is
    `Σ_k = diag(σ_k) (I + w_k w_kᵀ) diag(σ_k)`: a width for every action dimension, and one direction in which
    it is stretched. Along a curved ridge of the value, or where joints trade off against each other, a few
    such kernels replace many axis-aligned ones.
    """

    mean: Tensor
    """Particles μ, (B, K, A)."""
    log_std: Tensor
    """Logarithm of the widths σ, (B, K, A)."""
    stretch: Tensor
    """Stretch w, (B, K, A)."""

    def repeat(self, times: int) -> "Mixture":
        """Repeat the row of every state `times` times in succession, (B·times, K, A) each."""
        return Mixture(*(part.repeat_interleave(times, 0) for part in self))

    def choose(self, components: Tensor) -> "Mixture":
        """Gather the particles with the indices `components (B, N)`, (B, N, A) each."""
        index = components.unsqueeze(-1).expand(-1, -1, self.mean.shape[-1])
        return Mixture(*(part.gather(1, index) for part in self))

    def per_sample(self) -> "Mixture":
        """Insert an axis that broadcasts over the N samples of `u (B, N, A)`, (B, 1, K, A) each."""
        return Mixture(*(part.unsqueeze(1) for part in self))


class _Whitened(NamedTuple):
    """Coordinates of `u` relative to every particle's kernel."""

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
    """`log N(u; μ_k, Σ_k)` (B, K), for `u (B, A)`."""
    return _component_log_densities(_whiten(u, mixture), mixture)


def _component_log_densities(whitened: _Whitened, mixture: Mixture) -> Tensor:
    """`component_log_densities` by the Sherman–Morrison formula.

    `(u − μ)ᵀ Σ⁻¹ (u − μ) = z·z − (w·z)²/(1 + w·w)` and `½ log det Σ = Σ_A log σ + ½ log(1 + w·w)`.
    """
    z, _, along, room = whitened
    distance = z.square().sum(-1) - along.square() / room
    log_volume = mixture.log_std.sum(-1) + 0.5 * room.log() + 0.5 * LOG_2PI * z.shape[-1]
    return -0.5 * distance - log_volume


def log_density(u: Tensor, mixture: Mixture) -> Tensor:
    """Log density of the action `a = tanh u` (B,), for `u (B, A)`.

    `log π(a|s) = logsumexp_k log N(u; μ_k, Σ_k) − log K − Σ_A log(1 − tanh² u)`.
    """
    components = component_log_densities(u, mixture)
    return components.logsumexp(-1) - math.log(components.shape[-1]) - log_tanh_jacobian(u)


def log_density_and_score(u: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Log density `log π(a|s)` (B,) and score `∇_u log p(u)` (B, A) in one pass, for `u (B, A)`.

    `∇_u log p(u) = −Σ_k r_k Σ_k⁻¹ (u − μ_k)`, where the responsibility `r_k` is the posterior probability
    that `u` was drawn from particle k. `p` is the density over `u`, so the score has no tanh term.
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
    """`∇_u Q(s, tanh u)` (B, A) by autograd, where `q` maps the actions (B, A) to their values (B,)."""
    with torch.enable_grad():
        point = u.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(q(torch.tanh(point)).sum(), point)
    return gradient


def velocity(u: Tensor, value_grad: Tensor, score: Tensor, tau: Tensor | float) -> Tensor:
    """Wasserstein velocity of the soft objective in pre-tanh space, (B, A).

    `v = ∇_u min_i Q_i(s, tanh u) − τ (2 tanh u + ∇_u log p(u))`. The first term ascends the value. The term
    `−2τ tanh u` is τ times the gradient of the log-Jacobian `Σ_A log(1 − tanh² u)`. The last one repels
    samples from where the density is high.
    Source: arXiv 2605.26078, `v = ∇_a Q − τ ∇_a log π`, pulled back through tanh.

    Args:
        u: pre-tanh actions, (B, A).
        value_grad: `∇_u min_i Q_i(s, tanh u)`, (B, A).
        score: `∇_u log p(u)`, (B, A).
        tau: temperature, a scalar or (B, 1).
    """
    return value_grad - tau * (2 * torch.tanh(u) + score)


def stratified_components(num_rows: int, num_particles: int, generator: torch.Generator | None) -> Tensor:
    """Particle index of every row, (num_rows,): each is uniform, and all particles are equally frequent."""
    offset = torch.randint(num_particles, (1,), generator=generator)
    return (torch.arange(num_rows) + offset) % num_particles


def sample(
    mixture: Mixture,
    *,
    generator: torch.Generator | None = None,
    components: Tensor | None = None,
) -> Tensor:
    """Draw one reparameterised pre-tanh sample for every state, `u = μ_k + Σ_k^½ ε` (B, A).

    Args:
        mixture: of B states.
        generator: draws the noise and, unless they are given, the components.
        components: particle indices k, (B,); by default they are stratified over the batch.
    """
    rows, num_particles, _ = mixture.mean.shape
    device = mixture.mean.device
    if components is None:
        components = stratified_components(rows, num_particles, generator).to(device)
    chosen = Mixture(*(part.squeeze(1) for part in mixture.choose(components.unsqueeze(1))))
    noise = torch.randn(chosen.mean.shape, generator=generator).to(device)
    return reparameterise(noise, chosen)


def reparameterise(noise: Tensor, kernel: Mixture) -> Tensor:
    """The sample `u = μ + Σ^½ ε` for standard normal `ε`, all (..., A)."""
    return kernel.mean + scale_noise(noise, kernel.log_std, kernel.stretch)


def reparameterise_gradient(grad: Tensor, noise: Tensor, kernel: Mixture) -> Mixture:
    """Backward pass of `u = reparameterise(noise, kernel)`: gradients by the kernel for `grad = ∂L/∂u`.

    With `q = sqrt(1 + w·w)` and `g = ∂L/∂u · σ`:

        ∂L/∂μ     = ∂L/∂u
        ∂L/∂log σ = ∂L/∂u · (u − μ)
        ∂L/∂w     = (g (w·ε) + ε (w·g) − w (w·g)(w·ε) / (q (1 + q))) / (1 + q)
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
    """`Σ^½ ε = diag(σ) (I + w wᵀ)^½ ε` for standard normal `ε`, all (..., A).

    The symmetric square root is `(I + w wᵀ)^½ = I + w wᵀ / (1 + sqrt(1 + w·w))`.
    """
    along = (stretch * noise).sum(-1, keepdim=True)
    root = 1 + (1 + stretch.square().sum(-1, keepdim=True)).sqrt()
    return log_std.exp() * (noise + stretch * (along / root))


def actor_loss(u: Tensor, v: Tensor) -> Tensor:
    """`−⟨u, sg[v]⟩`, averaged over the samples: its gradient moves every sample along its velocity.

    `sg` stops the gradient. The choice of the particle k adds no gradient, because k is uniform whatever the
    parameters are.
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
    """Soft target `y = r + γ (1 − terminated) [min_i Q_i(s', a') − τ log π(a'|s')]`, all (B,).

    A truncated step is not terminated, so it bootstraps.
    """
    return reward + gamma * (1 - terminated) * (next_value - tau * next_log_prob)


def critic_loss(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss `½ Σ_i mean_B (Q_i − y)²` of values (E, B) and target (B,), and its gradient by the values."""
    error = values - target
    return 0.5 * error.square().mean(-1).sum(), error / error.shape[-1]


def temperature_gradient(log_prob: Tensor, target_entropy: float) -> Tensor:
    """Gradient by log τ of `−log τ · (mean log π + H̄)`.

    Descent raises τ while the entropy `−mean log π` is below its target `H̄`, and lowers it otherwise.
    """
    return -(log_prob.mean() + target_entropy)
