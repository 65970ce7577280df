"""How well a least-squares fit tells its parameters.

Intervals come from the sandwich estimator over blocks of time, which allows for residuals that hang together
(Liang and Zeger, Biometrika 1986), and are at least as wide as least squares with independent residuals has
them.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from wpg.hardware_bridge.robot import Vector

PARAMETERS_A_JOINT = 8
"""That move one joint's measurements: the freedom that they take from its residuals."""


def told_half_widths(
    information: NDArray[np.float64], scores: NDArray[np.float64], needed: Vector
) -> tuple[Vector, NDArray[np.bool_]]:
    """Half widths of the 95 % intervals, and which parameters can be told.

    The one that can be told worst is given up first and taken as known, until all others can be told. The
    others' intervals still allow for what was given up, up to where they would say nothing themselves.

    Args:
        information: JᵀJ (P, P), with residuals in standard deviations.
        scores: Jᵀr (B, P) of every block.
        needed: (P,) half widths from which on an interval says nothing.

    Returns:
        (P,) and (P,).
    """
    told = np.ones(len(needed), bool)
    half = half_widths(information, scores)
    cautious = np.minimum(half, needed)
    while told.any():
        active = np.flatnonzero(told)
        half[active] = half_widths(information[np.ix_(active, active)], scores[:, active])
        worst = active[int(np.argmax((half / needed)[active]))]
        if half[worst] <= needed[worst]:
            break
        told[worst] = False
    return np.maximum(half, cautious), told


def half_widths(information: NDArray[np.float64], scores: NDArray[np.float64]) -> Vector:
    """Half widths of all parameters' 95 % intervals, (P,); arguments as for :func:`told_half_widths`."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-30))
    inverse = scale[:, None] * np.linalg.pinv(information * np.outer(scale, scale), hermitian=True) * scale
    blocks = len(scores)
    meat = scores.T @ scores * blocks / max(blocks - PARAMETERS_A_JOINT, 1)
    sandwich = inverse @ meat @ inverse
    variance = np.maximum(np.diag(sandwich), np.diag(inverse))
    half: Vector = student.ppf(0.975, blocks - 1) * np.sqrt(variance)
    return half
