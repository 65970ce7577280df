"""Delay, lag, gains, friction, payload and offsets of an arm, from what it did with its commands.

Nonlinear least squares between a recording and its replay in the simulator, in measured positions and, where
the robot measures them, in torques::

    min_θ  Σ_t Σ_j  ((q_tj − q̂_tj(θ)) / σ_qj)² + ((τ_tj − τ̂_tj(θ)) / σ_τj)²

σ are the residuals' own, from a first pass. θ are fields of :class:`~wpg.sim_envs.effects.Effects`, and the
replay runs them through the code that training runs, so they mean the same there. The servos hold the joints
apart: a joint's own parameters are taken to move its own measurements only, so that one simulation shows one
field's effect on all joints.

Intervals come from the sandwich estimator over blocks of time, which allows for residuals that hang together
(Liang and Zeger, Biometrika 1986), and are at least as wide as least squares with independent residuals has
them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.actuator_parameters import Parameter, all_parameters, drawn_effects
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.errors import IdentificationError
from wpg.sim_envs.recording import Recording
from wpg.sim_envs.replay import Motion, ReplayPool

SETTLING_S = 1.0
"""What a recording began in the middle of has died away after this long."""
TRAVEL_MIN_RAD = 0.03
"""A joint that moves less is not looked at."""
BLOCK_S = 0.5
PASSES = (1e-2, 1e-4)
"""Relative change of the cost at which each ends."""
PARAMETERS_A_JOINT = 8
"""That move one joint's measurements: the freedom that they take from its residuals."""
DELAY_MAX_S = 0.4
POSITION_FLOOR_RAD, TORQUE_FLOOR_SHARE = 2e-6, 5e-4
"""Residuals are not believed to be smaller; torques: of the torque limit."""
FIRST_POSITION_RAD, FIRST_TORQUE_SHARE = 1e-3, 0.02
"""Residuals taken for the first pass."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A parameter as it was found."""

    parameter: Parameter
    value: float
    low: float
    """95 % interval."""
    high: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found in a recording."""

    estimates: list[Estimate]
    unknown: dict[str, list[str]]
    """Fields that could not be told, and the joints that they could not be told of; empty: the whole arm."""
    effects: DrawnEffects
    """The fitted arm."""
    noise: dict[str, float]
    """Standard deviation of the measurements' noise, by field of the effects."""


def fit(description: RobotDescription, recording: Recording, *, num_workers: int | None = None) -> Fit:
    """Find the parameters that explain a recording best.

    Raises:
        IdentificationError: no joint moves enough.
    """
    still = _still_joints(description, recording)
    moving = [index for index in range(description.num_joints) if index not in still]
    if not moving:
        raise IdentificationError(
            f"too little motion: expected a joint that moves by {TRAVEL_MIN_RAD:g} rad, found none"
        )
    parameters = all_parameters(description, moving)
    with ReplayPool(description, recording, num_workers) as pool:
        problem = _Problem(description, recording, pool)
        theta = problem.solve(parameters, problem.guess_delay(parameters))
        told = problem.half_widths(parameters, theta)[1]
        kept = [parameter for parameter, is_told in zip(parameters, told, strict=True) if is_told]
        if len(kept) < len(parameters):
            theta = problem.solve(kept, theta[told])
        half = problem.half_widths(kept, theta)[0]
        effects = drawn_effects(description, kept, theta)
        noise = problem.noise(pool.replay([effects])[0])
    estimates = [
        Estimate(
            parameter=parameter,
            value=value,
            low=max(value - width, parameter.low),
            high=min(value + width, parameter.high),
        )
        for parameter, value, width in zip(kept, theta.tolist(), half.tolist(), strict=True)
    ]
    return Fit(estimates=estimates, unknown=_unknown(description, kept), effects=effects, noise=noise)


