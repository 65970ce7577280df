"""The parameters to identify: quantities of the whole arm and of single joints, as one vector."""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects, Effects
from wpg.sim_envs.models.urdf import simulation_model


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number to identify."""

    field: str
    """Name of the field in :class:`~wpg.sim_envs.effects.Effects`."""
    joint: int | None
    """Index of the joint; None: the whole arm."""
    neutral: float
    """Value that has no effect."""
    low: float
    """Lower bound of the encoded value."""
    high: float
    """Upper bound of the encoded value."""
    start: float
    """Encoded value at which the search begins."""
    probe: float
    """Finite-difference step of the encoded value."""
    resolution: float
    """An interval wider than this to a side says nothing, unless it is narrower than half the value."""
    lag_step_s: float = 0.0
    """The physics step h if this is a lag, else 0. A lag is encoded as the time by which it delays slow
    motion, ``h u / (1 − u)`` with ``u = exp(−h / lag)``, because this time and the delay add up almost
    linearly."""

    def encode(self, value: float) -> float:
        """Encode a value of the field for the search."""
        if not self.lag_step_s or value <= 0.0:
            return value
        return self.lag_step_s / math.expm1(self.lag_step_s / value)

    def decode(self, sought: float) -> float:
        """Decode an encoded value to a value of the field."""
        if not self.lag_step_s or sought <= 0.0:
            return sought
        return self.lag_step_s / math.log1p(self.lag_step_s / sought)

    def needed(self, sought: float) -> float:
        """Half width of the encoded value's interval above which it says nothing."""
        value = self.decode(sought)
        wide = self.resolution if self.neutral == 1.0 else max(abs(value) / 2.0, self.resolution)
        return self.encode(value + wide) - self.encode(value)


def all_parameters(description: RobotDescription, joints: list[int]) -> list[Parameter]:
    """Parameters of the whole arm, then field by field those of ``joints``."""
    model = simulation_model(description)
    torque = description.limits("torque_max_nm")
    damping = np.array(model.damping_nm_s_rad)
    strongest = float(torque.max())  # in kg, a tenth of it is what the joint holds at a distance of 1 m

    def one(
        field: str,
        joint: int | None,
        high: float,
        resolution: float,
        *,
        low: float = 0.0,
        neutral: float = 0.0,
    ) -> Parameter:
        start = neutral if low < neutral else neutral + 0.1 * resolution
        return Parameter(
            field=field,
            joint=joint,
            neutral=neutral,
            low=low,
            high=high,
            start=start,
            probe=0.02 * resolution,
            resolution=resolution,
            lag_step_s=model.step_s if field == "lag_s" else 0.0,
        )

    found = [one("action_delay_s", None, 0.5, 0.01), one("payload_kg", None, strongest, strongest / 200.0)]
    found += [one("lag_s", j, 0.5, 0.01) for j in joints]
    found += [one("coulomb_friction_nm", j, torque[j], 0.02 * torque[j]) for j in joints]
    found += [one("viscous_friction_nm_s_rad", j, damping[j], 0.05 * damping[j]) for j in joints]
    found += [one("stiffness_factor", j, 10.0, 0.25, low=0.1, neutral=1.0) for j in joints]
    found += [one("damping_factor", j, 10.0, 0.25, low=0.1, neutral=1.0) for j in joints]
    found += [one("joint_pos_offset_rad", j, 0.2, 0.01, low=-0.2) for j in joints]
    return found


def drawn_effects(description: RobotDescription, parameters: list[Parameter], theta: Vector) -> DrawnEffects:
    """Effects with these parameters; ``theta`` holds their encoded values, (len(parameters),)."""
    drawn = Effects().draw(np.random.default_rng(0), description)
    changed: dict[str, float | Vector] = {}
    for parameter, sought in zip(parameters, theta.tolist(), strict=True):
        value = parameter.decode(sought)
        if parameter.joint is None:
            changed[parameter.field] = value
        else:
            row = changed.setdefault(parameter.field, getattr(drawn, parameter.field).copy())
            assert isinstance(row, np.ndarray)
            row[parameter.joint] = value
    return msgspec.structs.replace(drawn, **changed)
