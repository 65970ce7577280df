"""Limits of the interface of a Franka Research 3, and a description of the robot inside them.

From version 0.10 on, libfranka (and so pylibfranka) supports only the Research 3. Its links are those of the
Panda; its limits are not.
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
# Near the ends of a joint the speed is limited: ``v <= -offset + sqrt(2 brake (end - q))``, at both ends.
SPEED_OFFSET_RAD_S = np.array((0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35))
SPEED_BRAKE_RAD_S2 = np.array((6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0))

RATE_SHARE = 0.98
"""Share of acceleration and jerk that the last step before the robot uses."""

# Share of the interface's limits that is used, because the gateway scales time by up to 2 %.
VELOCITY_SHARE = 0.97
ACCELERATION_SHARE = 0.9


def flange_position(description: RobotDescription, joint_pos: Vector) -> NDArray[np.float64]:
    """Position of the flange by the description, (3,) m in the base frame."""
    chain = msgspec.structs.replace(description.kinematics(), tool=FLANGE)
    return ForwardKinematics(chain).tool_position(joint_pos)


def inside_fci(description: RobotDescription) -> RobotDescription:
    """The same robot with limits that the interface accepts, and without its hand, which it cannot move.

    Raises:
        DescriptionError: this is no Franka arm, or its servo rate is too high to limit the jerk.
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
    """The velocity nearest to ``velocity`` that the interface accepts after the robot's last motion.

    It changes nothing unless packets were lost. A robot that misses commands goes on with the acceleration
    that it had, and checks the next command against the resulting motion.

    Args:
        velocity: (7,) rad/s, desired.
        last_velocity: (7,) rad/s, last commanded inside the robot.
        last_acceleration: (7,) rad/s².
        dt_s: time between commands.
        share: share of the limits that is used.
    """
    step = share * JERK_MAX_RAD_S3 * dt_s
    low = np.maximum(last_acceleration - step, -share * ACCELERATION_MAX_RAD_S2)
    high = np.minimum(last_acceleration + step, share * ACCELERATION_MAX_RAD_S2)
    acceleration = np.minimum(np.maximum((velocity - last_velocity) / dt_s, low), high)
    return last_velocity + acceleration * dt_s


def speed_limits(joint_pos: Vector) -> tuple[Vector, Vector]:
    """Lowest and highest velocity that the interface accepts at this position, two (7,) rad/s."""
    ahead = np.stack([joint_pos - POSITION_MIN_RAD, POSITION_MAX_RAD - joint_pos])
    braking = -SPEED_OFFSET_RAD_S + np.sqrt(2 * SPEED_BRAKE_RAD_S2 * np.maximum(ahead, 0.0))
    down, up = VELOCITY_SHARE * np.clip(braking, 0.0, VELOCITY_MAX_RAD_S)
    return -down, up
