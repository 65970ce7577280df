"""What decides: anything that turns an observation into an action, and the exported artifact as such."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wpg.export.artifact import Artifact
from wpg.export.interface import PolicyInterface

Floats = NDArray[np.float32]


class Decision(NamedTuple):
    """An action, and how far the policy's particles were apart."""

    action: Floats
    """(action_dim,) in the unit of the interface's action term; valid until the next decision."""
    spread: float = 0.0
    """Root mean square distance of the particles from their mean, in the action's unit."""
    fresh: bool = False
    """The policy had forgotten what it did before."""


class Policy(Protocol):
    """What the control loop asks at every policy step."""

    @property
    def interface(self) -> PolicyInterface:
        """What it was trained to see and to command."""
        ...

    def act(self, obs: Floats) -> Decision:
        """Decide on one observation, (obs_dim,)."""
        ...

    def reset(self) -> None:
        """Forget what was done before: another goal begins, or the arm was held meanwhile."""
        ...


class SampledPolicy:
    """An artifact's sampler with its own seeded noise: the same seed decides alike, bit for bit.

    Args:
        artifact: the loaded file.
        seed: of the noise; decision n uses the n-th draw of ``numpy.random.SFC64(seed)``.
        num_particles: particles to draw; by default the contract's.
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
        """Draw particles and take the one the graph chooses."""
        self._generator.standard_normal(out=self._noise, dtype=np.float32)
        sample = self._sampler.draw(obs, self._noise)
        fresh, self._fresh = self._fresh, False
        return Decision(sample.action, float(sample.spread), fresh)

    def reset(self) -> None:
        """Forget the previous action, which the choice may look back on; the noise goes on."""
        self._sampler.reset()
        self._fresh = True
