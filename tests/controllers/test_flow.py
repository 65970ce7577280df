"""The policy gradient's formulas against torch.distributions, autograd and closed forms."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from wpg.controllers.algorithm import flow

B, K, A = 6, 4, 3


@pytest.fixture
def mixture():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(B, K, A, generator=generator, dtype=torch.float64)
    log_std = 0.4 * torch.randn(B, K, A, generator=generator, dtype=torch.float64) - 0.5
    stretch = torch.randn(B, K, A, generator=generator, dtype=torch.float64)
    return flow.Mixture(mean, log_std, stretch)


@pytest.fixture
def u():
    return torch.randn(B, A, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def kernels(mixture):
    """The Gaussians with their covariances multiplied out."""
    identity = torch.eye(A, dtype=mixture.mean.dtype)
    inner = identity + mixture.stretch.unsqueeze(-1) * mixture.stretch.unsqueeze(-2)
    std = mixture.log_std.exp()
    return MultivariateNormal(mixture.mean, std.unsqueeze(-1) * inner * std.unsqueeze(-2))


def reference(mixture):
    weights = Categorical(logits=torch.zeros(mixture.mean.shape[:2], dtype=mixture.mean.dtype))
    return MixtureSameFamily(weights, kernels(mixture))


def test_log_density_is_the_mixture_pushed_through_tanh(mixture, u):
    expected = reference(mixture).log_prob(u) - torch.log(1 - torch.tanh(u) ** 2).sum(-1)
    assert torch.allclose(flow.log_density(u, mixture), expected, atol=1e-12)


def test_scaled_noise_has_the_kernels_covariance(mixture):
    """The square root applied to the unit vectors, times its own transpose, is the covariance."""
    basis = torch.eye(A, dtype=mixture.mean.dtype).view(A, 1, 1, A)
    root = flow.scale_noise(basis, mixture.log_std, mixture.stretch)  # (A, B, K, A)
    assert torch.allclose(
        torch.einsum("abki,abkj->bkij", root, root), kernels(mixture).covariance_matrix, atol=1e-12
    )


def test_log_tanh_jacobian_stays_finite_far_out():
    u = torch.tensor([[40.0], [-40.0], [0.0]])
    expected = torch.tensor([2 * (math.log(2) - 40), 2 * (math.log(2) - 40), 0.0])
    assert torch.allclose(flow.log_tanh_jacobian(u), expected, atol=1e-6)


def test_score_is_the_gradient_of_the_log_density(mixture, u):
    u.requires_grad_(True)
    (expected,) = torch.autograd.grad(reference(mixture).log_prob(u).sum(), u)
    log_prob, score = flow.log_density_and_score(u.detach(), mixture)
    assert torch.allclose(score, expected, atol=1e-12)
    assert torch.allclose(log_prob, flow.log_density(u.detach(), mixture), atol=1e-12)


def test_velocity_is_the_gradient_of_value_minus_tau_log_density(mixture, u):
    """`v = ∇_u [Q(tanh u) − τ log π(tanh u)]` by central differences."""
    tau = 0.3

    def q(action):
        return torch.sin(3 * action).sum(-1) + action.prod(-1)

    def objective(point):
        return q(torch.tanh(point)) - tau * flow.log_density(point, mixture)

    _, score = flow.log_density_and_score(u, mixture)
    v = flow.velocity(u, flow.value_gradient(u, q), score, tau)
    step = 1e-6
    for axis in range(A):
        offset = torch.zeros(A, dtype=u.dtype)
        offset[axis] = step
        slope = (objective(u + offset) - objective(u - offset)) / (2 * step)
        assert torch.allclose(v[:, axis], slope, atol=1e-7)


def test_velocity_vanishes_where_the_policy_is_the_gibbs_density():
    """With `Q = τ log π` a Gaussian policy is already the Gibbs density."""
    zeros = torch.zeros(1, 1, 2, dtype=torch.float64)
    mixture = flow.Mixture(zeros, zeros - 0.3, zeros + 0.6)
    u = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    tau = 0.7

    def q(action):
        return tau * flow.log_density(torch.atanh(action), mixture)

    _, score = flow.log_density_and_score(u, mixture)
    v = flow.velocity(u, flow.value_gradient(u, q), score, tau)
    assert torch.allclose(v, torch.zeros_like(v), atol=1e-12)


def test_actor_gradient_is_minus_the_velocity_through_the_sample():
    mean = torch.randn(8, K, A, requires_grad=True)
    log_std = torch.full((8, K, A), -1.0, requires_grad=True)
    components = torch.arange(8) % K
    mixture = flow.Mixture(mean, log_std, torch.zeros(8, K, A))
    u = flow.sample(mixture, generator=torch.Generator().manual_seed(3), components=components)
    v = torch.randn(8, A)
    flow.actor_loss(u, v).backward()
    rows = torch.arange(8)
    assert torch.allclose(mean.grad[rows, components], -v / 8)
    noise = u.detach() - mean.detach()[rows, components]
    assert torch.allclose(log_std.grad[rows, components], -v * noise / 8, atol=1e-6)
    assert mean.grad.count_nonzero() == 8 * A


def test_draw_is_stratified():
    components = flow.stratified_components(64, 16, torch.Generator().manual_seed(0))
    assert torch.equal(components.bincount(), torch.full((16,), 4))


def test_samples_of_one_state_come_from_as_many_particles():
    mixture = flow.Mixture(*(torch.arange(3.0).view(3, 1, 1).expand(3, K, A) for _ in range(3))).repeat(K)
    assert torch.equal(mixture.mean[:, 0, 0], torch.arange(3.0).repeat_interleave(K))
    components = flow.stratified_components(3 * K, K, torch.Generator().manual_seed(1)).view(3, K)
    assert torch.equal(components.sort(1).values, torch.arange(K).expand(3, K))


def test_critic_target_by_hand():
    reward, terminated = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
    next_value, next_log_prob = torch.tensor([5.0, 5.0]), torch.tensor([2.0, 2.0])
    target = flow.critic_target(reward, terminated, next_value, next_log_prob, gamma=0.9, tau=0.5)
    assert torch.allclose(target, torch.tensor([1 + 0.9 * (5 - 1), 1.0]))


def test_critic_loss_by_hand():
    values = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    loss, gradient = flow.critic_loss(values, torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx((1 + 4 + 9) / 4)
    assert torch.allclose(gradient, torch.autograd.grad(loss, values)[0])


def test_gradient_of_a_placed_sample_equals_autograd():
    kernel = flow.Mixture(*(torch.randn(8, A, dtype=torch.float64, requires_grad=True) for _ in range(3)))
    noise, grad = torch.randn(2, 8, A, dtype=torch.float64)
    expected = torch.autograd.grad(flow.reparameterise(noise, kernel), kernel, grad)
    for ours, theirs in zip(flow.reparameterise_gradient(grad, noise, kernel), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize(("log_prob", "grows"), [(5.0, True), (-5.0, False)])
def test_temperature_rises_while_entropy_is_below_its_target(log_prob, grows):
    gradient = flow.temperature_gradient(torch.full((3,), log_prob), 2.0)
    assert gradient.item() == pytest.approx(-(log_prob + 2.0))
    assert (gradient.item() < 0) == grows
