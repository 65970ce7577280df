"""What the graph must compute, stated a second time with the policy's own modules, and the comparison."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpg.controllers.critic import Critic
from wpg.controllers.flow import log_tanh_jacobian
from wpg.controllers.policy import ParticlePolicy
from wpg.export.contract import ActionTerm, ParityError, SamplerSpec
from wpg.export.reader import Floats, Outputs

TOLERANCE = 1e-5
"""Largest error of particles and values, relative to 1 + |expected|."""
KINK_SHARE = 1e-3
"""Share of refined particles that may be further off.

The critic's gradient jumps where a ReLU switches or the smaller critic changes; within rounding of such a
place float32 may take the other side.
"""


class Reference:
    """The sampler in float64, from the modules as trained: nothing folded, gradients by autograd."""

    def __init__(self, policy: ParticlePolicy, critic: Critic, action: ActionTerm, spec: SamplerSpec) -> None:
        self._policy = copy.deepcopy(policy).cpu().double().eval().requires_grad_(False)
        self._critic = copy.deepcopy(critic).cpu().double().eval().requires_grad_(False)
        self._scale = torch.tensor(action.scale, dtype=torch.float64)
        self._offset = torch.tensor(action.offset, dtype=torch.float64)
        self._spec = spec

    def __call__(self, obs: Floats, noise: Floats) -> Outputs:
        """Outputs for ``obs (B, obs_dim)`` and ``noise (B, K, noise_dim)``, rounded to float32."""
        states = torch.from_numpy(obs).double()
        first, *steps = (
            torch.from_numpy(noise).double().view(*noise.shape[:2], -1, len(self._scale)).unbind(2)
        )
        mean, log_std = self._policy(states)
        component = torch.arange(noise.shape[1]) % mean.shape[1]
        u = mean[:, component] + log_std[:, component].exp() * first
        for xi in steps:
            u = self._langevin(states, u, xi)
        a = torch.tanh(u)
        return outputs_of(
            (self._offset + self._scale * a).numpy().astype(np.float32),
            self._value(states, a).numpy().astype(np.float32),
        )

    def _value(self, states: Tensor, a: Tensor) -> Tensor:
        """Smallest critic value (B, K) of actions (B, K, A)."""
        rows = states.repeat_interleave(a.shape[1], 0)
        values: Tensor = self._critic(rows, a.flatten(0, 1))  # (E, B * K)
        return values.amin(0).view(a.shape[:2])

    def _langevin(self, states: Tensor, u: Tensor, xi: Tensor) -> Tensor:
        eta, tau = self._spec.step_size, self._spec.temperature
        u = u.requires_grad_(True)
        a = torch.tanh(u)
        objective = self._value(states, a).sum() + tau * log_tanh_jacobian(u).sum()
        (velocity,) = torch.autograd.grad(objective, u)
        return u.detach() + eta * velocity + math.sqrt(2 * eta * tau) * xi


def outputs_of(particles: Floats, values: Floats) -> Outputs:
    """The outputs that follow from particles (B, K, A) and their values (B, K): choice and spread."""
    best = values.argmax(1)
    centred = particles - particles.mean(1, keepdims=True, dtype=np.float64)
    return Outputs(
        particles=particles,
        values=values,
        action=particles[np.arange(len(best)), best],
        spread=np.sqrt(np.square(centred).sum(-1).mean(-1)).astype(np.float32),
    )


def relative_error(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """``|found − expected| / (1 + |expected|)``, infinite where either is not finite."""
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - expected) / (1 + np.abs(expected, dtype=np.float64))
    return np.where(np.isfinite(error), error, np.inf)


def check_outputs(found: Outputs, expected: Outputs, spec: SamplerSpec) -> float:
    """Compare a run of the graph with the reference.

    Particles and values are held against the reference's; action and spread against what follows from the
    graph's own particles and values, so that a near tie of two particles is no difference.

    Returns:
        Largest error among the particles that count.

    Raises:
        ParityError: an output is off by more than the tolerance.
    """
    errors = {
        "particles": relative_error(found.particles, expected.particles).max(-1),  # (B, K)
        "values": relative_error(found.values, expected.values),
    }
    allowed = int(KINK_SHARE * found.values.size) + 1 if spec.refinement_steps else 0
    worst = 0.0
    for name, error in errors.items():
        ordered = np.sort(error, axis=None)
        worst = max(worst, float(ordered[max(ordered.size - 1 - allowed, 0)]))
        _refuse_above(worst, name)
    implied = outputs_of(found.particles, found.values)
    _refuse_above(float(relative_error(found.action, implied.action).max()), "action")
    _refuse_above(float(relative_error(found.spread, implied.spread).max()), "spread")
    return worst


def check_parity(
    run: Callable[[Floats, Floats], Outputs],
    reference: Reference,
    spec: SamplerSpec,
    observations: Floats,
    rng: np.random.Generator,
) -> float:
    """Hold the graph against the reference over observations, in several batch sizes and particle numbers.

    Args:
        run: the graph.
        reference: what it shall compute.
        spec: the sampler's.
        observations: (N, obs_dim), N at least 8.
        rng: for the noise.

    Returns:
        Largest error.
    """
    worst = 0.0
    for batch, particles in ((1, 1), (7, 8), (len(observations), spec.num_particles), (1, 256)):
        obs = rng.choice(observations, batch, replace=False)
        noise = rng.standard_normal((batch, particles, spec.noise_dim), dtype=np.float32)
        worst = max(worst, check_outputs(run(obs, noise), reference(obs, noise), spec))
    return worst


def _refuse_above(error: float, name: str) -> None:
    if not error <= TOLERANCE:
        raise ParityError(
            f"{name}: expected the policy's within {TOLERANCE:g}, found the graph's off by {error:.3g}"
        )
