"""What a policy was trained to see and to command; checked against the robot before torque is enabled.

The contract is JSON inside the ONNX file. Floats are written so that they read back to the same bits.
"""

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from wpg.export.kinematics import Record, SerialChain

CONTRACT_VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Row = tuple[float, ...]

ObservationSource = Literal[
    "joint_pos", "joint_vel", "joint_torque", "tool_pos", "goal", "external", "environment"
]
ActionMode = Literal[
    "joint_position_delta", "joint_position", "joint_velocity", "joint_torque", "environment"
]


class ArtifactError(ValueError):
    """Root of everything that can be wrong with an artefact."""


class CorruptArtifactError(ArtifactError):
    """The file is not what was written: truncated, edited, or not an artefact at all."""


class ContractError(ArtifactError):
    """The file is whole, but what it asks for is not what is there."""


class ParityError(ArtifactError):
    """The exported graph does not compute what the policy computes."""


class JointSpec(Record, frozen=True, kw_only=True):
    """One joint, in the order in which the policy knows it."""

    name: str
    unit: Literal["rad"] = "rad"
    zero_rad: float = 0.0
    """Policy angle at which the robot reports zero."""
    sign: Literal[1, -1] = 1
    """-1 where the robot counts the other way round."""


class RobotSpec(Record, frozen=True, kw_only=True):
    """The robot a policy was trained for."""

    name: str
    joints: tuple[JointSpec, ...]
    kinematics: SerialChain

    def __post_init__(self) -> None:
        _require_distinct("joint", [joint.name for joint in self.joints])
        if len(self.joints) != len(self.kinematics.joints):
            raise ValueError(
                f"robot {self.name} has {len(self.joints)} joints, but its kinematics "
                f"{len(self.kinematics.joints)}"
            )


class ObservationTerm(Record, frozen=True, kw_only=True):
    """A run of entries of the observation vector."""

    name: str
    size: Count
    source: ObservationSource
    unit: str = ""
    scale: float = 1.0
    """The source's value is multiplied by this before it is clipped."""
    clip: tuple[float, float] | None = None
    history: Count = 1
    """How many successive values stand here, newest first; ``size`` counts them all."""

    def __post_init__(self) -> None:
        if self.size % self.history:
            raise ValueError(
                f"observation {self.name}: size {self.size} is no multiple of its history {self.history}"
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"observation {self.name}: clip {self.clip} is no interval")


class ActionTerm(Record, frozen=True, kw_only=True):
    """What the graph's ``action`` output means."""

    mode: ActionMode
    size: Count
    unit: str
    scale: Row
    """The policy acts in [-1, 1]; the graph's output is ``offset + scale * a``, in ``unit``."""
    offset: Row

    @property
    def low(self) -> Row:
        """Smallest output the graph can give, per dimension."""
        return tuple(o - abs(s) for o, s in zip(self.offset, self.scale, strict=True))

    @property
    def high(self) -> Row:
        """Largest output the graph can give, per dimension."""
        return tuple(o + abs(s) for o, s in zip(self.offset, self.scale, strict=True))

    def __post_init__(self) -> None:
        if not len(self.scale) == len(self.offset) == self.size:
            raise ValueError(
                f"action has size {self.size}, but {len(self.scale)} scales and {len(self.offset)} offsets"
            )


class GoalSpec(Record, frozen=True, kw_only=True):
    """The box goals are drawn from, and when one counts as reached."""

    achieved: Literal["tool_pos"]
    """The source that is compared with the goal."""
    low: Row
    high: Row
    tolerance_m: Annotated[float, msgspec.Meta(gt=0)]
    horizon_steps: Count
    """Policy steps a goal is given; it is reached when the last of them ends within the tolerance."""

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(
            lo > hi for lo, hi in zip(self.low, self.high, strict=False)
        ):
            raise ValueError(f"goal box is inverted or ragged: low {self.low}, high {self.high}")


