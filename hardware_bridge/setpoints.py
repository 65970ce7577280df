"""Jerk-limited setpoints between policy steps (Ruckig: Berscheid and Kröger, RSS 2021)."""

import numpy as np
from ruckig import InputParameter, OutputParameter, Result, Ruckig, RuckigError, Trajectory

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.robot import JointCommand, Vector


class SetpointGenerator:
    """Moves the commanded position towards a target within ``motion_fraction`` of the robot's limits.

    The target may change at any time; the motion starts from the last setpoint, never from the measurement,
    so commands have no steps.
    """

    def __init__(self, description: RobotDescription, dt_s: float) -> None:
        self._num_joints = description.num_joints
        self._low = description.limits("position_min_rad")
        self._high = description.limits("position_max_rad")
        self._otg = Ruckig(self._num_joints, dt_s)
        self._input = InputParameter(self._num_joints)
        self._output = OutputParameter(self._num_joints)
        self._trajectory = Trajectory(self._num_joints)
        self._dt_s = dt_s
        share = description.motion_fraction
        self._velocity = share * description.limits("velocity_max_rad_s")
        self._acceleration = share * description.limits("acceleration_max_rad_s2")
        self._jerk = share * description.limits("jerk_max_rad_s3")
        self.set_pace(1.0)
        self.reset(description.limits("home_rad"))

    def set_pace(self, pace: float) -> None:
        """Set the share of ``motion_fraction`` to use, in (0, 1]; may be lowered only at rest."""
        self._input.max_velocity = (pace * self._velocity).tolist()
        self._input.max_acceleration = (pace * self._acceleration).tolist()
        self._input.max_jerk = (pace * self._jerk).tolist()

    def reset(self, joint_pos: Vector) -> None:
        """Stand still at ``joint_pos`` (num_joints,) rad; called at the start and after every hold."""
        rest = [0.0] * self._num_joints
        position = np.clip(joint_pos, self._low, self._high).tolist()
        self._input.current_position = position
        self._input.current_velocity = rest
        self._input.current_acceleration = rest
        self._input.target_position = position
        self._input.target_velocity = rest
        self._input.target_acceleration = rest
        self._otg.reset()

    def set_target(self, joint_pos: Vector) -> None:
        """Head for ``joint_pos`` (num_joints,) rad, clipped to the position limits."""
        self._input.target_position = np.minimum(np.maximum(joint_pos, self._low), self._high).tolist()

    @property
    def target(self) -> Vector:
        """Joint target, (num_joints,) rad; after :meth:`reset` the position given there."""
        return np.array(self._input.target_position)

    def step(self) -> JointCommand:
        """Advance by one servo period.

        Raises:
            BridgeError: the target cannot be planned for, e.g. it is not finite.
        """
        self._require(self._otg.update(self._input, self._output))
        self._output.pass_to_input(self._input)
        return JointCommand(
            joint_pos=np.array(self._output.new_position), joint_vel=np.array(self._output.new_velocity)
        )

    def steps(self, count: int) -> tuple[Vector, Vector]:
        """What ``count`` calls of :meth:`step` return, computed faster.

        Positions and velocities are (count, num_joints) each.

        Raises:
            BridgeError: as :meth:`step`.
        """
        try:
            self._require(self._otg.calculate(self._input, self._trajectory))
        except RuckigError as error:  # update() returns what calculate() raises
            raise BridgeError(f"no setpoint towards {self._input.target_position}: {error}") from error
        rows = [self._trajectory.at_time(tick * self._dt_s) for tick in range(1, count + 1)]
        self._input.current_position, self._input.current_velocity, self._input.current_acceleration = rows[
            -1
        ]
        return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])

    def _require(self, result: Result) -> None:
        if result not in (Result.Working, Result.Finished):
            raise BridgeError(f"no setpoint towards {self._input.target_position}: {result.name}")
