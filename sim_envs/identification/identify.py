"""Identifies an arm from a recording: fits its parameters and tests them on data that were not fitted."""

from dataclasses import dataclass

import numpy as np

from wpg.export.record import Record
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import Effects, JointEffects, Spread, Value
from wpg.sim_envs.identification.fitting import SETTLING_S, Fit, fit
from wpg.sim_envs.identification.parameters import drawn_effects
from wpg.sim_envs.identification.recording import Recording
from wpg.sim_envs.identification.replay import Replayer

FIT_SHARE = 0.7
"""Share of the recording, from its start, that is fitted; the rest tests the fit."""


class Quantity(Record, frozen=True, kw_only=True):
    """One identified number."""

    field: str
    """Name of the field in ``actuators.toml``, with its unit."""
    joint: str | None
    """Name of the joint; None: the whole arm."""
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""


class JointError(Record, frozen=True, kw_only=True):
    """Errors of a joint's simulated position on held-out data, with and without the fitted effects."""

    joint: str
    fitted_mae_rad: float
    fitted_rmse_rad: float
    unfitted_mae_rad: float
    unfitted_rmse_rad: float


class Identification(Record, frozen=True, kw_only=True):
    """Result of an identification; ``wpg identify --json`` writes it as JSON."""

    robot: str
    fit_s: float
    """Duration of the fitted data."""
    held_out_s: float
    """Duration of the data that tested the fit."""
    has_torque: bool
    """Whether measured torques were used."""
    quantities: list[Quantity]
    unknown: dict[str, list[str]]
    """Fields that could not be determined, with the joints concerned; an empty list stands for the whole
    arm."""
    noise: dict[str, float]
    """Standard deviation of the measurement noise, by field of ``actuators.toml``."""
    errors: list[JointError]
    """Errors of every joint on held-out data."""

    @property
    def effects(self) -> Effects:
        """Effects for training: normal distributions around the fitted values, as wide as their intervals."""
        common: dict[str, Value] = {name: value for name, value in self.noise.items() if value > 0.0}
        joints: dict[str, dict[str, Value]] = {}
        for quantity in self.quantities:
            mean = min(max(quantity.value, quantity.low), quantity.high)
            spread = Spread(low=quantity.low, high=quantity.high, kind="normal", mean=mean)
            own = common if quantity.joint is None else joints.setdefault(quantity.joint, {})
            own[quantity.field] = spread
        return Effects(
            robot=self.robot,
            joints={joint: JointEffects(**fields) for joint, fields in joints.items()},
            **common,
        )

    def mae_rad(self, which: str) -> float:
        """Mean absolute error of the ``fitted`` or ``unfitted`` simulator on held-out data, all joints."""
        return float(np.mean([getattr(error, f"{which}_mae_rad") for error in self.errors]))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Measured and simulated positions on held-out data, (T, num_joints) rad each."""

    time_s: Vector
    """Times of the rows, (T,)."""
    command: Vector
    measured: Vector
    fitted: Vector
    unfitted: Vector


def identify(
    description: RobotDescription, recording: Recording, *, num_workers: int | None = None
) -> tuple[Identification, Comparison]:
    """Fit the first part of a recording, and compare the fitted and the unfitted simulator with the rest.

    Raises:
        IdentificationError: the recording determines no parameter.
    """
    boundary = int(np.searchsorted(recording.time_s, FIT_SHARE * recording.time_s[-1]))
    found = fit(description, recording.part(slice(0, boundary)), num_workers=num_workers)
    comparison = _compare(description, recording, found, boundary)
    identification = Identification(
        robot=description.name,
        fit_s=float(recording.time_s[boundary]),
        held_out_s=float(recording.time_s[-1] - recording.time_s[boundary]),
        has_torque=recording.has_torque,
        quantities=[
            Quantity(
                field=estimate.parameter.field,
                joint=None
                if estimate.parameter.joint is None
                else description.joint_names[estimate.parameter.joint],
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
            )
            for estimate in found.estimates
        ],
        unknown=found.unknown,
        noise=found.noise,
        errors=_errors(description, comparison),
    )
    return identification, comparison


def _compare(description: RobotDescription, recording: Recording, found: Fit, boundary: int) -> Comparison:
    """Replay the whole recording in both simulators, so that they enter the held-out part as the arm did."""
    replayer = Replayer(description)
    try:
        fitted = replayer.replay(recording, found.effects)
        unfitted = replayer.replay(recording, drawn_effects(description, [], np.empty(0)))
    finally:
        replayer.close()
    rows = np.flatnonzero(recording.fresh & (recording.time_s >= SETTLING_S))
    rows = rows[rows >= boundary]
    return Comparison(
        time_s=recording.time_s[rows],
        command=recording.command_pos[rows],
        measured=recording.joint_pos[rows],
        fitted=fitted.joint_pos[rows],
        unfitted=unfitted.joint_pos[rows],
    )


def _errors(description: RobotDescription, comparison: Comparison) -> list[JointError]:
    differences = {name: getattr(comparison, name) - comparison.measured for name in ("fitted", "unfitted")}
    scores = {}
    for name, difference in differences.items():
        scores[f"{name}_mae_rad"] = np.abs(difference).mean(axis=0)
        scores[f"{name}_rmse_rad"] = np.sqrt((difference**2).mean(axis=0))
    return [
        JointError(joint=joint, **{name: float(row[index]) for name, row in scores.items()})
        for index, joint in enumerate(description.joint_names)
    ]
