"""What leaves for the robot every millisecond, held against what the interface lets through."""

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.franka.connection import FciReflexError
from wpg.hardware_bridge.franka.limits import (
    ACCELERATION_MAX_RAD_S2,
    JERK_MAX_RAD_S3,
    POSITION_MAX_RAD,
    POSITION_MIN_RAD,
    inside_fci,
    limit_rate,
    speed_limits,
)
from wpg.hardware_bridge.franka.stream import CommandStream
from wpg.hardware_bridge.robot import JointCommand

REST = np.zeros(7)


@pytest.fixture
def narrow(description):
    return inside_fci(description)


def derivatives(start, positions):
    """Velocity, acceleration and jerk of a motion that starts at rest, as the robot differences it."""
    standing = np.repeat(start[None], 3, axis=0)
    velocity = np.diff(np.concatenate([standing, positions]), axis=0) / 1e-3
    acceleration = np.diff(velocity, axis=0) / 1e-3
    return velocity, acceleration, np.diff(acceleration, axis=0) / 1e-3


def within_interface(start, positions):
    velocity, acceleration, jerk = derivatives(start, positions)
    assert (positions >= POSITION_MIN_RAD).all()
    assert (positions <= POSITION_MAX_RAD).all()
    place = np.concatenate([start[None], positions])
    for before, speed in zip(place, velocity[2:], strict=False):
        low, high = speed_limits(before)
        assert (speed >= low / 0.97 - 1e-6).all()
        assert (speed <= high / 0.97 + 1e-6).all()
    assert np.abs(acceleration).max() <= ACCELERATION_MAX_RAD_S2
    assert np.abs(jerk).max() <= JERK_MAX_RAD_S3


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_for_and_whenever_the_interface_lets_it_through(narrow, seed):
    generator = np.random.default_rng(seed)
    low, high = narrow.limits("position_min_rad"), narrow.limits("position_max_rad")
    start = generator.uniform(0.7 * low + 0.3 * high, 0.3 * low + 0.7 * high)
    stream = CommandStream(narrow)
    stream.start(start)
    positions = []
    for _ in range(400):
        # Anywhere, as suddenly as can be; setpoints come in bursts, late, or not at all.
        target = generator.uniform(low - 1, high + 1)
        for _ in range(generator.integers(0, 4)):
            stream.push(JointCommand(joint_pos=target, joint_vel=REST))
        positions += [stream.step().joint_pos for _ in range(generator.integers(1, 12))]
    within_interface(start, np.array(positions))


def test_a_joint_sent_to_its_end_arrives_within_the_falling_speed_limit(narrow):
    start = narrow.limits("home_rad")
    end = narrow.limits("position_max_rad")
    stream = CommandStream(narrow)
    stream.start(start)
    positions = []
    for _ in range(1200):
        stream.push(JointCommand(joint_pos=end, joint_vel=REST))
        positions += [stream.step().joint_pos for _ in range(5)]
    within_interface(start, np.array(positions))
    np.testing.assert_allclose(positions[-1], end, atol=0.02)


def test_follows_setpoints_three_servo_periods_later(narrow):
    home = narrow.limits("home_rad")
    simulated = KinematicRobot(narrow)
    simulated.reset(home)
    motion = Motion(simulated)
    motion.start(home)
    motion.set_target(home + 0.1)
    stream = CommandStream(narrow)
    stream.start(home)
    asked, given = [], []
    for _ in range(200):
        command = motion.follow()
        stream.push(command)
        given += [stream.step().joint_pos for _ in range(5)]
        asked.append(command.joint_pos)
    lag = 3 * 5
    expected = np.repeat(np.array(asked), 5, axis=0)[:-lag]
    assert np.abs(np.array(given)[lag:] - expected).max() < 0.008
    np.testing.assert_allclose(given[-1], home + 0.1, atol=1e-6)
    assert stream.at_rest
    assert stream.dry == 0