class _Problem:
    """The least-squares problem of one recording."""

    def __init__(self, description: RobotDescription, recording: Recording, pool: ReplayPool) -> None:
        self._description = description
        self._recording = recording
        self._pool = pool
        self._rows = np.flatnonzero(recording.fresh & (recording.time_s >= SETTLING_S))
        self._blocks = np.unique((recording.time_s[self._rows] / BLOCK_S).astype(int), return_inverse=True)[1]
        torque_max = description.limits("torque_max_nm")
        self._channels = ("joint_pos", "joint_torque") if recording.has_torque else ("joint_pos",)
        self._sigma = np.stack(
            [np.full_like(torque_max, FIRST_POSITION_RAD), FIRST_TORQUE_SHARE * torque_max]
        )[: len(self._channels)]
        self._floor = np.stack(
            [np.full_like(torque_max, POSITION_FLOOR_RAD), TORQUE_FLOOR_SHARE * torque_max]
        )[: len(self._channels)]
        self._measured = self._observed(recording)
        self._last: tuple[bytes, NDArray[np.float64]] = (b"", np.empty(0))

    def guess_delay(self, parameters: list[Parameter]) -> Vector:
        """Where to start from: an arm without effects, shifted in time until it fits best."""
        start = np.array([parameter.start for parameter in parameters])
        time_s, measured = self._recording.time_s, self._recording.joint_pos
        moved = self._pool.replay([drawn_effects(self._description, parameters, start)])[0].joint_pos
        delays = np.arange(0.0, DELAY_MAX_S, 0.002)
        errors = [
            sum(
                np.square(np.interp(time_s - delay, time_s, moved[:, j]) - measured[:, j])[self._rows].sum()
                for j in range(measured.shape[1])
            )
            for delay in delays
        ]
        start[0] = max(start[0], delays[int(np.argmin(errors))])
        return start

    def solve(self, parameters: list[Parameter], start: Vector) -> Vector:
        """The parameters that fit best, weighed by the residuals that a first pass leaves."""
        for tolerance in PASSES:
            result = least_squares(
                partial(self._flat_residual, parameters),
                start,
                partial(self._jacobian, parameters),
                bounds=([p.low for p in parameters], [p.high for p in parameters]),
                x_scale=np.array([p.resolution for p in parameters]),
                xtol=1e-4,
                ftol=tolerance,
                max_nfev=15,
            )
            start = result.x
            residual = self._sigma * self._residual(parameters, start)
            self._sigma = np.maximum(np.sqrt((residual**2).mean(axis=0)), self._floor)
            self._last = (b"", np.empty(0))
        return start

    def half_widths(self, parameters: list[Parameter], theta: Vector) -> tuple[Vector, NDArray[np.bool_]]:
        """Half widths of the 95 % intervals, and which parameters can be told.

        The one that can be told worst is given up first and taken as known, until all others can be told.
        """
        jacobian = self._jacobian(parameters, theta)
        residual = self._residual(parameters, theta)
        information = jacobian.T @ jacobian
        scores = np.zeros((self._blocks[-1] + 1, len(parameters)))
        rows = np.repeat(self._blocks, residual[0].size)
        np.add.at(scores, rows, jacobian * residual.ravel()[:, None])
        needed = np.maximum(np.abs(theta) / 2.0, [p.resolution for p in parameters])
        needed = np.where([p.neutral == 1.0 for p in parameters], [p.resolution for p in parameters], needed)
        told = np.ones(len(parameters), bool)
        half = np.full(len(parameters), np.inf)
        while told.any():
            active = np.flatnonzero(told)
            half[active] = _half_widths(information[np.ix_(active, active)], scores[:, active])
            worst = active[int(np.argmax((half / needed)[active]))]
            if half[worst] <= needed[worst]:
                break
            told[worst] = False
        return half, told

    def noise(self, motion: Motion) -> dict[str, float]:
        """Of measured positions and velocities: what differs from one residual to the next."""
        found = {}
        for field, channel in (("joint_pos_noise_rad", "joint_pos"), ("joint_vel_noise_rad_s", "joint_vel")):
            residual = getattr(self._recording, channel) - getattr(motion, channel)
            steps = np.diff(residual[self._rows], axis=0)
            deviations = np.median(np.abs(steps), axis=0) / 0.6745 / np.sqrt(2.0)  # of a normal distribution
            found[field] = float(np.sqrt((deviations**2).mean()))
        return found

    def _observed(self, motion: Recording | Motion) -> NDArray[np.float64]:
        """(R, channels, num_joints) in the rows that count."""
        return np.stack([getattr(motion, channel)[self._rows] for channel in self._channels], axis=1)

    def _residual(self, parameters: list[Parameter], theta: Vector) -> NDArray[np.float64]:
        """(R, channels, num_joints), in standard deviations."""
        return (self._replayed(parameters, theta) - self._measured) / self._sigma

    def _flat_residual(self, parameters: list[Parameter], theta: Vector) -> Vector:
        return self._residual(parameters, theta).ravel()

    def _replayed(self, parameters: list[Parameter], theta: Vector) -> NDArray[np.float64]:
        key = theta.tobytes()
        if self._last[0] != key:
            motion = self._pool.replay([drawn_effects(self._description, parameters, theta)])[0]
            self._last = key, self._observed(motion)
        return self._last[1]

    def _jacobian(self, parameters: list[Parameter], theta: Vector) -> NDArray[np.float64]:
        """(R * channels * num_joints, len(parameters)); one replay for each field."""
        base = self._replayed(parameters, theta)
        probes = np.array(
            [p.probe if v + p.probe < p.high else -p.probe for p, v in zip(parameters, theta, strict=True)]
        )
        fields = list(dict.fromkeys(parameter.field for parameter in parameters))
        members = [np.array([p.field == field for p in parameters]) for field in fields]
        motions = self._pool.replay(
            [drawn_effects(self._description, parameters, theta + probes * member) for member in members]
        )
        jacobian = np.zeros((*base.shape, len(parameters)))
        for member, motion in zip(members, motions, strict=True):
            change = (self._observed(motion) - base) / self._sigma
            for column in np.flatnonzero(member):
                joint = parameters[column].joint
                which = slice(None) if joint is None else slice(joint, joint + 1)
                jacobian[:, :, which, column] = change[:, :, which] / probes[column]
        return jacobian.reshape(-1, len(parameters))


