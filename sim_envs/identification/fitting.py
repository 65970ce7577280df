"""Fits delay, lag, gains, friction, payload and offsets of an arm to a recording of its commands and motion.

This is nonlinear least squares between the recording and its replay in the simulator. It compares measured
positions and, where the robot measures them, torques::

    min_θ  Σ_t Σ_j  ((q_tj − q̂_tj(θ)) / σ_qj)² + ((τ_tj − τ̂_tj(θ)) / σ_τj)²

The standard deviations σ are those of the residuals in the pass before. θ are fields of
:class:`~wpg.sim_envs.effects.Effects`; replay and training run the same code, so θ means the same in both.

The first pass assumes that a joint's own parameters change only its own measurements, which is nearly true
because each joint has a servo. One simulation then gives the derivatives for one field of all joints. The
later passes compute the effect of every parameter on every joint. Times at which a servo is near its torque
limit are left out, because there the replay is not a smooth function of θ.

:mod:`~wpg.sim_envs.identification.intervals` computes the confidence intervals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.errors import IdentificationError
from wpg.sim_envs.identification.intervals import determined_half_widths
from wpg.sim_envs.identification.parameters import Parameter, all_parameters, drawn_effects
from wpg.sim_envs.identification.recording import Recording
from wpg.sim_envs.identification.replay import Motion, ReplayPool

Jacobian = NDArray[np.float64]

SETTLING_S = 1.0
"""Start of the recording that is left out, as it depends on motion before the recording."""
TRAVEL_MIN_RAD = 0.03
"""A joint that moves less than this is not identified."""
BLOCK_S = 0.5
"""Length of the blocks of time for the sandwich estimator of the intervals."""
ROUGH, FINE = 1e-2, 1e-6
"""Relative change of the cost at which the first and the last pass end."""
PROBES_A_UNIT = 50.0
"""The search scales each parameter by this many of its finite-difference steps."""
STALE_PROBES = 2.0
"""The Jacobian is computed anew once a parameter has moved by this many of its finite-difference steps."""
DELAY_MAX_S = 0.4
"""Longest delay that is tried for the initial guess."""
POSITION_FLOOR_RAD, TORQUE_FLOOR_SHARE = 2e-6, 5e-4
"""Lower bounds of the residuals' standard deviations used as weights: positions in rad, torques as a share of
each joint's torque limit."""
FIRST_POSITION_RAD, FIRST_TORQUE_SHARE = 1e-3, 0.02
"""Standard deviations used as weights in the first pass, in the same units."""
STRAINED_SHARE, STRAINED_S = 0.8, 0.1
"""Data are left out while a torque is above this share of its limit, and for this many seconds after. A servo
at its limit chatters, in the simulator too, and then the smallest change of a parameter changes its torque by
newton metres."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A fitted parameter with its interval."""

    parameter: Parameter
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The result of fitting a recording."""

    estimates: list[Estimate]
    unknown: dict[str, list[str]]
    """Fields that could not be determined, with the joints concerned; an empty list stands for the whole
    arm."""
    effects: DrawnEffects
    """Effects with the fitted parameters."""
    noise: dict[str, float]
    """Standard deviation of the measurement noise, by field of the effects."""


def fit(description: RobotDescription, recording: Recording, *, num_workers: int | None = None) -> Fit:
    """Fit the parameters to a recording.

    Raises:
        IdentificationError: no joint moves enough, or the servos are always near their torque limits.
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
        kept = parameters
        half, determined = problem.half_widths(kept, theta)
        while not determined.all():
            kept = list(compress(kept, determined))
            if not kept:
                raise IdentificationError("too little motion: expected a parameter that it tells, found none")
            theta, cautious = problem.refine(kept, theta[determined]), half[determined]
            half, determined = problem.half_widths(kept, theta)
            # Parameters that were given up widen the others, up to the width at which these say nothing.
            half = np.maximum(half, np.minimum(cautious, problem.needed(kept, theta)))
        effects = drawn_effects(description, kept, theta)
        noise = problem.noise(pool.replay([effects])[0])
    estimates = [
        Estimate(
            parameter=parameter,
            value=parameter.decode(sought),
            low=parameter.decode(max(sought - width, parameter.low)),
            high=parameter.decode(min(sought + width, parameter.high)),
        )
        for parameter, sought, width in zip(kept, theta.tolist(), half.tolist(), strict=True)
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
        self._torque_max = torque_max
        sigma = np.stack([np.full_like(torque_max, FIRST_POSITION_RAD), FIRST_TORQUE_SHARE * torque_max])
        self._weight = self._below_torque_limit(recording) / sigma[: len(self._channels)]
        self._floor = np.stack(
            [np.full_like(torque_max, POSITION_FLOOR_RAD), TORQUE_FLOOR_SHARE * torque_max]
        )[: len(self._channels)]
        self._measured = self._observed(recording)
        self._last_replay: tuple[bytes, Motion] | None = None
        self._last_jacobian: tuple[Vector, Jacobian] = (np.empty(0), np.empty((0, 0)))

    def guess_delay(self, parameters: list[Parameter]) -> Vector:
        """Initial parameters: an arm without effects except the delay that fits best."""
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
        """Fit in three passes; the last two are weighted by the residuals of the pass before."""
        theta = self._minimise(parameters, start, self._uncoupled_jacobian, ROUGH)
        return self.refine(parameters, self.refine(parameters, theta))

    def refine(self, parameters: list[Parameter], start: Vector) -> Vector:
        """Fit again from ``start``, weighted by the residuals at ``start``."""
        motion = self._replayed(parameters, start)
        looked_at = self._below_torque_limit(self._recording) & self._below_torque_limit(motion)
        if not looked_at.any():
            raise IdentificationError(
                f"servos at their limits: expected torques below {STRAINED_SHARE:.0%} of them "
                f"for longer than {STRAINED_S:g} s, found none"
            )
        squares = looked_at * (self._observed(motion) - self._measured) ** 2
        variance = squares.sum(axis=0) / looked_at.sum(axis=0)
        self._weight = looked_at / np.maximum(np.sqrt(variance), self._floor)
        return self._minimise(parameters, start, self._coupled_jacobian, FINE)

    def _minimise(
        self,
        parameters: list[Parameter],
        start: Vector,
        jacobian: Callable[[list[Parameter], Vector], Jacobian],
        tolerance: float,
    ) -> Vector:
        # Parameters are scaled to similar sizes, or the tolerance of large ones would end the search for all.
        unit = np.array([PROBES_A_UNIT * parameter.probe for parameter in parameters])

        def residual(x: Vector) -> Vector:
            return self._residual(parameters, unit * x).ravel()

        def slopes(x: Vector) -> Jacobian:
            scaled: Jacobian = jacobian(parameters, unit * x) * unit
            return scaled

        found = least_squares(
            residual,
            start / unit,
            slopes,
            bounds=([p.low for p in parameters] / unit, [p.high for p in parameters] / unit),
            xtol=1e-5,
            ftol=tolerance,
            max_nfev=30,
        )
        theta: Vector = unit * found.x
        return theta

    def half_widths(self, parameters: list[Parameter], theta: Vector) -> tuple[Vector, NDArray[np.bool_]]:
        """Half widths of the 95 % intervals, and which parameters can be determined."""
        jacobian = self._coupled_jacobian(parameters, theta)
        residual = self._residual(parameters, theta)
        scores = np.zeros((self._blocks[-1] + 1, len(parameters)))
        rows = np.repeat(self._blocks, residual[0].size)
        np.add.at(scores, rows, jacobian * residual.ravel()[:, None])
        return determined_half_widths(jacobian.T @ jacobian, scores, self.needed(parameters, theta))

    @staticmethod
    def needed(parameters: list[Parameter], theta: Vector) -> Vector:
        """Half widths above which an interval says nothing."""
        return np.array([p.needed(value) for p, value in zip(parameters, theta.tolist(), strict=True)])

    def noise(self, motion: Motion) -> dict[str, float]:
        """Noise of measured positions (rad) and velocities (rad/s), from successive residuals."""
        found = {}
        for field, channel in (("joint_pos_noise_rad", "joint_pos"), ("joint_vel_noise_rad_s", "joint_vel")):
            residual = getattr(self._recording, channel) - getattr(motion, channel)
            steps = np.diff(residual[self._rows], axis=0)
            deviations = np.median(np.abs(steps), axis=0) / 0.6745 / np.sqrt(2.0)  # of a normal distribution
            found[field] = float(np.sqrt((deviations**2).mean()))
        return found

    def _observed(self, motion: Recording | Motion) -> NDArray[np.float64]:
        """The R rows of a motion that are compared, (R, channels, num_joints)."""
        return np.stack([getattr(motion, channel)[self._rows] for channel in self._channels], axis=1)

    def _residual(self, parameters: list[Parameter], theta: Vector) -> NDArray[np.float64]:
        """Weighted residuals, (R, channels, num_joints), in standard deviations."""
        return (self._observed(self._replayed(parameters, theta)) - self._measured) * self._weight

    def _replayed(self, parameters: list[Parameter], theta: Vector) -> Motion:
        key = theta.tobytes() + len(parameters).to_bytes(2)
        if self._last_replay is None or self._last_replay[0] != key:
            effects = drawn_effects(self._description, parameters, theta)
            self._last_replay = key, self._pool.replay([effects])[0]
        return self._last_replay[1]

    def _below_torque_limit(self, motion: Recording | Motion) -> NDArray[np.bool_]:
        """Whether all servos are, and have been for a while, far from their torque limits, (R, 1, 1)."""
        time_s = self._recording.time_s
        strained = (np.abs(motion.joint_torque) > STRAINED_SHARE * self._torque_max).any(axis=1)
        latest_s = np.maximum.accumulate(np.where(strained, time_s, -np.inf))
        return (time_s > latest_s + STRAINED_S)[self._rows, None, None]

    def _coupled_jacobian(self, parameters: list[Parameter], theta: Vector) -> Jacobian:
        """Jacobian by one replay for each parameter, (R * channels * num_joints, len(parameters)).

        The last one is returned again while the parameters are near those it was computed at.
        """
        probes = np.array([parameter.probe for parameter in parameters])
        at, jacobian = self._last_jacobian
        if len(at) != len(theta) or (np.abs(theta - at) > STALE_PROBES * probes).any():
            derivatives = self._derivatives(parameters, theta, [[column] for column in range(len(theta))])
            jacobian = np.stack(derivatives, axis=-1)
            self._last_jacobian = theta.copy(), jacobian
        return (jacobian * self._weight[..., None]).reshape(-1, len(parameters))

    def _uncoupled_jacobian(self, parameters: list[Parameter], theta: Vector) -> Jacobian:
        """The same by one replay for each field, as if joints did not affect each other."""
        columns: dict[str, list[int]] = {}
        for column, parameter in enumerate(parameters):
            columns.setdefault(parameter.field, []).append(column)
        jacobian = np.zeros((*self._measured.shape, len(parameters)))
        derivatives = self._derivatives(parameters, theta, list(columns.values()))
        for together, derivative in zip(columns.values(), derivatives, strict=True):
            for column in together:
                joint = parameters[column].joint
                rows = slice(None) if joint is None else slice(joint, joint + 1)
                jacobian[:, :, rows, column] = derivative[:, :, rows]
        return (jacobian * self._weight[..., None]).reshape(-1, len(parameters))

    def _derivatives(
        self, parameters: list[Parameter], theta: Vector, groups: list[list[int]]
    ) -> list[NDArray[np.float64]]:
        """Derivatives of the motion, (R, channels, num_joints), by all parameters of a group together.

        In a group with one parameter for each joint, the finite-difference step of a joint divides the rows
        of that joint.
        """
        base = self._observed(self._replayed(parameters, theta))
        probes = np.array([parameter.probe for parameter in parameters])
        probes = np.where(theta + probes < [parameter.high for parameter in parameters], probes, -probes)
        trials = []
        for group in groups:
            trial = theta.copy()
            trial[group] += probes[group]
            trials.append(drawn_effects(self._description, parameters, trial))
        derivatives = []
        for group, motion in zip(groups, self._pool.replay(trials), strict=True):
            step = np.full(self._description.num_joints, probes[group[0]])
            if len(group) > 1:
                step[[parameters[column].joint or 0 for column in group]] = probes[group]
            derivatives.append((self._observed(motion) - base) / step)
        return derivatives


def _still_joints(description: RobotDescription, recording: Recording) -> list[int]:
    travel = np.ptp(recording.joint_pos[recording.time_s >= SETTLING_S], axis=0)
    return [index for index in range(description.num_joints) if travel[index] < TRAVEL_MIN_RAD]


def _unknown(description: RobotDescription, kept: list[Parameter]) -> dict[str, list[str]]:
    """Fields that could not be determined, with the joints concerned."""
    determined = {(parameter.field, parameter.joint) for parameter in kept}
    found: dict[str, list[str]] = {}
    every = all_parameters(description, list(range(description.num_joints)))
    for parameter in every:
        if (parameter.field, parameter.joint) not in determined:
            names = found.setdefault(parameter.field, [])
            if parameter.joint is not None:
                names.append(description.joint_names[parameter.joint])
    return found
