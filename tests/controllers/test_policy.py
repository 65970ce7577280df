"""The particle policy as a distribution on [−1, 1]."""

import pytest
import torch

from wpg.controllers import ParticlePolicy
from wpg.controllers.algorithm import flow


@pytest.fixture
def policy():
    return ParticlePolicy(3, 1, num_particles=4, hidden=16, generator=torch.Generator().manual_seed(0))


def test_density_integrates_to_one(policy):
    edges = torch.linspace(-1, 1, 20_001)
    action = (edges[1:] + edges[:-1]) / 2
    obs = torch.randn(1, 3).expand(len(action), 3)
    mass = policy.log_prob(obs, action[:, None]).exp().sum().item() * 2 / len(action)
    assert mass == pytest.approx(1, abs=1e-3)


def test_samples_follow_the_density(policy):
    obs = torch.randn(1, 3)
    samples = policy.sample(obs, 40_000, torch.Generator().manual_seed(1))[0, :, 0]
    edges = torch.linspace(-1, 1, 21)
    counted = torch.histogram(samples, edges).hist / len(samples)
    fine = (torch.arange(20 * 200) + 0.5) / (10 * 200) - 1
    density = policy.log_prob(obs.expand(len(fine), 3), fine[:, None]).exp()
    expected = density.view(20, 200).mean(1) * 0.1
    assert torch.allclose(counted, expected, atol=0.01)


def test_as_many_samples_as_particles_take_each_once(policy):
    head = policy.network.own_layers()[-1]
    with torch.no_grad():
        head.bias[0, 0] = torch.tensor([-1.0, -0.3, 0.3, 1.0] + [-5.0] * 4 + [0.0] * 4)
        head.weight.zero_()
    actions = policy.sample(torch.randn(5, 3), 4, torch.Generator().manual_seed(0))
    centres = torch.tanh(torch.tensor([-1.0, -0.3, 0.3, 1.0]))
    assert torch.allclose(actions[..., 0].sort(-1).values, centres.expand(5, 4), atol=0.05)


def test_same_generator_same_samples(policy):
    obs = torch.randn(2, 3)
    first, second = (policy.sample(obs, 7, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 7, 1)


def test_gradient_of_chosen_particles_equals_autograd_where_heads_are_clamped(policy):
    """A width or stretch beyond its bound has no gradient: the bound decides there, not the network."""
    generator = torch.Generator().manual_seed(0)
    heads = (10 * torch.randn(1, 9, 3 * 4 * 1, generator=generator)).requires_grad_(True)
    components = torch.randint(4, (9, 5), generator=generator)
    chosen = policy.mixture(heads).choose(components)
    for part, bounds in ((chosen.log_std, (-5.0, 2.0)), (chosen.stretch, (-8.0, 8.0))):
        assert (part.min().item(), part.max().item()) == bounds
    grads = [torch.randn(9, 5, 1, generator=generator) for _ in range(3)]
    (expected,) = torch.autograd.grad(chosen, heads, grads)
    ours = policy.heads_gradient(heads.detach(), components, flow.Mixture(*grads))
    assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_density_at_the_edge_of_the_box_is_finite(policy, edge):
    assert torch.isfinite(policy.log_prob(torch.randn(3, 3), torch.full((3, 1), edge))).all()


def test_particles_start_apart():
    policy = ParticlePolicy(3, 2, num_particles=16)
    assert torch.tanh(policy(torch.zeros(1, 3)).mean).std(1).min() > 0.2
