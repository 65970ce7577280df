"""Computes the graph's outputs a second time with the policy's own modules, and compares."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpg.controllers.algorithm.flow import log_tanh_jacobian
from wpg.export.artifact import Floats, Outputs
from wpg.export.contract import SamplerSpec
from wpg.export.errors import ParityError
from wpg.export.interface import ActionTerm
from wpg.export.writing.models import Model

TOLERANCE = 1e-5
"""Largest error: of particles relative to 1 + |expected|, of values relative to 1 + the largest of them.

In float32 a value near zero that results from cancellation has the same absolute error as a large one.
"""
KINK_SHARE = 1e-3
"""Share of refined particles that may exceed the tolerance.

The critic's gradient jumps where a ReLU switches or where another critic becomes the smallest. Near such a
point rounding decides which side float32 takes.
"""


class Reference:
    """The sampler in float64: the model's own modules, gradients by autograd."""

    def __init__(self, model: Model, action: ActionTerm, spec: SamplerSpec) -> None:
        self._model = model
        self._scale = torch.tensor(action.scale, dtype=torch.float64)
        self._offset = torch.tensor(action.offset, dtype=torch.float64)
        self._spec = spec
        self.refines = spec.refinement_steps > 0
        self.num_particles, self.noise_dim = spec.num_particles, spec.noise_dim

    def __call__(self, obs: Floats, noise: Floats, previous: Floats | None = None) -> Outputs:
        """Outputs for ``obs (B, obs_dim)`` and ``noise (B, K, noise_dim)``, rounded to float32."""
        states, xi = torch.from_numpy(obs).double(), torch.from_numpy(noise).double()
        size = len(self._scale)
        xi = xi * self._spec.noise_scale
        u = self._model.draw(states, xi[..., :size])
        for step in range(1, 1 + self._spec.refinement_steps):
            u = self._langevin(states, u, xi[..., step * size : (step + 1) * size])
        a = self._model.squash(u)
        particles = (self._offset + self._scale * a).numpy().astype(np.float32)
        values = self._value(states, a).numpy().astype(np.float32)
        return self.implied(particles, values, noise, previous)

    def implied(
        self, particles: Floats, values: Floats, noise: Floats, previous: Floats | None = None
    ) -> Outputs:
        """All outputs, where particles (B, K, A) and their values (B, K) are given."""
        chosen = self.scores(particles, values, noise, previous).argmax(1)
        centred = particles - particles.mean(1, keepdims=True, dtype=np.float64)
        return Outputs(
            particles=particles,
            values=values,
            action=particles[np.arange(len(chosen)), chosen],
            spread=np.sqrt(np.square(centred).sum(-1).mean(-1)).astype(np.float32),
        )

    def scores(
        self, particles: Floats, values: Floats, noise: Floats, previous: Floats | None
    ) -> NDArray[np.float64]:
        """Scores of the particles, (B, K); the particle with the highest becomes the action."""
        a = self._unscaled(particles)
        match self._spec.choice:
            case "sample":
                return noise[..., -1].astype(np.float64)
            case "medoid":
                sums: NDArray[np.float64] = np.linalg.norm(a[:, :, None] - a[:, None], axis=-1).sum(-1)
                return -sums
            case "best_with_hysteresis" if previous is not None:
                cost: NDArray[np.float64] = np.linalg.norm(a - self._unscaled(previous)[:, None], axis=-1)
                return values - self._spec.switch_cost * cost
        return values.astype(np.float64)

    def _unscaled(self, actions: Floats) -> NDArray[np.float64]:
        """Actions (..., A) in [-1, 1]; 0 in dimensions that are fixed."""
        scale = self._scale.numpy()
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        unscaled: NDArray[np.float64] = (actions - self._offset.numpy()) * inverse
        return unscaled

    def previous_actions(self, obs: Floats, rng: np.random.Generator) -> Floats | None:
        """Random previous actions (B, A), or None if the choice does not depend on them."""
        if not self._spec.needs_previous:
            return None
        a = rng.uniform(-1, 1, (len(obs), len(self._scale)))
        return (self._offset.numpy() + self._scale.numpy() * a).astype(np.float32)

    def _value(self, states: Tensor, a: Tensor) -> Tensor:
        """Smallest critic value (B, K) of actions (B, K, A)."""
        rows = states.repeat_interleave(a.shape[1], 0)
        return self._model.value(rows, a.flatten(0, 1)).view(a.shape[:2])

    def _langevin(self, states: Tensor, u: Tensor, xi: Tensor) -> Tensor:
        eta, tau = self._spec.step_size, self._spec.temperature
        u = u.requires_grad_(True)
        a = torch.tanh(u)
        objective = self._value(states, a).sum() + tau * log_tanh_jacobian(u).sum()
        (velocity,) = torch.autograd.grad(objective, u)
        return u.detach() + eta * velocity + math.sqrt(2 * eta * tau) * xi


