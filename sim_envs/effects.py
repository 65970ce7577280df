"""Differences between a real arm and its model: delays, friction, gains, noise; read from ``actuators.toml``.

Every field is a number, a pair ``[low, high]`` for a uniform distribution, or a table
``{ low = 0.5, high = 2.0, kind = "log_uniform" }``. Fields of joints are drawn for each joint separately;
``[joints.NAME]`` sets them for single joints. A field that is left out has no effect::

    action_delay_s = [0.0, 0.03]
    joint_pos_noise_rad = 0.001
    coulomb_friction_nm = 0.4

    [joints.panda_joint7]
    coulomb_friction_nm = 0.1
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from wpg.export.record import Record
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.errors import EffectsError


class Spread(Record, frozen=True, kw_only=True):
    """A range of values and the distribution on it."""

    low: float
    high: float
    kind: Literal["uniform", "log_uniform", "normal"] = "uniform"
    """The distribution; ``normal`` is clipped to the range, and its standard deviation is half the distance
    from the mean to the farther end."""
    mean: float | None = None
    """Mean of a normal distribution; None: the middle of the range."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"expected finite ends, found {self.low} to {self.high}")
        if self.low > self.high:
            raise ValueError(f"expected low <= high, found {self.low} > {self.high}")
        if self.kind == "log_uniform" and self.low <= 0.0:
            raise ValueError(f"log_uniform: expected low > 0, found {self.low}")
        if self.mean is not None and self.kind != "normal":
            raise ValueError(f"mean: expected kind normal, found {self.kind}")
        if self.mean is not None and not self.low <= self.mean <= self.high:
            raise ValueError(f"mean: expected {self.low} to {self.high}, found {self.mean}")

    def draw(self, rng: np.random.Generator, size: int) -> Vector:
        """Draw values, (size,)."""
        if self.low == self.high:
            return np.full(size, self.low)
        if self.kind == "log_uniform":
            return np.exp(rng.uniform(math.log(self.low), math.log(self.high), size))
        if self.kind == "normal":
            if self.mean is None:
                mean, deviation = (self.low + self.high) / 2, (self.high - self.low) / 4
            else:
                mean, deviation = self.mean, max(self.mean - self.low, self.high - self.mean) / 2
            return np.clip(rng.normal(mean, deviation, size), self.low, self.high)
        return rng.uniform(self.low, self.high, size)


Value = float | tuple[float, float] | Spread
_AT_LEAST_ZERO = (0.0, math.inf)
_BOUNDS: dict[str, tuple[float, float]] = {
    "action_delay_s": (0.0, 1.0),
    "observation_delay_s": (0.0, 1.0),
    "lag_s": (0.0, 1.0),
    "payload_kg": (0.0, 500.0),
    "joint_pos_noise_rad": (0.0, math.pi),
    "dropped_commands": (0.0, 0.99),
    "table_height_m": (-0.5, 0.5),
    "joint_pos_offset_rad": (-math.pi, math.pi),
    "gravity_tilt_x_rad": (-math.pi / 2, math.pi / 2),
    "gravity_tilt_y_rad": (-math.pi / 2, math.pi / 2),
    "stiffness_factor": (0.01, 100.0),
    "damping_factor": (0.01, 100.0),
    "torque_limit_factor": (0.01, 100.0),
    "mass_factor": (0.01, 100.0),
    "inertia_factor": (0.01, 100.0),
    "object_mass_factor": (0.01, 100.0),
}
"""Smallest and largest value of each field; fields that are not listed have no upper bound and start at 0."""


def spread_of(value: Value) -> Spread:
    """The range that a field in any of its three forms stands for."""
    if isinstance(value, Spread):
        return value
    low, high = value if isinstance(value, tuple) else (value, value)
    return Spread(low=low, high=high)


