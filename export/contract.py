"""The contract: what a policy observes and commands. It is checked before torque is enabled.

The contract is JSON inside the ONNX file. Floats are written so that they read back to the same bits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.export.errors import ContractError
from wpg.export.interface import (
    Count,
    PolicyInterface,
    Row,
)
from wpg.export.record import Record

CONTRACT_VERSION = 1

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Functions that convert the JSON values of a version to those of the next, by the older version."""

ActionChoice = Literal["best", "best_with_hysteresis", "medoid", "sample"]


class SamplerSpec(Record, frozen=True, kw_only=True):
    """How actions are drawn and chosen inside the graph."""

    num_particles: Count
    """Default number of particles; the axis is dynamic, so a caller may draw any number."""
    num_components: Count
    """Components of the policy's mixture; particle k is drawn from component k mod num_components."""
    noise_dim: Count
    """Last axis of the ``noise`` input, standard normal: (1 + refinement_steps) * action size, and one more
    number for the choice ``sample``."""
    refinement_steps: Annotated[int, msgspec.Meta(ge=0)]
    """Langevin steps on the critic's action gradient that every particle takes inside the graph."""
    step_size: Annotated[float, msgspec.Meta(ge=0)]
    """η of a refinement step, u += η v + sqrt(2 η τ) ξ, before the tanh; 0 without refinement."""
    temperature: Annotated[float, msgspec.Meta(ge=0)]
    """τ of the Gibbs policy, which also scales the refinement's noise; 0 for other policies."""
    choice: ActionChoice = "best"
    """Which particle becomes the action: the one with the highest value; the one with the highest value less
    a penalty on the distance from the previous action; the one nearest to all others; or a random one."""
    switch_cost: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Penalty of ``best_with_hysteresis`` for each unit of distance from the previous action, with actions in
    [-1, 1], in the unit of the value."""
    noise_scale: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Factor on the noise, applied in the graph; 0 gives the means of the policy's components."""

    @property
    def needs_previous(self) -> bool:
        """Whether the graph has the previous action as an input, because the choice depends on it."""
        return self.choice == "best_with_hysteresis"

    def check_particles(self, number: int) -> None:
        """Check that this number of particles can be drawn.

        Raises:
            ContractError: it is below one, or ``sample`` would not choose all components equally often.
        """
        if number < 1:
            raise ContractError(f"num_particles: expected at least 1, found {number}")
        if self.choice == "sample" and number % self.num_components:
            raise ContractError(
                f"num_particles: expected a multiple of the policy's {self.num_components} components, "
                f"from which sample draws alike, found {number}"
            )


class Provenance(Record, frozen=True, kw_only=True):
    """Where the policy comes from."""

    env_id: str
    seed: int | None
    """None if it is not known, for example because another library did not store it."""
    env_steps: int
    git_commit: str | None
    """Commit of the checkout that the training ran in, with ``-dirty`` at the end if tracked files differed
    from it; None if there was none or it is not known."""
    packages: dict[str, str]
    """Versions of the packages used in training, as far as they are known."""
    config_sha256: str
    licence: str | None = None
    """Terms under which the policy may be used, as an SPDX identifier."""


class GoldenVectors(Record, frozen=True, kw_only=True):
    """Example inputs and the outputs that the graph must give for them; float32 values, stored exactly."""

    obs: tuple[Row, ...]
    noise: tuple[tuple[Row, ...], ...]
    previous: tuple[Row, ...] | None = None
    """Previous actions, if the choice depends on them."""
    particles: tuple[tuple[Row, ...], ...]
    values: tuple[Row, ...]
    action: tuple[Row, ...]
    spread: Row
    tolerance: Annotated[float, msgspec.Meta(gt=0)]
    """Largest difference, relative to 1 + |value|, that another build of the runtime may show."""


