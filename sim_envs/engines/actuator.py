"""Models of the path from a setpoint to the servo and from a joint to its measurement, for every engine."""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects

STICTION_RAD_S = 0.01
"""Below this speed dry friction falls off linearly, so a joint under less torque than the friction creeps."""


class DelayLine:
    """Delays a signal; it is linear between two samples, and constant before the first and after the last."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._rows: deque[tuple[float, Vector]] = deque()

    def restart(self, row: Vector) -> None:
        """Forget the past: the signal has always had this value."""
        self._rows.clear()
        self._rows.append((-math.inf, row))

    def push(self, time_s: float, row: Vector) -> None:
        """Add the sample of the signal at ``time_s``."""
        self._rows.append((time_s, row))

    def at(self, time_s: float) -> Vector:
        """The signal ``delay_s`` before ``time_s``; older samples are dropped, so time must not go back."""
        rows, then = self._rows, time_s - self.delay_s + 1e-9
        while len(rows) > 1 and rows[1][0] <= then:
            rows.popleft()
        if len(rows) == 1 or then <= rows[0][0] + 2e-9:
            return rows[0][1]
        (start, before), (end, after) = rows[0], rows[1]
        if start == -math.inf:
            return before
        return before + (then - start) / (end - start) * (after - before)


class Actuator:
    """The path from setpoint to servo, with losses, delay and first-order lag, and the joints' friction.

    Args:
        effects: the effects of this arm.
        step_s: physics step.
        rng: decides which setpoints are lost.

    Attributes:
        has_friction: whether any joint has friction.
    """

    def __init__(self, effects: DrawnEffects, step_s: float, rng: np.random.Generator) -> None:
        self._line = DelayLine(effects.action_delay_s)
        self._lost = effects.dropped_commands
        self._step_s = step_s
        self._rng = rng
        with np.errstate(divide="ignore"):
            self._kept = np.exp(-step_s / effects.lag_s)  # of the distance, in one step
        self._lags = bool(effects.lag_s.any())
        self._coulomb = effects.friction_factor * effects.coulomb_friction_nm
        self._viscous = effects.friction_factor * effects.viscous_friction_nm_s_rad
        self.has_friction = bool((self._coulomb + self._viscous).any())
        self._reference = np.zeros_like(self._kept)

    def restart(self, reference: Vector) -> None:
        """Stand still at this reference, (num_joints,) rad; setpoints under way are discarded."""
        self._reference = reference.copy()
        self._line.restart(self._reference)

    def send(self, time_s: float, reference: Vector) -> None:
        """Send a setpoint, (num_joints,) rad; it may be lost."""
        if not self._lost or self._rng.random() >= self._lost:
            self._line.push(time_s, reference)

    def step(self, time_s: float) -> Vector:
        """The servo's reference during the physics step that begins at ``time_s``, (num_joints,) rad."""
        wanted = self._line.at(time_s)
        if not self._lags:
            return wanted
        self._reference = wanted + self._kept * (self._reference - wanted)
        return self._reference

    def plan(self, departures: NDArray[np.int64], references: Vector) -> Vector:
        """Compute the results of :meth:`step` over a whole recording at once, if no setpoint is lost.

        The recording begins at the last :meth:`restart`.

        Args:
            departures: (T,) non-decreasing numbers of the physics steps before which setpoints were sent.
            references: (T, num_joints) rad, the setpoints.

        Returns:
            (departures[-1], num_joints) rad, the servo's reference during each physics step.
        """
        now = np.arange(departures[-1])
        then = now - (self._line.delay_s - 1e-9) / self._step_s
        newest = np.searchsorted(departures, now, side="right") - 1
        before = np.searchsorted(departures, then, side="right") - 1
        after = np.minimum(before + 1, newest)
        span = np.maximum(departures[after] - departures[before], 1)
        share = np.where(before < after, (then - departures[before]) / span, 0.0)[:, None]
        wanted = references[before] + share * (references[after] - references[before])
        wanted = np.where(before[:, None] < 0, self._reference, wanted)
        if not self._lags:
            return wanted
        lagged = [
            lfilter([1.0 - kept], [1.0, -kept], row, zi=[kept * start])[0]
            for kept, row, start in zip(self._kept, wanted.T, self._reference, strict=True)
        ]
        return np.stack(lagged, axis=1)

    def friction(self, joint_vel: Vector) -> Vector:
        """Friction as a damping, (num_joints,) Nm s/rad, of the velocity at the end of the step.

        ``τ = −c q̇ / max(|q̇|, v_s) − v q̇``: this secant of dry friction is stable at every step size.
        """
        damping: Vector = self._viscous + self._coulomb / np.maximum(np.abs(joint_vel), STICTION_RAD_S)
        return damping


class JointSensor:
    """The path from a joint to its measurement, with delay, offset, noise and quantisation.

    Attributes:
        has_delay: whether there is a delay; then every physics step has to be recorded, otherwise only the
            last.
    """

    def __init__(self, effects: DrawnEffects, rng: np.random.Generator) -> None:
        self._line = DelayLine(effects.observation_delay_s)
        self.has_delay = effects.observation_delay_s > 0.0
        self._rng = rng
        self._offset = effects.joint_pos_offset_rad
        self._noise = (
            effects.joint_pos_noise_rad,
            effects.joint_vel_noise_rad_s,
            effects.joint_torque_noise_nm,
        )
        self._resolution = (effects.joint_pos_resolution_rad, effects.joint_vel_resolution_rad_s, 0.0)

    def restart(self, measured: tuple[Vector, Vector, Vector]) -> None:
        """Forget the past: the arm has always been in this state."""
        self._line.restart(np.array(measured))

    def record(self, time_s: float, measured: tuple[Vector, Vector, Vector]) -> None:
        """Add position, velocity and torque, (num_joints,) each, after a physics step."""
        self._line.push(time_s, np.array(measured))

    def read(self, time_s: float) -> tuple[Vector, Vector, Vector]:
        """Position, velocity and torque as the sensors report them at ``time_s``."""
        joint_pos, joint_vel, joint_torque = self._line.at(time_s)
        rows = []
        for row, noise, resolution in zip(
            (joint_pos + self._offset, joint_vel, joint_torque), self._noise, self._resolution, strict=True
        ):
            value = row + self._rng.normal(0.0, noise, len(row)) if noise else row
            rows.append(resolution * np.round(value / resolution) if resolution else value.copy())
        return rows[0], rows[1], rows[2]
