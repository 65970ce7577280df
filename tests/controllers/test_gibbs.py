"""The fit to densities that are known on a grid."""

import math

import pytest
import torch

from wpg.controllers import fit_gibbs
from wpg.controllers.gibbs import balanced_coupling

CENTRES = torch.tensor([[-0.6, -0.6], [0.6, -0.5], [-0.5, 0.6], [0.55, 0.6]])
HEIGHTS = torch.tensor([1.0, 0.95, 0.9, 0.85])


def bumps(action):
    return (HEIGHTS * torch.exp(-((action.unsqueeze(-2) - CENTRES) ** 2).sum(-1) / (2 * 0.15**2))).sum(-1)


def ring(action):
    return torch.exp(-(((action.square().sum(-1) + 1e-8).sqrt() - 0.6) ** 2) / (2 * 0.12**2))


def two_targets(obs, action):
    return obs[:, 0] * bumps(action) + obs[:, 1] * ring(action)


def grid(n=120):
    axis = (torch.arange(n) + 0.5) / n * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(-1, 2), (2 / n) ** 2


def test_fit_finds_every_mode_with_its_mass():
    tau = 0.2
    policy = fit_gibbs(two_targets, obs_dim=2, action_dim=2, tau=tau, iterations=400, seed=0)
    points, cell = grid()
    nearest = (points.unsqueeze(1) - CENTRES).square().sum(-1).argmin(1)
    for row, target in enumerate((bumps, ring)):
        log_target = target(points) / tau
        log_target = log_target - log_target.logsumexp(0) - math.log(cell)
        obs = torch.eye(2)[row].expand(len(points), 2)
        log_prob = policy.log_prob(obs, points)
        divergence = (log_target.exp() * (log_target - log_prob)).sum().item() * cell
        assert divergence < 0.25
        if target is bumps:
            masses = [torch.zeros(4).index_add(0, nearest, p.exp() * cell) for p in (log_target, log_prob)]
            assert (masses[0] - masses[1]).abs().max() < 0.05


def test_same_seed_same_fit_and_observations_can_be_sampled():
    def q(obs, action):
        return -((action[:, 0] - 0.5 * obs[:, 0]) ** 2)

    def fit():
        generator = torch.Generator().manual_seed(4)
        settings = {
            "obs_dim": 1,
            "action_dim": 1,
            "tau": 0.05,
            "iterations": 60,
            "seed": 1,
            "num_particles": 4,
        }
        return fit_gibbs(q, sample_obs=lambda n: torch.rand(n, 1, generator=generator) * 2 - 1, **settings)

    first, second = fit(), fit()
    obs = torch.tensor([[-1.0], [1.0]])
    assert torch.equal(first(obs)[0], second(obs)[0])
    low, high = first.sample(obs, 256, torch.Generator().manual_seed(0)).mean((1, 2))
    assert low < high


def test_coupling_has_both_margins():
    generator = torch.Generator().manual_seed(0)
    log_likelihood = torch.randn(3, 32, 4, generator=generator)
    log_weight = torch.randn(3, 32, generator=generator).log_softmax(-1)
    coupling = balanced_coupling(log_likelihood, log_weight)
    assert torch.allclose(coupling.sum(1), torch.full((3, 4), 0.25), atol=1e-5)
    assert torch.allclose(coupling.sum(2), log_weight.exp(), atol=1e-4)


def test_coupling_is_the_posterior_where_the_mixture_is_right():
    """Two particles, mirrored samples of equal weight: the posterior is balanced already."""
    log_likelihood = torch.tensor([[[0.0, -1.5], [-1.5, 0.0]]])
    coupling = balanced_coupling(log_likelihood, torch.full((1, 2), math.log(0.5)))
    assert torch.allclose(coupling, log_likelihood.softmax(-1) / 2, atol=1e-6)


@pytest.mark.parametrize("tau", [0.5])
def test_edge_of_the_box_can_be_fitted(tau):
    policy = fit_gibbs(
        lambda obs, action: 2 * action[:, 0],
        obs_dim=1,
        action_dim=1,
        tau=tau,
        iterations=300,
        seed=0,
        num_particles=8,
    )
    samples = policy.sample(torch.ones(1, 1), 4096, torch.Generator().manual_seed(0))
    rate = 2 / tau
    expected = 1 / math.tanh(rate) - 1 / rate  # mean of exp(rate·a) on [−1, 1]
    assert samples.mean().item() == pytest.approx(expected, abs=0.04)