class JointEffects(Record, frozen=True, kw_only=True):
    """Effects of single joints; a field that is None has no effect."""

    lag_s: Value | None = None
    """Time constant of the first-order lag from setpoint to servo."""
    coulomb_friction_nm: Value | None = None
    """Dry friction; constant at speeds above :data:`~wpg.sim_envs.engines.actuator.STICTION_RAD_S`."""
    viscous_friction_nm_s_rad: Value | None = None
    stiffness_factor: Value | None = None
    """Factor on the description's position gain."""
    damping_factor: Value | None = None
    """Factor on the description's velocity gain."""
    torque_limit_factor: Value | None = None
    """Factor on the description's torque limit."""
    armature_kg_m2: Value | None = None
    """Inertia of the motor, reflected to the joint."""
    joint_pos_offset_rad: Value | None = None
    """Error of the encoder's zero, added to measured positions."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            try:
                spread = spread_of(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            low, high = _BOUNDS.get(name, _AT_LEAST_ZERO)
            if not low <= spread.low <= spread.high <= high:
                wanted = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
                found = spread.low if spread.low < low else spread.high
                raise ValueError(f"{name}: expected {wanted}, found {found:g}")

    def given(self) -> dict[str, Value]:
        """The fields that are set, by name."""
        values = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _NO_VALUES}
        return {name: value for name, value in values.items() if value is not None}


class Effects(JointEffects, frozen=True, kw_only=True):
    """Effects on the whole arm and its surroundings, as ranges from which an arm is drawn."""

    robot: str | None = None
    """Name of the robot on which they were measured; None: any robot."""
    joints: dict[str, JointEffects] = msgspec.field(default_factory=dict)
    """Effects of single joints, by name; they take precedence over those for all joints."""
    action_delay_s: Value | None = None
    """Time from sending a setpoint to its effect."""
    observation_delay_s: Value | None = None
    """Time from a measurement, of joints or of an object, to its arrival."""
    dropped_commands: Value | None = None
    """Probability that a setpoint is lost; the servo then keeps the one before."""
    friction_factor: Value | None = None
    """Factor on both kinds of friction of all joints."""
    mass_factor: Value | None = None
    """Factor on every link's mass and inertia; gravity compensation does not take it into account."""
    inertia_factor: Value | None = None
    """Further factor on every link's inertia about its centre."""
    payload_kg: Value | None = None
    """Mass at the tool; gravity compensation does not take it into account."""
    joint_pos_noise_rad: Value | None = None
    """Standard deviation of measured positions."""
    joint_vel_noise_rad_s: Value | None = None
    """Standard deviation of measured velocities."""
    joint_torque_noise_nm: Value | None = None
    """Standard deviation of measured torques."""
    joint_pos_resolution_rad: Value | None = None
    """Resolution to which measured positions are rounded."""
    joint_vel_resolution_rad_s: Value | None = None
    """Resolution to which measured velocities are rounded."""
    object_mass_factor: Value | None = None
    object_friction_factor: Value | None = None
    """Factor on the sliding friction of objects on table and arm."""
    table_height_m: Value | None = None
    gravity_tilt_x_rad: Value | None = None
    """Rotation of the base about x from upright; gravity compensation does not take it into account."""
    gravity_tilt_y_rad: Value | None = None
    """The same about y."""

    def check(self, description: RobotDescription) -> None:
        """Check that these effects fit a robot.

        Raises:
            ValueError: they belong to another robot, or name a joint that it does not have.
        """
        if self.robot not in (None, description.name):
            raise ValueError(
                f"robot: expected {description.name}, found {self.robot} (give --robot {self.robot})"
            )
        for name in self.joints:
            if name not in description.joint_names:
                raise ValueError(
                    f"joints: expected some of {', '.join(description.joint_names)}, found {name}"
                )

    def draw(self, rng: np.random.Generator, description: RobotDescription) -> "DrawnEffects":
        """Draw one arm from the ranges."""
        drawn: dict[str, float | Vector] = {}
        own = [self.joints.get(name, JointEffects()).given() for name in description.joint_names]
        for name, value in self.given().items():
            if name not in JOINT_FIELDS:
                drawn[name] = float(spread_of(value).draw(rng, 1)[0])
        for name in JOINT_FIELDS:
            common = self.given().get(name, _neutral(name))
            values = [spread_of(one.get(name, common)).draw(rng, 1)[0] for one in own]
            drawn[name] = np.array(values)
        return DrawnEffects(**drawn)  # type: ignore[arg-type]

    def delay_range_s(self) -> tuple[float, float]:
        """Shortest and longest sum of both delays."""
        parts = [spread_of(value or 0.0) for value in (self.action_delay_s, self.observation_delay_s)]
        return sum(part.low for part in parts), sum(part.high for part in parts)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Range of every field except the delays; fields of single joints are named ``joint.field``."""
        named = {name: value for name, value in self.given().items() if not name.endswith("_delay_s")}
        for joint, effects in self.joints.items():
            named |= {f"{joint}.{name}": value for name, value in effects.given().items()}
        spreads = {name: spread_of(value) for name, value in named.items()}
        return {name: (spread.low, spread.high) for name, spread in spreads.items()}


EffectsSource = Effects | Mapping[str, Any] | str | Path | None
"""Effects, or the content or path of an ``actuators.toml``."""

_NO_VALUES = ("robot", "joints")
JOINT_FIELDS = JointEffects.__struct_fields__


def _neutral(name: str) -> float:
    return 1.0 if name.endswith("_factor") else 0.0


class DrawnEffects(msgspec.Struct, frozen=True, kw_only=True):
    """The effects of one episode; fields as in :class:`Effects`, those of joints (num_joints,)."""

    lag_s: Vector
    coulomb_friction_nm: Vector
    viscous_friction_nm_s_rad: Vector
    stiffness_factor: Vector
    damping_factor: Vector
    torque_limit_factor: Vector
    armature_kg_m2: Vector
    joint_pos_offset_rad: Vector
    action_delay_s: float = 0.0
    observation_delay_s: float = 0.0
    dropped_commands: float = 0.0
    friction_factor: float = 1.0
    mass_factor: float = 1.0
    inertia_factor: float = 1.0
    payload_kg: float = 0.0
    joint_pos_noise_rad: float = 0.0
    joint_vel_noise_rad_s: float = 0.0
    joint_torque_noise_nm: float = 0.0
    joint_pos_resolution_rad: float = 0.0
    joint_vel_resolution_rad_s: float = 0.0
    object_mass_factor: float = 1.0
    object_friction_factor: float = 1.0
    table_height_m: float = 0.0
    gravity_tilt_x_rad: float = 0.0
    gravity_tilt_y_rad: float = 0.0

    def gravity_m_s2(self, standard: float) -> Vector:
        """Gravity in the frame of the tilted base, (3,); ``standard`` is its magnitude."""
        x, y = self.gravity_tilt_x_rad, self.gravity_tilt_y_rad
        upright = np.array([-math.sin(y), math.sin(x) * math.cos(y), math.cos(x) * math.cos(y)])
        return -standard * upright


def load_effects(effects: EffectsSource, description: RobotDescription) -> Effects | None:
    """Load effects from a file or its content, or take them as they are, and check them against the robot.

    Raises:
        EffectsError: the effects cannot be read or are invalid; names file, field, expected and found.
    """
    origin = str(effects) if isinstance(effects, (str, Path)) else "effects"
    try:
        if isinstance(effects, (str, Path)):
            effects = msgspec.toml.decode(Path(effects).read_text(), type=Effects)
        elif isinstance(effects, Mapping):
            effects = msgspec.convert(effects, Effects)
        if effects is not None:
            effects.check(description)
    except OSError as error:
        raise EffectsError(f"{origin}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise EffectsError(f"{origin}: {error}") from error
    return effects


def effects_toml(effects: Effects) -> str:
    """Write effects as the text of an ``actuators.toml``; :func:`load_effects` reads back the same."""
    lines = [] if effects.robot is None else [f"robot = {_toml_string(effects.robot)}"]
    lines += _toml_lines(effects)
    for joint, own in effects.joints.items():
        lines += ["", f"[joints.{_toml_string(joint)}]", *_toml_lines(own)]
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    """Quote a string as JSON does; TOML has no surrogate pairs, so non-ASCII characters stay as they are."""
    return json.dumps(text, ensure_ascii=False)


def _toml_lines(effects: JointEffects) -> list[str]:
    lines = []
    for name, value in effects.given().items():
        if isinstance(value, Spread):
            mean = "" if value.mean is None else f", mean = {value.mean!r}"
            text = f'{{ low = {value.low!r}, high = {value.high!r}, kind = "{value.kind}"{mean} }}'
        else:
            text = repr(list(value) if isinstance(value, tuple) else float(value))
        lines.append(f"{name} = {text}")
    return lines
