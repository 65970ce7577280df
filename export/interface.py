"""Interface of a policy, declared by its environment: robot, observations, actions and goals."""

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import SerialChain, Vector3, require_unit
from wpg.export.record import Record, require_finite

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Row = tuple[float, ...]
ROOM_SHARE = 0.4
"""Largest minimum distance of goals, as a share of the box's diagonal. The corners are half a diagonal from
the middle, so that a goal far enough away exists wherever the arm stands."""

ObservationSource = Literal[
    "joint_pos",
    "joint_vel",
    "joint_torque",
    "joint_target",
    "tool_pos",
    "tool_target",
    "gripper",
    "goal",
    "external",
    "environment",
]
ActionMode = Literal[
    "joint_position_delta",
    "joint_position",
    "tool_position_delta",
    "joint_velocity",
    "joint_torque",
    "environment",
]


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
    joints: Annotated[tuple[JointSpec, ...], msgspec.Meta(min_length=1)]
    kinematics: SerialChain

    def __post_init__(self) -> None:
        _require_distinct("joint", [joint.name for joint in self.joints])
        if len(self.joints) != len(self.kinematics.joints):
            raise ValueError(
                f"robot {self.name} has {len(self.joints)} joints, but its kinematics "
                f"{len(self.kinematics.joints)}"
            )


class ObservationTerm(Record, frozen=True, kw_only=True):
    """Consecutive entries of the observation vector."""

    name: str
    size: Count
    source: ObservationSource
    unit: str = ""
    scale: float = 1.0
    """The source's value is multiplied by this before it is clipped."""
    clip: tuple[float, float] | None = None
    history: Count = 1
    """Number of successive values in this term, newest first; ``size`` counts all of them."""

    def __post_init__(self) -> None:
        if self.size % self.history:
            raise ValueError(
                f"observation {self.name}: size {self.size} is no multiple of its history {self.history}"
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"observation {self.name}: clip {self.clip} is no interval")


class ToolControl(Record, frozen=True, kw_only=True):
    """How the joints follow when actions move the tool."""

    axis: Vector3
    """Unit vector in the tool's frame; its direction in the base frame is kept as far as the joints allow."""
    posture_rad: Row
    """Posture to which the joints return as far as the tool's motion allows; it sets the axis's direction."""
    low_m: Vector3
    high_m: Vector3
    """Corners of the box in the base frame that limits the tool's targets."""

    def __post_init__(self) -> None:
        require_unit(self.axis)
        if not all(low < high for low, high in zip(self.low_m, self.high_m, strict=True)):
            raise ValueError(f"tool's box is inverted: low {self.low_m}, high {self.high_m}")