class Contract(Record, frozen=True, kw_only=True):
    """The whole contract, as stored in the artifact."""

    version: Count
    interface: PolicyInterface
    sampler: SamplerSpec
    provenance: Provenance
    golden: GoldenVectors
    normaliser: Literal["inside the graph"] = "inside the graph"
    """Inputs are raw values in the units above: normalisation is part of the graph."""

    def __post_init__(self) -> None:
        size, spec, golden = self.interface.action.size, self.sampler, self.golden
        noise_dim = noise_size(size, spec.refinement_steps, spec.choice)
        if spec.noise_dim != noise_dim:
            raise ValueError(f"sampler: expected noise_dim {noise_dim}, found {spec.noise_dim}")
        batch, particles = len(golden.obs), len(golden.noise[0]) if golden.noise else 0
        if not batch or not particles:
            raise ValueError(
                "golden vectors: expected at least one observation with one particle, found none"
            )
        for name, shape in {
            "obs": (batch, self.interface.obs_dim),
            "noise": (batch, particles, spec.noise_dim),
            "particles": (batch, particles, size),
            "values": (batch, particles),
            "action": (batch, size),
            "spread": (batch,),
            **({"previous": (batch, size)} if spec.needs_previous else {}),
        }.items():
            if not _has_shape(getattr(golden, name), shape):
                raise ValueError(f"golden vectors: {name}: expected shape {shape}")


def noise_size(action_dim: int, refinement_steps: int, choice: ActionChoice) -> int:
    """Random numbers of a particle: a vector for draw and refinement steps each, a number for ``sample``."""
    return (1 + refinement_steps) * action_dim + (choice == "sample")


def graph_inputs(obs_dim: int, action_dim: int, spec: SamplerSpec) -> dict[str, tuple[str | int, ...]]:
    """Shapes of the graph's inputs by name; B (observations) and K (particles) are dynamic."""
    inputs: dict[str, tuple[str | int, ...]] = {"obs": ("B", obs_dim), "noise": ("B", "K", spec.noise_dim)}
    if spec.needs_previous:
        inputs["previous"] = ("B", action_dim)
    return inputs


def graph_outputs(action_dim: int) -> dict[str, tuple[str | int, ...]]:
    """Shapes of the graph's outputs by name."""
    return {
        "particles": ("B", "K", action_dim),
        "values": ("B", "K"),
        "action": ("B", action_dim),
        "spread": ("B",),
    }


def encode_contract(contract: Contract) -> str:
    """Contract as JSON; floats keep every bit."""
    return msgspec.json.encode(contract, enc_hook=_plain).decode()


def decode_contract(text: str) -> Contract:
    """Contract from JSON, decoded strictly; an older version is migrated first.

    Raises:
        ContractError: another version, or a field that is missing, unknown, of another type or out of range.
    """
    try:
        version = msgspec.json.decode(text, type=_VersionOnly).version
    except msgspec.MsgspecError as error:
        raise ContractError(f"the contract has no readable version: {error}") from error
    steps = range(version, CONTRACT_VERSION)
    if version > CONTRACT_VERSION or not MIGRATIONS.keys() >= set(steps):
        raise ContractError(
            f"contract version {version} found, this wpg reads version {CONTRACT_VERSION}: "
            f"{'update wpg' if version > CONTRACT_VERSION else 'export the policy again'}"
        )
    try:
        for older in steps:
            text = msgspec.json.encode(MIGRATIONS[older](msgspec.json.decode(text))).decode()
        return msgspec.json.decode(text, type=Contract)
    except msgspec.MsgspecError as error:
        raise ContractError(f"the contract does not hold together: {error}") from error


def _plain(value: Any) -> Any:
    """Builtin value of a numpy scalar, or of a subclass such as torch's version string."""
    if isinstance(value, np.generic):
        return value.item()
    for builtin in (str, int, float):
        if isinstance(value, builtin):
            return builtin(value)
    raise TypeError(f"a contract cannot hold {value!r} of type {type(value).__name__}")


def read_interface(path: Path | str) -> PolicyInterface:
    """Interface from a TOML file, decoded strictly.

    Raises:
        ContractError: the file cannot be read, or a field is missing, unknown or out of range.
    """
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=PolicyInterface)
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: {error}") from error


def contract_schema() -> dict[str, Any]:
    """The contract's JSON schema, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Contract)}


class _VersionOnly(msgspec.Struct):
    version: Count


def _has_shape(rows: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(rows, tuple)
    return isinstance(rows, tuple) and len(rows) == shape[0] and all(_has_shape(r, shape[1:]) for r in rows)


def float_rows(values: NDArray[np.float32]) -> tuple[Row, ...]:
    """(N, D) float32 array as exact rows for :class:`GoldenVectors`."""
    return tuple(tuple(row) for row in values.astype(np.float64).tolist())
