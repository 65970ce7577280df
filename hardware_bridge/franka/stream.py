"""Interpolates setpoints at the servo rate to one command per millisecond."""

from collections import deque

import numpy as np

from wpg.hardware_bridge.control.safety import SafetyFilter
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.franka.limits import speed_limits
from wpg.hardware_bridge.robot import JointCommand, Vector

PRELOAD = 2
"""Number of setpoints that are buffered before the first is used, so that one may be late."""
PENDING_MAX = 6
STRETCH_MAX = 0.02
"""Interpolation time may run slower or faster by this share, so that the clocks need not agree."""
STRETCH_GAIN = 0.01
STRETCH_SMOOTHING = 0.002
REST_RAD = 1e-9


class CommandStream:
    """Uses setpoints as the control points of a uniform cubic B-spline.

    With control points q_k at distance dt, the safety filter keeps ``|Δq| <= v_max dt`` and
    ``|Δ²q| <= a_max dt²``. A spline's derivatives lie within the differences of its control points::

        |q'| <= v_max        |q''| <= a_max        |q'''| <= 2 a_max / dt

    so the interface's three limits hold by construction. The price is a lag of two to three servo periods,
    one of which allows for late setpoints. If none has come in time, and after :meth:`brake`, the control
    points brake.

    Args:
        description: the robot, with the limits to keep.
        tick_s: time between commands.
    """

    def __init__(self, description: RobotDescription, tick_s: float = 1e-3) -> None:
        self._dt_s = description.servo_dt_s
        self._tick_s = tick_s
        self._filter = SafetyFilter(description, self._dt_s)
        self.dry = 0
        """Number of times that a setpoint was late."""
        self.start(description.limits("home_rad"))

    def start(self, joint_pos: Vector) -> None:
        """Stand still at ``joint_pos`` (num_joints,) rad and wait for setpoints."""
        self._filter.start(joint_pos)
        self._points = np.tile(self._filter.joint_pos, (4, 1))
        self._pos = self._filter.joint_pos.copy()
        self._pending: deque[JointCommand] = deque(maxlen=PENDING_MAX)
        self._filling = True
        self._braking = False
        self._phase, self._rate, self._stretch = 0.0, 1.0, 0.0

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves any more unless a setpoint comes."""
        return bool(np.ptp(self._points, axis=0).max() < REST_RAD)

    def push(self, command: JointCommand) -> None:
        """Take the bridge's next setpoint."""
        if not self._braking:
            self._pending.append(command)
            self._filling = self._filling and len(self._pending) < PRELOAD

    def brake(self) -> None:
        """Come to rest within the limits; setpoints are ignored until :meth:`start`."""
        self._braking = True
        self._pending.clear()

    def step(self) -> JointCommand:
        """Position at the next tick, and the velocity that leads there."""
        self._rate += STRETCH_SMOOTHING * (1.0 + self._stretch - self._rate)
        self._phase += self._rate * self._tick_s / self._dt_s
        if self._phase >= 1.0:
            self._phase -= 1.0
            self._points[:-1] = self._points[1:]
            self._points[-1] = self._next_point()
        before, self._pos = self._pos, _basis(self._phase) @ self._points
        return JointCommand(joint_pos=self._pos, joint_vel=(self._pos - before) / self._tick_s)

    def _next_point(self) -> Vector:
        if self._pending and not self._filling:
            command = self._filter.follow(self._slowed(self._pending.popleft()))
            wanted = STRETCH_GAIN * (len(self._pending) + 1 - PRELOAD)
            self._stretch = min(max(wanted, -STRETCH_MAX), STRETCH_MAX)
        else:
            if not (self._filling or self._braking):
                self._filling = True
                self.dry += 1
            command = self._filter.brake()
        self._filter.sent(command)
        return command.joint_pos

    def _slowed(self, command: JointCommand) -> JointCommand:
        """Limit a command to the speed that the interface allows at the position where the joint will be."""
        place, ahead_s = self._filter.joint_pos, 2 * self._dt_s
        down, up = speed_limits(place)
        down, up = speed_limits(place + ahead_s * down)[0], speed_limits(place + ahead_s * up)[1]
        joint_pos = np.clip(command.joint_pos, place + self._dt_s * down, place + self._dt_s * up)
        return JointCommand(joint_pos=joint_pos, joint_vel=command.joint_vel)


def _basis(u: float) -> Vector:
    """Weights of the four control points at ``u`` in [0, 1) of a segment."""
    v = 1.0 - u
    return np.array((v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3)) / 6.0