class ActionTerm(Record, frozen=True, kw_only=True):
    """What the graph's ``action`` output means."""

    mode: ActionMode
    size: Count
    unit: str
    scale: Row
    """The policy acts in [-1, 1]; the graph's output is ``offset + scale * a``, in ``unit``."""
    offset: Row
    delta_from: Literal["measured", "target"] = "measured"
    """Where a delta starts: at the measured position, or at the target of the step before.

    The target is for arms that answer late: their measured position lags behind, and targets near it would
    slow the arm down.
    """
    tool: ToolControl | None = None
    """Set for ``tool_position_delta``, whose actions are (3,) m of tool motion in the base frame."""

    @property
    def low(self) -> Row:
        """Smallest output the graph can give, per dimension."""
        return tuple(o - abs(s) for o, s in zip(self.offset, self.scale, strict=True))

    @property
    def high(self) -> Row:
        """Largest output the graph can give, per dimension."""
        return tuple(o + abs(s) for o, s in zip(self.offset, self.scale, strict=True))

    @property
    def moves_tool(self) -> bool:
        """Whether actions move the tool, so that joint targets follow by inverse kinematics."""
        return self.mode == "tool_position_delta"

    def normalise(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Outputs (..., A) of the graph as actions in [-1, 1]; 0 in dimensions whose scale is 0."""
        scale = np.array(self.scale, np.float32)
        actions: NDArray[np.floating] = values - np.array(self.offset, np.float32)
        np.divide(actions, scale, out=actions, where=scale != 0)
        actions[..., scale == 0] = 0
        return actions

    def __post_init__(self) -> None:
        if not len(self.scale) == len(self.offset) == self.size:
            raise ValueError(
                f"action has size {self.size}, but {len(self.scale)} scales and {len(self.offset)} offsets"
            )
        if self.moves_tool != (self.tool is not None):
            raise ValueError(f"action mode {self.mode}: tool control goes with tool_position_delta alone")


class GoalSpec(Record, frozen=True, kw_only=True):
    """The box that goals are drawn from, and when a goal counts as reached."""

    achieved: str
    """What must reach the goal: ``tool_pos``, or the name of an observation term from outside the robot."""
    low: Row
    """Lower corner of the box that goals are drawn from. An object that must reach them starts in it, too."""
    high: Row
    tolerance_m: Annotated[float, msgspec.Meta(gt=0)]
    distance_min_m: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """A new goal is at least this far from the tool or object that must reach it."""
    start_spread_rad: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Largest distance of a joint from the robot's home, or from the posture of tool control, at the start of
    a training episode; None if episodes started anywhere."""
    start_clearance_m: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Smallest horizontal distance from tool to object at the start of a training episode; None if any."""
    given: bool = False
    """Whether goals must be given, because they are where something stands, such as a hole."""
    horizon_steps: Count
    """Policy steps per goal; the goal is reached if the last of them ends within the tolerance."""

    @property
    def object_term(self) -> str | None:
        """Name of the observation term that must reach the goal; None where the tool must."""
        return None if self.achieved == "tool_pos" else self.achieved

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(
            lo > hi for lo, hi in zip(self.low, self.high, strict=False)
        ):
            raise ValueError(f"goal box is inverted or ragged: low {self.low}, high {self.high}")
        if self.distance_min_m > ROOM_SHARE * math.dist(self.low, self.high):
            raise ValueError(
                f"goal box is too small for goals at least {self.distance_min_m} m away: "
                f"low {self.low}, high {self.high}"
            )


class PolicyInterface(Record, frozen=True, kw_only=True):
    """Everything about a task that the deployed policy relies on; an environment declares it."""

    robot: RobotSpec | None = None
    """None for an environment that models no robot; such an artifact cannot run on a robot."""
    observation: tuple[ObservationTerm, ...]
    action: ActionTerm
    control_dt_s: Seconds
    goal: GoalSpec | None = None
    trained_delay_s: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest delay between observation and effect in training."""
    trained_ranges: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    """Ranges of other quantities that varied in training, by name with unit, such as ``friction_nm``."""

    def __post_init__(self) -> None:
        require_finite(self)
        if not self.observation:
            raise ValueError("the interface has no observation terms")
        _require_distinct("observation", [term.name for term in self.observation])
        if self.goal is not None:
            term, size = self.goal.object_term, len(self.goal.low)
            if term is None and size != 3:
                raise ValueError(f"goal: expected 3 numbers for tool_pos, found {size}")
            if term is not None and self.external.get(term) != size:
                raise ValueError(
                    f"goal is compared with {term}: expected tool_pos, or a term from outside of {size} "
                    f"numbers, found {', '.join(self.external) or 'none'}"
                )
        if self.trained_delay_s[0] < 0:
            raise ValueError(f"trained_delay_s: expected at least 0, found {self.trained_delay_s}")
        for name, (low, high) in {"delay_s": self.trained_delay_s, **self.trained_ranges}.items():
            if not low <= high:
                raise ValueError(f"trained range of {name} is inverted: {low} to {high}")

    @property
    def external(self) -> dict[str, int]:
        """Sizes, without history, of the observation terms that come from outside the robot, by name."""
        return {
            term.name: term.size // term.history for term in self.observation if term.source == "external"
        }

    @property
    def obs_dim(self) -> int:
        """Entries of the observation vector."""
        return sum(term.size for term in self.observation)


def _require_distinct(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what} names must be distinct, found {', '.join(repeated)} more than once")
