"""What identification looks for: quantities of the whole arm and of single joints, as one vector."""

from dataclasses import dataclass

import msgspec
import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects, Effects
from wpg.sim_envs.urdf import simulation_model


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number that is looked for."""

    field: str
    """As :class:`~wpg.sim_envs.effects.Effects` names it."""
    joint: int | None
    """None: of the whole arm."""
    neutral: float
    """Where it has no effect."""
    low: float
    high: float
    start: float
    probe: float
    """Step of finite differences."""
    resolution: float
    """Half width of an interval that is wider than half the value and than this says nothing."""


def all_parameters(description: RobotDescription, joints: list[int]) -> list[Parameter]:
    """The whole arm's, then field by field those of ``joints``."""
    model = simulation_model(description)
    torque = description.limits("torque_max_nm")
    damping = np.array(model.damping_nm_s_rad)
    kilograms = float(torque.max()) / 20.0  # about what the strongest joint holds half a metre out, twice

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
        )

    found = [one("action_delay_s", None, 0.5, 0.01), one("payload_kg", None, kilograms, 0.1 * kilograms)]
    found += [one("lag_s", j, 0.5, 0.01) for j in joints]
    found += [one("coulomb_friction_nm", j, torque[j], 0.02 * torque[j]) for j in joints]
    found += [one("viscous_friction_nm_s_rad", j, damping[j], 0.05 * damping[j]) for j in joints]
    found += [one("stiffness_factor", j, 10.0, 0.25, low=0.1, neutral=1.0) for j in joints]
    found += [one("damping_factor", j, 10.0, 0.25, low=0.1, neutral=1.0) for j in joints]
    found += [one("joint_pos_offset_rad", j, 0.2, 0.01, low=-0.2) for j in joints]
    return found


def drawn_effects(description: RobotDescription, parameters: list[Parameter], theta: Vector) -> DrawnEffects:
    """The arm with these parameters; ``theta`` (len(parameters),)."""
    drawn = Effects().draw(np.random.default_rng(0), description)
    changed: dict[str, float | Vector] = {}
    for parameter, value in zip(parameters, theta.tolist(), strict=True):
        if parameter.joint is None:
            changed[parameter.field] = value
        else:
            row = changed.setdefault(parameter.field, getattr(drawn, parameter.field).copy())
            assert isinstance(row, np.ndarray)
            row[parameter.joint] = value
    return msgspec.structs.replace(drawn, **changed)
