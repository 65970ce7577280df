"""Forward kinematics against hand-computed poses."""

import math

import numpy as np
import pytest

from wpg.export import ForwardKinematics, Frame, JointFrame, SerialChain
from wpg.hardware_bridge.description import load_description

# A planar arm: two links of 0.4 m and 0.3 m that turn about z.
PLANAR = ForwardKinematics(
    SerialChain(
        joints=(JointFrame(frame=Frame()), JointFrame(frame=Frame(xyz_m=(0.4, 0.0, 0.0)))),
        tool=Frame(xyz_m=(0.3, 0.0, 0.0)),
    )
)


@pytest.mark.parametrize("q", [(0.0, 0.0), (math.pi / 2, 0.0), (0.3, -1.1), (-2.0, 2.5)])
def test_planar_arm(q):
    x = 0.4 * math.cos(q[0]) + 0.3 * math.cos(sum(q))
    y = 0.4 * math.sin(q[0]) + 0.3 * math.sin(sum(q))
    np.testing.assert_allclose(PLANAR.tool_position(np.array(q)), [x, y, 0.0], atol=1e-12)


def test_fixed_frame_turns_roll_then_pitch_then_yaw():
    """rpy (90°, 0, 90°): x goes to y, y to z, z to x."""
    matrix = Frame(rpy_rad=(math.pi / 2, 0.0, math.pi / 2)).matrix()
    np.testing.assert_allclose(matrix[:3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_axis_other_than_z():
    """A quarter turn about y takes a tool on +z to +x."""
    chain = SerialChain(
        joints=(JointFrame(frame=Frame(), axis=(0.0, 1.0, 0.0)),), tool=Frame(xyz_m=(0.0, 0.0, 1.0))
    )
    np.testing.assert_allclose(
        ForwardKinematics(chain).tool_position(np.array([math.pi / 2])), [1.0, 0.0, 0.0], atol=1e-12
    )


@pytest.mark.parametrize("robot", ["panda", "so101", "omx", "xarm6"])
def test_jacobian_is_that_of_differences(robot):
    description = load_description(robot)
    kinematics = ForwardKinematics(description.kinematics())
    axis, step = description.approach, 1e-6

    def tool(q):
        pose = kinematics.tool_pose(q)
        return np.concatenate([pose[:3, 3], pose[:3, :3] @ axis])

    for q in np.random.default_rng(0).uniform(-1.5, 1.5, (10, description.num_joints)):
        found, jacobian = kinematics.differentiate(q, axis)
        np.testing.assert_allclose(found, tool(q), atol=1e-12)
        nudges = step * np.eye(len(q))
        expected = [(tool(q + nudge) - tool(q - nudge)) / (2 * step) for nudge in nudges]
        np.testing.assert_allclose(jacobian, np.transpose(expected), atol=1e-8)


def test_refuses_wrong_number_of_joints_and_skew_axes():
    with pytest.raises(ValueError, match="expected 2 joint positions, got 3"):
        PLANAR.tool_position(np.zeros(3))
    with pytest.raises(ValueError, match="unit length"):
        JointFrame(frame=Frame(), axis=(1.0, 1.0, 0.0))


def test_many_postures_at_once_are_what_each_gives():
    description = load_description("panda")
    kinematics, axis = ForwardKinematics(description.kinematics()), description.approach
    postures = np.random.default_rng(0).uniform(-1.5, 1.5, (5, 7))
    singles = [kinematics.differentiate(posture, axis) for posture in postures]
    for many, each in zip(kinematics.differentiate(postures, axis), zip(*singles, strict=True), strict=True):
        np.testing.assert_array_equal(many, each)
