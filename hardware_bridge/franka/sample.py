"""The state that the robot reports every millisecond."""

from typing import Any, NamedTuple

import numpy as np

from wpg.hardware_bridge.robot import Vector


class FciSample(NamedTuple):
    """One state; vectors are (7,)."""

    joint_pos: Vector
    joint_vel: Vector
    joint_torque: Vector
    joint_pos_desired: Vector
    """Position and velocity that the robot's own controller is commanded to."""
    joint_vel_desired: Vector
    joint_acc_desired: Vector
    joint_torque_desired: Vector
    """Commanded joint torques, without gravity."""
    time_s: float
    mode: str
    """``Idle``, ``Move``, ``Guiding``, ``Reflex``, ``UserStopped`` ...; as libfranka names them."""
    success_rate: float
    """Share of the last hundred commands that came in time, while it moves."""

    @classmethod
    def of(cls, raw: Any) -> "FciSample":
        """From libfranka's ``RobotState``."""
        return cls(
            joint_pos=np.array(raw.q),
            joint_vel=np.array(raw.dq),
            joint_torque=np.array(raw.tau_J),
            joint_pos_desired=np.array(raw.q_d),
            joint_vel_desired=np.array(raw.dq_d),
            joint_acc_desired=np.array(raw.ddq_d),
            joint_torque_desired=np.array(raw.tau_J_d),
            time_s=raw.time.to_sec(),
            mode=raw.robot_mode.name.removeprefix("k"),
            success_rate=raw.control_command_success_rate,
        )
