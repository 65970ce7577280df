"""Confidence intervals of a least-squares fit.

They come from the sandwich estimator over blocks of time, which allows for correlated residuals (Liang and
Zeger, Biometrika 1986), and are at least as wide as those for independent residuals.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from wpg.hardware_bridge.robot import Vector

PARAMETERS_A_JOINT = 8
"""Number of parameters that affect one joint's measurements, subtracted as degrees of freedom."""
UNDETERMINED_SHARE = 1e-3
"""A parameter's interval is infinite if more than this share of it lies in combinations of parameters that
change no measurement."""


def determined_half_widths(
    information: NDArray[np.float64], scores: NDArray[np.float64], needed: Vector
) -> tuple[Vector, NDArray[np.bool_]]:
    """Half widths of the 95 % intervals, and which parameters can be determined.

    As long as an interval is too wide, the parameter with the relatively widest one is given up and taken as
    known. The intervals of the others still allow for it, but only up to the width at which they would say
    nothing themselves.

    Args:
        information: JᵀJ, (P, P), with residuals in standard deviations.
        scores: Jᵀr of each of the B blocks, (B, P).
        needed: half widths above which an interval says nothing, (P,).

    Returns:
        Half widths, (P,), and whether each parameter can be determined, (P,).
    """
    determined = np.ones(len(needed), bool)
    half = half_widths(information, scores)
    cautious = np.minimum(half, needed)
    while determined.any():
        active = np.flatnonzero(determined)
        half[active] = half_widths(information[np.ix_(active, active)], scores[:, active])
        worst = active[int(np.argmax((half / needed)[active]))]
        if half[worst] <= needed[worst]:
            break
        determined[worst] = False
    return np.maximum(half, cautious), determined


def half_widths(information: NDArray[np.float64], scores: NDArray[np.float64]) -> Vector:
    """Half widths of all parameters' 95 % intervals, (P,); arguments as in :func:`determined_half_widths`.

    They are infinite for parameters that the measurements do not determine.
    """
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-30))
    scaled = information * np.outer(scale, scale)
    pseudo_inverse = np.linalg.pinv(scaled, hermitian=True)
    inverse = scale[:, None] * pseudo_inverse * scale
    blocks = len(scores)
    meat = scores.T @ scores * blocks / max(blocks - PARAMETERS_A_JOINT, 1)
    sandwich = inverse @ meat @ inverse
    variance = np.maximum(np.diag(sandwich), np.diag(inverse))
    # In these combinations the pseudo-inverse is zero, as if they were known exactly.
    variance[np.diag(scaled @ pseudo_inverse) < 1.0 - UNDETERMINED_SHARE] = np.inf
    half: Vector = student.ppf(0.975, blocks - 1) * np.sqrt(variance)
    return half
