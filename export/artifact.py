"""A loaded artifact, which runs its graph on batches or on one observation at a time.

This module needs only numpy, msgspec and onnxruntime, as the reader does.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wpg.export.contract import Contract, graph_inputs
from wpg.export.errors import CorruptArtifactError

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """Outputs of the graph for a batch of B observations with K particles each."""

    particles: Floats
    """(B, K, A), in the unit of the contract's action term."""
    values: Floats
    """(B, K), the smallest of the critics' values."""
    action: Floats
    """(B, A), the chosen particle."""
    spread: Floats
    """(B,), root mean square distance of the particles from their mean, in the action's unit."""


class Sample(NamedTuple):
    """Outputs of the graph for one observation; the next draw overwrites the arrays."""

    particles: Floats
    """(K, A), in the unit of the contract's action term."""
    values: Floats
    """(K,), the smallest of the critics' values."""
    action: Floats
    """(A,), the chosen particle."""
    spread: Floats
    """(), root mean square distance of the particles from their mean, in the action's unit."""


class Artifact:
    """A loaded artifact; made by :func:`wpg.export.load_artifact`."""

    def __init__(self, path: Path, contract: Contract, digest: str, session: Any, *, signed: bool) -> None:
        self.path = path
        self.contract = contract
        self.digest = digest
        """SHA-256 of the file's graph and contract."""
        self.signed = signed
        """Whether the file has a signature; it was checked only if the file was loaded with a key."""
        self._session = session

    def run(self, obs: Floats, noise: Floats, previous: Floats | None = None) -> Outputs:
        """Outputs for a batch, in fresh arrays.

        Args:
            obs: (B, obs_dim), raw units.
            noise: (B, K, noise_dim), standard normal; any K.
            previous: (B, A) actions of the step before, for a choice with hysteresis; None if there are none.

        Raises:
            ValueError: an input has another shape.
        """
        interface, spec = self.contract.interface, self.contract.sampler
        feed = {"obs": obs, "noise": noise}
        if spec.needs_previous:
            blank = np.full((*obs.shape[:1], interface.action.size), np.nan, np.float32)
            feed["previous"] = blank if previous is None else previous
        sizes: dict[str | int, int] = {}
        if obs.ndim == 2:
            sizes["B"] = obs.shape[0]
        if noise.ndim == 3:
            sizes["K"] = noise.shape[1]
        for name, shape in graph_inputs(interface.obs_dim, interface.action.size, spec).items():
            expected = tuple(sizes.get(size, size) for size in shape)
            if feed[name].shape != expected:
                raise ValueError(
                    f"{name}: expected shape {shape_text(expected)}, found {shape_text(feed[name].shape)}"
                )
            feed[name] = np.ascontiguousarray(feed[name], np.float32)
        return Outputs(*self._session.run(list(Outputs._fields), feed))

    def sampler(self, num_particles: int | None = None) -> "ArtifactSampler":
        """A sampler for one observation at a time, with its own buffers.

        Args:
            num_particles: particles to draw; by default the contract's.

        Raises:
            ContractError: there is no particle, or ``sample`` chooses and their number is no multiple of the
                components.
        """
        return ArtifactSampler(self._session, self.contract, num_particles)

    def verify_golden(self) -> float:
        """Replay the contract's golden vectors on this machine.

        Returns:
            Largest absolute error of any output, in the output's unit.

        Raises:
            CorruptArtifactError: an error relative to 1 + |expected| is above the contract's tolerance.
        """
        golden = self.contract.golden
        previous = None if golden.previous is None else np.array(golden.previous, np.float32)
        try:
            found = self.run(np.array(golden.obs, np.float32), np.array(golden.noise, np.float32), previous)
        except Exception as refusal:  # the exceptions of onnxruntime have no common base class
            raise CorruptArtifactError(
                f"{self.path}: golden vectors: {' '.join(str(refusal).split())}"
            ) from refusal
        worst = 0.0
        for name, values in found._asdict().items():
            expected = np.array(getattr(golden, name), np.float32)
            difference = np.abs(values - expected)
            error = float(np.max(difference / (1 + np.abs(expected))))
            if not error <= golden.tolerance:
                raise CorruptArtifactError(
                    f"{self.path}: golden vectors: expected {name} within {golden.tolerance:.3g}, "
                    f"found {error:.3g}; this graph or this onnxruntime does not compute what was exported"
                )
            worst = max(worst, float(difference.max()))
        return worst


class ArtifactSampler:
    """Draws particles for one observation at a time, in buffers that are allocated once.

    It remembers its last action if the contract's choice depends on it. Threads must not share it.
    """

    def __init__(self, session: Any, contract: Contract, num_particles: int | None = None) -> None:
        interface, spec = contract.interface, contract.sampler
        particles = spec.num_particles if num_particles is None else num_particles
        spec.check_particles(particles)
        size = interface.action.size
        self._session = session
        self._obs = np.zeros((1, interface.obs_dim), np.float32)
        self._noise = np.zeros((1, particles, spec.noise_dim), np.float32)
        outputs = Outputs(
            particles=np.zeros((1, particles, size), np.float32),
            values=np.zeros((1, particles), np.float32),
            action=np.zeros((1, size), np.float32),
            spread=np.zeros(1, np.float32),
        )
        self._sample = Sample(*(array[0, ...] for array in outputs))
        self._binding = session.io_binding()
        self._binding.bind_cpu_input("obs", self._obs)
        self._binding.bind_cpu_input("noise", self._noise)
        self._previous = np.full((1, size), np.nan, np.float32)
        self._needs_previous = spec.needs_previous
        if self._needs_previous:
            self._binding.bind_cpu_input("previous", self._previous)
        for name, array in outputs._asdict().items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(K, noise_dim) of the noise that :meth:`draw` takes."""
        return self._noise.shape[1], self._noise.shape[2]

    def draw(self, obs: NDArray[np.floating], noise: NDArray[np.floating]) -> Sample:
        """Particles, values and the chosen action for one observation.

        Args:
            obs: (obs_dim,), raw units.
            noise: (K, noise_dim), standard normal.

        Returns:
            Views of the sampler's buffers, overwritten by the next call.

        Raises:
            ValueError: an input has another shape.
        """
        for name, array, buffer in (("obs", obs, self._obs), ("noise", noise, self._noise)):
            if array.shape != buffer.shape[1:]:
                raise ValueError(
                    f"{name}: expected shape {shape_text(buffer.shape[1:])}, found {shape_text(array.shape)}"
                )
        self._obs[0] = obs
        self._noise[0] = noise
        self._session.run_with_iobinding(self._binding)
        if self._needs_previous:
            self._previous[0] = self._sample.action
        return self._sample

    def reset(self) -> None:
        """Forget the previous action, as at the start of an episode."""
        self._previous.fill(np.nan)


def shape_text(shape: tuple[str | int, ...]) -> str:
    """A shape as error messages show it; a name stands for a free size."""
    return "(" + ", ".join(map(str, shape)) + ")"