def relative_error(
    found: NDArray[np.floating], expected: NDArray[np.floating], size: float | None = None
) -> NDArray[np.float64]:
    """``|found − expected| / (1 + size)``, infinite where either is not finite; None: size is |expected|."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(expected, dtype=np.float64) if size is None else size
        error = np.abs(found.astype(np.float64) - expected) / (1 + sizes)
    return np.where(np.isfinite(error), error, np.inf)


def check_outputs(
    found: Outputs,
    reference: Reference,
    obs: Floats,
    noise: Floats,
    previous: Floats | None,
    *,
    largest_value: float,
) -> float:
    """Compare a run of the graph with the reference.

    Particles and values are compared with the reference's. Action and spread are compared with what follows
    from the graph's own particles and values, so that a near tie of two particles is no error. Errors of
    values are relative to 1 + ``largest_value``.

    Returns:
        Largest error among the particles that count.

    Raises:
        ParityError: an output is off by more than the tolerance.
    """
    expected = reference(obs, noise, previous)
    errors = {
        "particles": relative_error(found.particles, expected.particles).max(-1),  # (B, K)
        "values": relative_error(found.values, expected.values, largest_value),
    }
    allowed = int(KINK_SHARE * found.values.size) + 1 if reference.refines else 0
    worst = 0.0
    for name, error in errors.items():
        ordered = np.sort(error, axis=None)
        worst = max(worst, float(ordered[max(ordered.size - 1 - allowed, 0)]))
        _refuse_above(worst, name)
    implied = reference.implied(found.particles, found.values, noise, previous)
    _refuse_above(float(relative_error(found.spread, implied.spread).max()), "spread")
    scores = reference.scores(found.particles, found.values, noise, previous)
    is_action = (found.particles == found.action[:, None]).all(-1)  # (B, K)
    best, chosen = scores.max(1), np.where(is_action, scores, -np.inf).max(1)
    _refuse_above(float(relative_error(chosen, best).max()), "action")
    return worst


def check_parity(
    run: Callable[[Floats, Floats, Floats | None], Outputs],
    reference: Reference,
    observations: Floats,
    rng: np.random.Generator,
) -> float:
    """Compare the graph with the reference over observations, in several batch sizes and particle numbers.

    Args:
        run: the graph.
        reference: what it shall compute.
        observations: (N, obs_dim), N at least 8.
        rng: for the noise.

    Returns:
        Largest error.
    """
    shape = (len(observations), reference.num_particles, reference.noise_dim)
    values = reference(observations, rng.standard_normal(shape, dtype=np.float32)).values
    largest = float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))
    worst = 0.0
    for batch, particles in ((1, 1), (7, 8), (len(observations), reference.num_particles), (1, 256)):
        obs = rng.choice(observations, batch, replace=False)
        noise = rng.standard_normal((batch, particles, reference.noise_dim), dtype=np.float32)
        previous = reference.previous_actions(obs, rng)
        found = run(obs, noise, previous)
        error = check_outputs(found, reference, obs, noise, previous, largest_value=largest)
        worst = max(worst, error)
    return worst


def _refuse_above(error: float, name: str) -> None:
    if not error <= TOLERANCE:
        raise ParityError(
            f"{name}: expected the policy's within {TOLERANCE:g}, found the graph's off by {error:.3g}"
        )