class PolicyInterface(Record, frozen=True, kw_only=True):
    """Everything about a task that the deployed policy relies on; an environment declares it."""

    robot: RobotSpec | None
    """None for an environment that stands for no robot; such an artefact cannot be run on one."""
    observation: tuple[ObservationTerm, ...]
    action: ActionTerm
    control_dt_s: Seconds
    goal: GoalSpec | None = None
    trained_delay_s: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest delay between observation and effect that training has seen."""
    trained_ranges: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    """Other quantities that training has varied, with the range, by name with unit: ``friction_nm``."""

    def __post_init__(self) -> None:
        if not self.observation:
            raise ValueError("the interface has no observation terms")
        _require_distinct("observation", [term.name for term in self.observation])
        for name, (low, high) in {"delay_s": self.trained_delay_s, **self.trained_ranges}.items():
            if not low <= high:
                raise ValueError(f"trained range of {name} is inverted: {low} to {high}")

    @property
    def obs_dim(self) -> int:
        """Entries of the observation vector."""
        return sum(term.size for term in self.observation)


class SamplerSpec(Record, frozen=True, kw_only=True):
    """How actions are drawn and chosen inside the graph."""

    num_particles: Count
    """Particles to draw unless the caller asks for another number: the axis is dynamic."""
    num_components: Count
    """Components of the policy's mixture; particle k is drawn from component k mod num_components."""
    noise_dim: Count
    """Last axis of the ``noise`` input, standard normal: (1 + refinement_steps) * action size."""
    refinement_steps: Annotated[int, msgspec.Meta(ge=0)]
    """Langevin steps on the critic's action gradient that every particle takes inside the graph."""
    step_size: Annotated[float, msgspec.Meta(ge=0)]
    """η of a refinement step, u += η v + sqrt(2 η τ) ξ, before the tanh; 0 without refinement."""
    temperature: Annotated[float, msgspec.Meta(gt=0)]
    """τ of the Gibbs policy, which also scales the refinement's diffusion."""
    choice: Literal["best"] = "best"
    """The chosen action is the particle with the highest critic value."""


class Provenance(Record, frozen=True, kw_only=True):
    """Where the policy comes from."""

    env_id: str
    seed: int
    env_steps: int
    git_commit: str | None
    packages: dict[str, str]
    config_sha256: str
    licence: str | None = None
    """Terms under which the policy may be used, as an SPDX identifier."""


class GoldenVectors(Record, frozen=True, kw_only=True):
    """Inputs with the outputs that the graph must give for them; float32 values, exactly."""

    obs: tuple[Row, ...]
    noise: tuple[tuple[Row, ...], ...]
    particles: tuple[tuple[Row, ...], ...]
    values: tuple[Row, ...]
    action: tuple[Row, ...]
    spread: Row
    tolerance: Annotated[float, msgspec.Meta(gt=0)]
    """Largest absolute difference that another build of the runtime may show, relative to 1 + |value|."""


class Contract(Record, frozen=True, kw_only=True):
    """The whole agreement, as stored in the artefact."""

    version: int
    interface: PolicyInterface
    sampler: SamplerSpec
    provenance: Provenance
    golden: GoldenVectors
    normaliser: Literal["inside the graph"] = "inside the graph"
    """Inputs are raw values in the units above: normalisation is part of the graph."""

    def __post_init__(self) -> None:
        size, spec, golden = self.interface.action.size, self.sampler, self.golden
        steps = 1 + spec.refinement_steps
        if spec.noise_dim != steps * size:
            raise ValueError(f"sampler: expected noise_dim {steps} * {size}, found {spec.noise_dim}")
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
        }.items():
            if not _has_shape(getattr(golden, name), shape):
                raise ValueError(f"golden vectors: {name}: expected shape {shape}")


def encode_contract(contract: Contract) -> str:
    """Contract as JSON; floats keep every bit."""
    return msgspec.json.encode(contract, enc_hook=_plain).decode()


def decode_contract(text: str) -> Contract:
    """Contract from JSON, strictly.

    Raises:
        ContractError: another version, or a field that is missing, unknown, of another type or out of range.
    """
    try:
        version = msgspec.json.decode(text, type=_VersionOnly).version
    except msgspec.MsgspecError as error:
        raise ContractError(f"the contract has no readable version: {error}") from error
    if version != CONTRACT_VERSION:
        raise ContractError(
            f"contract version {version} found, this wpg reads version {CONTRACT_VERSION}: "
            f"{'update wpg' if version > CONTRACT_VERSION else 'export the policy again'}"
        )
    try:
        return msgspec.json.decode(text, type=Contract)
    except msgspec.MsgspecError as error:
        raise ContractError(f"the contract does not hold together: {error}") from error


def _plain(value: Any) -> Any:
    """Value of a builtin type for numpy's scalars and for subclasses such as torch's version string."""
    if isinstance(value, np.generic):
        return value.item()
    for builtin in (str, int, float):
        if isinstance(value, builtin):
            return builtin(value)
    raise TypeError(f"a contract cannot hold {value!r} of type {type(value).__name__}")


def contract_schema() -> dict[str, Any]:
    """The contract's JSON schema, draft 2020-12."""
    return msgspec.json.schema(Contract)


class _VersionOnly(msgspec.Struct):
    version: int


def _require_distinct(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what} names must be distinct, found {', '.join(repeated)} more than once")


def _has_shape(rows: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(rows, tuple)
    return isinstance(rows, tuple) and len(rows) == shape[0] and all(_has_shape(r, shape[1:]) for r in rows)


def float_rows(values: "np.typing.NDArray[np.float32]") -> tuple[Row, ...]:
    """(N, D) float32 array as exact rows for :class:`GoldenVectors`."""
    return tuple(tuple(row) for row in values.astype(np.float64).tolist())
