"""Fits to densities that are known on a grid."""

import itertools
import math

import pytest
import torch

from wpg.controllers import ConfigError, fit_gibbs
from wpg.controllers.algorithm.gibbs import CERTAINTY, best_move, move_gains

CENTRES = torch.tensor([[-0.6, -0.6], [0.6, -0.5], [-0.5, 0.6], [0.55, 0.6]])
HEIGHTS = torch.tensor([1.0, 0.95, 0.9, 0.85])


def bumps(action):
    return (HEIGHTS * torch.exp(-((action.unsqueeze(-2) - CENTRES) ** 2).sum(-1) / (2 * 0.15**2))).sum(-1)


def ring(action):
    return torch.exp(-(((action.square().sum(-1) + 1e-8).sqrt() - 0.6) ** 2) / (2 * 0.12**2))


def two_targets(obs, action):
    return obs[:, 0] * bumps(action) + obs[:, 1] * ring(action)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, "tau must be a finite number greater than 0, it is 0.0"),
        ({"tau": math.nan}, "tau must be a finite number greater than 0, it is nan"),
        ({"iterations": 0}, "iterations must be at least 1, it is 0"),
        ({"num_particles": 0}, "num_particles must be at least 1, it is 0"),
    ],
)
def test_settings_that_cannot_be_fitted_are_named(settings, message):
    values = {"obs_dim": 2, "action_dim": 2, "tau": 0.1, "iterations": 1, "seed": 0}
    with pytest.raises(ConfigError, match=message):
        fit_gibbs(two_targets, **values | settings)


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


def test_gain_of_a_move_is_the_change_in_likelihood_unless_it_may_be_chance():
    """Against brute force: move every particle to every other one and compute the likelihood again."""
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(2, 400, 4, generator=generator) + 0.1  # of every particle at every sample
    weight = density[..., 0] / density[..., 0].sum(-1, keepdim=True)
    some = 0
    gains = move_gains(density / density.sum(-1, keepdim=True), weight)
    for k, j in itertools.product(range(4), repeat=2):
        moved = density.clone()
        moved[..., k] = moved[..., j]
        log_ratio = (moved.sum(-1) / density.sum(-1)).log()
        gain = (weight * log_ratio).sum(-1, keepdim=True)
        of_particle = (weight * (log_ratio - gain)).view(2, 100, 4)
        error = (100 * of_particle.var(1)).sum(-1, keepdim=True).sqrt()
        sure = gain > CERTAINTY * error
        assert torch.allclose(gains[:, k, j], torch.where(sure, gain, 0).squeeze(1), atol=1e-6)
        some += int(sure.sum())
    assert some


def test_a_particle_leaves_an_overcrowded_mode():
    """Three particles share a mode with a fifth of the mass; one particle has the rest."""
    posterior = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0]] * 3 + [[0, 0, 0, 1.0]]).repeat(1, 2, 1)
    weight = torch.tensor([0.2 / 3] * 3 + [0.8]).repeat(1, 2) / 2
    gains = move_gains(posterior, weight)
    assert gains[0, 0, 3].item() == pytest.approx(0.2 * math.log(2 / 3) + 0.8 * math.log(2))
    distance = torch.ones(1, 4, 4)
    distance[0, 1, 3] = 0.5
    assert best_move(gains, distance).nonzero().tolist() == [[0, 1, 3]]
    assert not best_move(torch.zeros(1, 4, 4), distance).any()


def test_of_aims_that_are_about_as_good_the_nearest_is_taken():
    gains = torch.zeros(1, 3, 3)
    gains[0, 0] = torch.tensor([0.0, 0.10, 0.09])
    distance = torch.tensor([[[0.0, 2.0, 1.0]]]).expand(1, 3, 3)
    assert best_move(gains, distance).nonzero().tolist() == [[0, 0, 2]]


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
