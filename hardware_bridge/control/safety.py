"""The safety filter: whatever is asked for, every command that is sent stays inside the robot's limits."""

import math
import operator
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import JointCommand, Vector

REST_RAD_S = 1e-3
HOLDS_MAX = 1_000_000
Corner = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Thresholds of the control loop: when it holds the arm, when it goes on, and when it ends the run."""

    stale_s: float = 0.02
    """The arm is held once no state has come for this long, and for three servo periods at least."""
    source_stale_s: float = 0.2
    """The arm is held while a reading from outside the robot, such as a camera's, is older than this."""
    overrun_s: float = 0.04
    """The arm is held after missing all deadlines for this long, and three at least."""
    tracking_error_max_rad: float = 0.5
    """The arm is held when a joint is this far from its setpoint: something is in the way."""
    recover_after_s: float = 0.2
    """A held arm goes on once it is at rest and all has been well for this long."""
    hold_timeout_s: float = 2.0
    """The run ends when a hold lasts longer."""
    holds_max: int = 10
    """The run ends at the hold after this many within ``holds_window_s``."""
    holds_window_s: float = 60.0
    workspace_m: tuple[Corner, Corner] | None = None
    """Smallest and largest x, y, z of the tool in the base frame; None for no box."""
    spread_slow: float | None = None
    """The arm slows once the policy's particles are this far apart, in the action's unit."""
    spread_hold: float | None = None
    """The arm stands still once the particles are this far apart."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name not in ("holds_max", "workspace_m")):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, found {value}")
        if not 0 <= self.holds_max <= HOLDS_MAX:
            raise ValueError(f"holds_max: expected 0 to {HOLDS_MAX}, found {self.holds_max}")
        if self.workspace_m is not None and not all(map(operator.lt, *self.workspace_m)):
            raise ValueError(f"workspace_m: expected the smaller corner first, found {self.workspace_m}")
        if self.spread_slow is None and self.spread_hold is None:
            return
        if self.spread_slow is None or self.spread_hold is None or self.spread_slow >= self.spread_hold:
            raise ValueError(
                f"spread_slow and spread_hold: expected both or neither, the first below the second, "
                f"found {self.spread_slow} and {self.spread_hold}"
            )


class SafetyFilter:
    """Bounds position, velocity and acceleration of successive commands at the servo period.

    With q and v the last command sent and its velocity, the next velocity v' of each joint is kept in::

        |v'| <= v_max,   |v' - v| <= a_max dt,   v' dt + v'^2 / (2 a_brake) <= distance to the limit ahead

    The last bound lets the joint always come to rest before its position limit without breaking the second;
    since a_brake < a_max, the three always have a common solution. ``a_max`` and ``v_max`` are reduced by
    what rounding a position to float32 may add to them.

    Args:
        description: the robot's limits.
        dt_s: time between commands.
    """

    def __init__(self, description: RobotDescription, dt_s: float) -> None:
        self._dt_s = dt_s
        self._low = description.limits("position_min_rad")
        self._high = description.limits("position_max_rad")
        largest = np.maximum(np.abs(self._low), np.abs(self._high)).astype(np.float32)
        rounding = np.spacing(largest).astype(np.float64)
        velocity = description.limits("velocity_max_rad_s")
        acceleration = description.limits("acceleration_max_rad_s2")
        self._velocity = np.maximum(velocity - rounding / dt_s, velocity / 2)
        self._acceleration = np.maximum(acceleration - 2 * rounding / dt_s**2, acceleration / 2)
        self._brake = 0.9 * self._acceleration
        self.events: Counter[str] = Counter()
        """How often a command was changed, by the limit that it would have left."""
        self.start(description.limits("home_rad"))

    def start(self, joint_pos: Vector) -> None:
        """The arm is at rest at ``joint_pos`` (num_joints,) rad."""
        self._pos = np.clip(joint_pos, self._low, self._high)
        self._vel = np.zeros_like(self._pos)

    @property
    def joint_pos(self) -> Vector:
        """Last position sent, (num_joints,) rad."""
        return self._pos

    @property
    def stop_pos(self) -> Vector:
        """Where braking from now on ends, (num_joints,) rad."""
        return self.stop_from(self._pos, self._vel)

    def stop_from(self, joint_pos: Vector, joint_vel: Vector) -> Vector:
        """Where braking ends that begins with these positions and velocities, (…, num_joints) each."""
        return joint_pos + joint_vel * np.abs(joint_vel) / (2 * self._brake)

    @property
    def at_rest(self) -> bool:
        """The commands stand still."""
        return bool((np.abs(self._vel) < REST_RAD_S).all())

    def follow(self, command: JointCommand) -> JointCommand:
        """The command, or the nearest to it that the limits allow; braking, when it is not finite."""
        if not (np.isfinite(command.joint_pos).all() and np.isfinite(command.joint_vel).all()):
            self.events["non_finite_command"] += 1
            return self.brake()
        wanted = (np.clip(command.joint_pos, self._low, self._high) - self._pos) / self._dt_s
        allowed = self._bounded(wanted)
        outside = (command.joint_pos < self._low) | (command.joint_pos > self._high)
        if not (outside | (np.abs(wanted - allowed) > 1e-9)).any():
            return JointCommand(
                joint_pos=command.joint_pos,
                joint_vel=np.clip(command.joint_vel, -self._velocity, self._velocity),
            )
        if outside.any():
            self.events["position_limit"] += 1
        elif (np.abs(wanted) > self._velocity).any():
            self.events["velocity_limit"] += 1
        else:
            self.events["acceleration_limit"] += 1
        return self._moved(allowed)

    def brake(self) -> JointCommand:
        """The next command on the quickest way to rest."""
        return self._moved(self._bounded(np.zeros_like(self._vel)))

    def sent(self, command: JointCommand) -> None:
        """What the robot was really sent: the next command continues from there."""
        self._vel = (command.joint_pos - self._pos) / self._dt_s
        self._pos = command.joint_pos

    def _bounded(self, velocity: Vector) -> Vector:
        """Velocity within all three bounds, (num_joints,) rad/s."""
        step = self._acceleration * self._dt_s
        slowest = np.maximum(self._vel - step, -self._velocity)
        fastest = np.minimum(self._vel + step, self._velocity)
        # The position bound goes last: it is the one that must never give.
        bounded = np.clip(velocity, slowest, fastest)
        return np.clip(
            bounded, -self._braking_speed(self._pos - self._low), self._braking_speed(self._high - self._pos)
        )

    def _braking_speed(self, distance: Vector) -> Vector:
        """Largest v' with v' dt + v'^2 / (2 a_brake) <= distance."""
        ahead = np.maximum(distance, 0.0)
        return self._brake * (np.sqrt(self._dt_s**2 + 2 * ahead / self._brake) - self._dt_s)

    def _moved(self, velocity: Vector) -> JointCommand:
        position = np.clip(self._pos + velocity * self._dt_s, self._low, self._high)
        return JointCommand(joint_pos=position, joint_vel=velocity)
