"""Golden vectors: example inputs and outputs for the contract."""

import numpy as np

from wpg.export.artifact import Floats
from wpg.export.contract import GoldenVectors, SamplerSpec, float_rows
from wpg.export.errors import ParityError
from wpg.export.writing.networks import Array
from wpg.export.writing.parity import Reference, relative_error

GOLDEN_TOLERANCE = 1e-4
OBSERVATION_SCALES = (0.3, 1.0, 3.0)
"""Golden and parity observations lie this many standard deviations around the training mean."""
GOLDEN_PER_SCALE = 2
GOLDEN_PARTICLES_MAX = 32


def observations_around(mean: Array, std: Array, rng: np.random.Generator) -> Floats:
    """Candidates for golden vectors and checks, (scales, N, obs_dim), near the training mean and far off."""
    directions = rng.standard_normal((len(OBSERVATION_SCALES), 16, len(mean)))
    around: Floats = (mean + np.array(OBSERVATION_SCALES)[:, None, None] * std * directions).astype(
        np.float32
    )
    return around


def golden_vectors(
    reference: Reference, spec: SamplerSpec, candidates: Floats, rng: np.random.Generator
) -> GoldenVectors:
    """Golden vectors from the candidates of every scale whose outputs depend least on rounding."""
    particles = min(spec.num_particles, GOLDEN_PARTICLES_MAX)
    chosen, noises = [], []
    for obs in candidates:
        noise = rng.standard_normal((len(obs), particles, spec.noise_dim), dtype=np.float32)
        steadiest = np.argsort(_sensitivity(reference, obs, noise, rng))[:GOLDEN_PER_SCALE]
        chosen.append(obs[steadiest])
        noises.append(noise[steadiest])
    obs, noise = np.concatenate(chosen), np.concatenate(noises)
    previous = reference.previous_actions(obs, rng)
    expected = reference(obs, noise, previous)
    if not all(np.isfinite(output).all() for output in expected):
        raise ParityError("policy: expected finite outputs, found NaN or infinity: look at its weights")
    return GoldenVectors(
        obs=float_rows(obs),
        noise=tuple(float_rows(rows) for rows in noise),
        particles=tuple(float_rows(rows) for rows in expected.particles),
        values=float_rows(expected.values),
        action=float_rows(expected.action),
        spread=tuple(expected.spread.tolist()),
        previous=None if previous is None else float_rows(previous),
        tolerance=GOLDEN_TOLERANCE,
    )


def _sensitivity(reference: Reference, obs: Floats, noise: Floats, rng: np.random.Generator) -> Floats:
    """Largest change of an output, (B,), when the inputs change by a few roundings.

    It is large where two particles are nearly equally good, or where a particle is refined near a kink of the
    critic. Another processor may give another answer there without being wrong.
    """
    base = reference(obs, noise)
    change = np.zeros(len(obs))
    for _ in range(4):
        nudged = [x * (1 + 1e-6 * rng.standard_normal(x.shape)).astype(np.float32) for x in (obs, noise)]
        for output, original in zip(reference(*nudged), base, strict=True):
            change = np.maximum(change, relative_error(output, original).reshape(len(obs), -1).max(1))
    return change.astype(np.float32)
