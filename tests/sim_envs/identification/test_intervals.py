"""Intervals of linear fits whose truth is known."""

import numpy as np
import pytest
from scipy.stats import t as student

from wpg.sim_envs.identification.intervals import determined_half_widths, half_widths

BLOCKS, ROWS, FITS = 40, 10, 300
NEEDED = np.array([1.0, 1.0])


def linear(jacobian, residual=None):
    """Information and scores of a fit, by blocks of ``ROWS`` rows."""
    residual = np.ones(len(jacobian)) if residual is None else residual
    scores = (jacobian * residual[:, None]).reshape(BLOCKS, -1, jacobian.shape[1]).sum(axis=1)
    return jacobian.T @ jacobian, scores


@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_hold_the_truth_as_often_as_they_say(correlated):
    """Residuals have unit variance; a share of it is the same for a whole block."""
    rng = np.random.default_rng(0)
    inside = np.zeros(2)
    for _ in range(FITS):
        jacobian = np.repeat(rng.normal(size=(BLOCKS, 2)), ROWS, axis=0) + rng.normal(size=(BLOCKS * ROWS, 2))
        common = np.repeat(rng.normal(size=BLOCKS), ROWS)
        noise = np.sqrt(correlated) * common + np.sqrt(1 - correlated) * rng.normal(size=BLOCKS * ROWS)
        error, *_ = np.linalg.lstsq(jacobian, noise, rcond=None)
        inside += np.abs(error) <= half_widths(*linear(jacobian, noise - jacobian @ error))
    assert (inside / FITS > 0.94).all()
    assert (inside / FITS < 0.99).all()


def test_are_no_narrower_than_those_of_independent_residuals():
    jacobian = np.diag([3.0, 4.0])
    half = half_widths(jacobian.T @ jacobian, np.zeros((BLOCKS, 2)))
    np.testing.assert_allclose(half, student.ppf(0.975, BLOCKS - 1) / np.array([3.0, 4.0]))


@pytest.mark.parametrize("ratio", [1.0, 1 + 1e-9])
def test_of_two_that_look_alike_one_is_given_up(ratio):
    """The other is known only as far as the one that is given up may be off and still say something."""
    column = np.random.default_rng(0).normal(size=BLOCKS * ROWS)
    jacobian = np.stack([column, ratio * column], axis=1)
    half, determined = determined_half_widths(*linear(jacobian, 0 * column), NEEDED)
    assert determined.sum() == 1
    np.testing.assert_allclose(half[determined], NEEDED[determined])


def test_what_changes_no_measurement_is_not_known():
    jacobian = np.stack([np.ones(BLOCKS * ROWS), np.zeros(BLOCKS * ROWS)], axis=1)
    _, determined = determined_half_widths(*linear(jacobian), NEEDED)
    assert determined.tolist() == [True, False]


def test_of_two_that_look_different_both_are_known():
    jacobian = np.random.default_rng(0).normal(size=(BLOCKS * ROWS, 2))
    half, determined = determined_half_widths(*linear(jacobian, 0 * jacobian[:, 0]), NEEDED)
    assert determined.all()
    assert (half < 0.15).all()
    _, determined = determined_half_widths(*linear(jacobian, 0 * jacobian[:, 0]), NEEDED * [1e-3, 1.0])
    assert determined.tolist() == [False, True]
