"""Policies: the interface that the control loop asks, and the sampler of an exported artifact behind it."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wpg.export.artifact import Artifact
from wpg.export.interface import PolicyInterface

Floats = NDArray[np.float32]


class Decision(NamedTuple):
    """An action, and how far apart the policy's particles were."""

    action: Floats
    """(action_dim,) in the unit of the interface's action term; valid until the next decision."""
    spread: float = 0.0
    """Root mean square distance of the particles from their mean, in the action's unit."""
    fresh: bool = False
    """Whether this was the first decision after a reset."""


class Policy(Protocol):
    """What the control loop asks at every policy step."""

    @property
    def interface(self) -> PolicyInterface:
        """What it was trained to see and to command."""
        ...

    def act(self, obs: Floats) -> Decision:
        """Choose the action for one observation, (obs_dim,)."""
        ...

    def reset(self) -> None:
        """Forget earlier actions, because another goal begins or the arm was held meanwhile."""
        ...


class SampledPolicy:
    """Samples an artifact with seeded noise: the same seed gives the same decisions, bit for bit.

    Args:
        artifact: the loaded file.
        seed: seed of the noise; decision n uses the n-th draw of ``numpy.random.SFC64(seed)``.
        num_particles: number of particles to draw; the contract's by default.
    """

    def __init__(self, artifact: Artifact, seed: int = 0, num_particles: int | None = None) -> None:
        self._sampler = artifact.sampler(num_particles)
        self._interface = artifact.contract.interface
        self._noise = np.zeros(self._sampler.noise_shape, np.float32)
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._fresh = True

    @property
    def interface(self) -> PolicyInterface:
        """The contract's."""
        return self._interface

    @property
    def num_particles(self) -> int:
        """Particles drawn at each decision."""
        return self._sampler.noise_shape[0]

    def act(self, obs: Floats) -> Decision:
        """Draw particles and take the one that the graph chooses."""
        self._generator.standard_normal(out=self._noise, dtype=np.float32)
        sample = self._sampler.draw(obs, self._noise)
        fresh, self._fresh = self._fresh, False
        return Decision(sample.action, float(sample.spread), fresh)

    def reset(self) -> None:
        """Forget the previous action, which the choice may depend on; the noise sequence continues."""
        self._sampler.reset()
        self._fresh = True
