"""What the interface of a Franka Research 3 lets through, and a description inside of it.

Libfranka from 0.10 on, and so pylibfranka, speaks to the Research 3 alone. Its links are the Panda's; its
limits are not.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import ForwardKinematics, Frame
from wpg.hardware_bridge.description import JointDescription, RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector

FLANGE = Frame(xyz_m=(0.0, 0.0, 0.107))
"""The flange on the last joint."""
# Franka Robotics, Robot and interface specifications, "Limits for Franka Research 3".
POSITION_MIN_RAD = np.array((-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159))
POSITION_MAX_RAD = np.array((2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159))
VELOCITY_MAX_RAD_S = np.array((2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26))
ACCELERATION_MAX_RAD_S2 = 10.0
JERK_MAX_RAD_S3 = 5000.0
TORQUE_MAX_NM = np.array((87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0))
TORQUE_RATE_MAX_NM_S = 1000.0
# Near the ends of a joint the speed must fall: ``v <= -offset + sqrt(2 brake (end - q))``, both ways alike.
SPEED_OFFSET_RAD_S = np.array((0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35))
SPEED_BRAKE_RAD_S2 = np.array((6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0))

RATE_SHARE = 0.98
"""Of acceleration and jerk, in the last step before the robot."""

# Share of the interface's limits that is used: the gateway stretches time by up to 2 % and corrects drift.
VELOCITY_SHARE = 0.97
ACCELERATION_SHARE = 0.9


def flange_position(description: RobotDescription, joint_pos: Vector) -> NDArray[np.float64]:
    """Where the description's flange is, (3,) m in the base frame."""
    chain = msgspec.structs.replace(description.kinematics(), tool=FLANGE)
    return ForwardKinematics(chain).tool_position(joint_pos)


def inside_fci(description: RobotDescription) -> RobotDescription:
    """The same robot with limits that the interface lets through, without its hand, which it does not move.

    Raises:
        DescriptionError: this is no Franka arm, or it is commanded too often to keep its jerk limited.
    """
    if description.num_joints != len(POSITION_MIN_RAD):
        raise DescriptionError(
            f"fci: expected an arm of {len(POSITION_MIN_RAD)} joints, "
            f"found {description.name} with {description.num_joints}"
        )
    joints = tuple(_tightened(joint, index) for index, joint in enumerate(description.joints))
    tightened = msgspec.structs.replace(description, joints=joints, gripper=None)
    # The jerk of a uniform cubic B-spline through points whose second difference is bounded by a dt².
    acceleration, jerk = (tightened.limits(name) for name in ("acceleration_max_rad_s2", "jerk_max_rad_s3"))
    rate_max_hz = float((jerk / (2 * acceleration)).min())
    if description.servo_rate_hz > rate_max_hz:
        raise DescriptionError(
            f"fci: servo_rate_hz: expected at most {rate_max_hz:.0f} Hz, to keep the jerk within its limit, "
            f"found {description.servo_rate_hz:g} Hz"
        )
    return tightened


def _tightened(joint: JointDescription, index: int) -> JointDescription:
    velocity = VELOCITY_SHARE * float(VELOCITY_MAX_RAD_S[index])
    acceleration = ACCELERATION_SHARE * ACCELERATION_MAX_RAD_S2
    low = max(joint.position_min_rad, float(POSITION_MIN_RAD[index]))
    high = min(joint.position_max_rad, float(POSITION_MAX_RAD[index]))
    return msgspec.structs.replace(
        joint,
        position_min_rad=low,
        position_max_rad=high,
        velocity_max_rad_s=min(joint.velocity_max_rad_s, velocity),
        acceleration_max_rad_s2=min(joint.acceleration_max_rad_s2, acceleration),
        jerk_max_rad_s3=min(joint.jerk_max_rad_s3, JERK_MAX_RAD_S3),
        home_rad=min(max(joint.home_rad, low), high),
    )


def limit_rate(
    velocity: Vector,
    last_velocity: Vector,
    last_acceleration: Vector,
    dt_s: float,
    share: float = RATE_SHARE,
) -> Vector:
    """The velocity nearest to what is wanted that the interface lets through after what the robot did last.

    It changes nothing where no packet was lost. A robot that misses commands goes on with the acceleration
    that it had, and judges the next command against where that has led.

    Args:
        velocity: (7,) rad/s wanted.
        last_velocity: (7,) rad/s that the robot has commanded itself last.
        last_acceleration: (7,) rad/s².
        dt_s: time between commands.
        share: of the limits that is used.
    """
    step = share * JERK_MAX_RAD_S3 * dt_s
    low = np.maximum(last_acceleration - step, -share * ACCELERATION_MAX_RAD_S2)
    high = np.minimum(last_acceleration + step, share * ACCELERATION_MAX_RAD_S2)
    acceleration = np.minimum(np.maximum((velocity - last_velocity) / dt_s, low), high)
    return last_velocity + acceleration * dt_s


def speed_limits(joint_pos: Vector) -> tuple[Vector, Vector]:
    """Lowest and highest velocity that the interface lets through here, two (7,) rad/s."""
    ahead = np.stack([joint_pos - POSITION_MIN_RAD, POSITION_MAX_RAD - joint_pos])
    braking = -SPEED_OFFSET_RAD_S + np.sqrt(2 * SPEED_BRAKE_RAD_S2 * np.maximum(ahead, 0.0))
    down, up = VELOCITY_SHARE * np.clip(braking, 0.0, VELOCITY_MAX_RAD_S)
    return -down, up