def test_brakes_and_stays_when_setpoints_stop(narrow):
    stream = CommandStream(narrow)
    home = narrow.limits("home_rad")
    stream.start(home)
    positions = []
    for index in range(60):
        stream.push(JointCommand(joint_pos=home + 0.004 * index, joint_vel=REST))
        positions += [stream.step().joint_pos for _ in range(5)]
    assert not stream.at_rest
    positions += [stream.step().joint_pos for _ in range(300)]
    within_interface(home, np.array(positions))
    assert stream.at_rest
    assert stream.dry == 1


def test_after_braking_setpoints_are_ignored_until_the_next_start(narrow):
    stream = CommandStream(narrow)
    home = narrow.limits("home_rad")
    stream.start(home)
    stream.brake()
    for _ in range(10):
        stream.push(JointCommand(joint_pos=home + 0.01, joint_vel=REST))
    for _ in range(50):
        np.testing.assert_allclose(stream.step().joint_pos, home, atol=1e-12)


def test_clocks_that_disagree_lose_no_setpoint(narrow):
    """A robot whose millisecond is 0.3 % long or short: time is stretched, nothing is dropped or run dry."""
    home = narrow.limits("home_rad")
    for tick in (1.003, 0.997):
        stream = CommandStream(narrow)
        stream.start(home)
        due, positions = 0.0, []
        for index in range(8_000):
            while due <= index * tick:
                stream.push(JointCommand(joint_pos=home + 0.2 * np.sin(due / 300), joint_vel=REST))
                due += 5.0
            positions.append(stream.step().joint_pos)
        assert stream.dry == 0
        within_interface(home, np.array(positions))
        expected = home + 0.2 * np.sin((np.arange(8_000) * tick - 18.0)[:, None] / 300)
        assert np.abs(positions - expected)[2000:].max() < 0.01


def test_description_is_narrowed_to_the_interface(description, narrow):
    assert narrow.name == description.name
    assert (narrow.limits("position_max_rad") <= POSITION_MAX_RAD).all()
    assert narrow.joints[5].position_min_rad == 0.5445
    assert narrow.limits("acceleration_max_rad_s2").max() <= 9.0
    assert narrow.robot_spec() == description.robot_spec()


def test_other_arms_and_rates_are_refused(description):
    with pytest.raises(DescriptionError, match="expected an arm of 7 joints, found so101 with 5"):
        inside_fci(load_description("so101"))
    fast = msgspec.structs.replace(description, servo_rate_hz=1000.0, simulation=None)
    with pytest.raises(DescriptionError, match="servo_rate_hz: expected at most"):
        inside_fci(fast)


def test_after_lost_packets_the_robot_is_met_where_it_has_gone_by_itself():
    """A robot that was left with an acceleration is met within its limits, and then followed."""
    velocity, acceleration = np.full(7, 0.3), np.full(7, 8.0)
    wanted = np.full(7, 0.25)
    for _ in range(60):
        after = limit_rate(wanted, velocity, acceleration, 1e-3)
        new = (after - velocity) / 1e-3
        assert np.abs(new).max() <= ACCELERATION_MAX_RAD_S2
        assert np.abs(new - acceleration).max() / 1e-3 <= JERK_MAX_RAD_S3
        velocity, acceleration = after, new
    np.testing.assert_allclose(velocity, wanted, atol=1e-9)


def test_where_nothing_was_lost_nothing_is_changed():
    velocity, acceleration = np.full(7, 0.3), np.full(7, 8.0)
    wanted = velocity + 1e-3 * (acceleration - 4.0)
    np.testing.assert_allclose(limit_rate(wanted, velocity, acceleration, 1e-3), wanted, rtol=1e-12)


def test_only_commands_are_to_blame_where_nothing_else_is_named():
    late = '"communication_constraints_violation"'
    assert FciReflexError(f"motion aborted by reflex! [{late}]").is_of_commands
    assert not FciReflexError(f'motion aborted by reflex! ["cartesian_reflex", {late}]').is_of_commands
    assert not FciReflexError("motion aborted by reflex!").is_of_commands