def _half_widths(information: NDArray[np.float64], scores: NDArray[np.float64]) -> Vector:
    """Of 95 % intervals, from JᵀJ (P, P) and the blocks' scores Jᵀr (B, P)."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-30))
    inverse = scale[:, None] * np.linalg.pinv(information * np.outer(scale, scale), hermitian=True) * scale
    blocks = len(scores)
    meat = scores.T @ scores * blocks / max(blocks - PARAMETERS_A_JOINT, 1)
    sandwich = inverse @ meat @ inverse
    variance = np.maximum(np.diag(sandwich), np.diag(inverse))
    half: Vector = student.ppf(0.975, blocks - 1) * np.sqrt(variance)
    return half


def _still_joints(description: RobotDescription, recording: Recording) -> list[int]:
    travel = np.ptp(recording.joint_pos[recording.time_s >= SETTLING_S], axis=0)
    return [index for index in range(description.num_joints) if travel[index] < TRAVEL_MIN_RAD]


def _unknown(description: RobotDescription, kept: list[Parameter]) -> dict[str, list[str]]:
    """Fields that none, or not all, of the joints were told of."""
    told = {(parameter.field, parameter.joint) for parameter in kept}
    found: dict[str, list[str]] = {}
    every = all_parameters(description, list(range(description.num_joints)))
    for parameter in every:
        if (parameter.field, parameter.joint) not in told:
            names = found.setdefault(parameter.field, [])
            if parameter.joint is not None:
                names.append(description.joint_names[parameter.joint])
    return found
