"""Random actions in place of a share of the policy's."""

import numpy as np
import pytest
import torch

from wpg.controllers.experience.exploration import HeldRandomActions

POLICY = np.full((8, 2), 0.25, np.float32)


def mixed(share, hold, steps, seed=0):
    """Actions after the replacement, (steps, 8, 2)."""
    generator, actions = torch.Generator().manual_seed(seed), HeldRandomActions(8, 2, hold)
    return np.stack([actions.mix(POLICY, share, generator) for _ in range(steps)])


@pytest.mark.parametrize("hold", [1, 10])
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_share_of_steps_is_random(share, hold):
    actions = mixed(share, hold, 20_000)
    assert np.mean((actions != POLICY).any(-1)) == pytest.approx(share, abs=0.02)


def test_random_actions_are_held_and_uniform():
    actions = mixed(1.0, 10, 5000)
    changes = (actions[1:] != actions[:-1]).any(-1).mean()
    assert changes == pytest.approx(1 / 5.5, abs=0.01)
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_allclose(actions.mean((0, 1)), 0.0, atol=0.05)
    np.testing.assert_allclose(actions.std((0, 1)), 1 / np.sqrt(3), atol=0.03)


def test_none_are_random_where_none_shall_be():
    assert np.array_equal(mixed(0.0, 10, 5), np.broadcast_to(POLICY, (5, 8, 2)))


def test_actions_are_not_held_beyond_a_reset():
    generator, actions = torch.Generator().manual_seed(0), HeldRandomActions(8, 2, 10)
    actions.mix(POLICY, 1.0, generator)
    actions.reset()
    assert np.array_equal(actions.mix(POLICY, 0.0, generator), POLICY)
    assert np.mean((actions.mix(POLICY, 1e-6, generator) != POLICY).any(-1)) == 0.0
