"""Behaviour that simulated robots share on every engine."""

from importlib.metadata import version

import numpy as np
import pybullet
import pytest
from msgspec import structs

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, SimulatedRobot, StopMode
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs import engines
from wpg.sim_envs.engines import ENGINES, make_robot
from wpg.sim_envs.errors import EngineError

AGREEMENT_RAD = 1e-5 if int(version("mujoco").partition(".")[0]) >= 4 else 1e-3
"""MuJoCo 3 also damps a joint that is at its torque limit."""


def command(joint_pos, joint_vel=None):
    return JointCommand(
        joint_pos=joint_pos, joint_vel=np.zeros_like(joint_pos) if joint_vel is None else joint_vel
    )


def follow(robots, description, *, seconds, seed):
    """Send every robot the same jerk-limited motion; returns setpoints and all motions, (T, ..., J)."""
    rng = np.random.default_rng(seed)
    home = description.limits("home_rad")
    setpoints = SetpointGenerator(description, description.servo_dt_s)
    setpoints.reset(home)
    for robot in robots:
        robot.reset(home)
    sent, done = [], []
    for tick in range(round(seconds / description.servo_dt_s)):
        if tick % 100 == 0:
            setpoints.set_target(home + rng.uniform(-0.4, 0.4, len(home)))
        wanted = setpoints.step()
        for robot in robots:
            robot.write(wanted)
            robot.advance(description.servo_dt_s)
        sent.append(wanted.joint_pos)
        done.append([robot.read().joint_pos for robot in robots])
    return np.array(sent), np.array(done)


def test_is_a_simulated_robot(robot):
    assert isinstance(robot, SimulatedRobot)
    assert robot.description.name == "panda"


def test_engine_and_contract_agree_where_the_tool_is(any_robot):
    robot, description = any_robot, any_robot.description
    rng = np.random.default_rng(0)
    kinematics = ForwardKinematics(description.robot_spec().kinematics)
    low, high = description.limits("position_min_rad"), description.limits("position_max_rad")
    for joint_pos in rng.uniform(low, high, (50, description.num_joints)):
        robot.reset(joint_pos)
        np.testing.assert_allclose(robot.tool_position(), kinematics.tool_position(joint_pos), atol=1e-6)


def test_tracks_setpoints(any_robot):
    sent, done = follow([any_robot], any_robot.description, seconds=3.0, seed=1)
    rmse = np.sqrt(((done[:, 0] - sent) ** 2).mean(axis=0))
    assert rmse.max() < 0.005
    assert np.abs(sent[-1] - sent[0]).max() > 0.1


def test_no_joint_trembles_where_two_axes_fall_in_one_line(robot, description):
    """Joints 1 and 3 share an axis when the elbow is straight: their difference moves almost no mass."""
    straight = description.limits("home_rad")
    straight[1], straight[3] = 0.0, -0.1
    robot.reset(straight)
    robot.write(command(straight + 0.05 * np.array([1, 0, -1, 0, 0, 0, 0])))
    robot.advance(0.5)
    for _ in range(20):
        robot.advance(description.simulation.step_s)
        assert np.abs(robot.read().joint_vel).max() < 0.02


def test_engines_agree(any_description):
    robots = [make_robot(any_description, engine) for engine in ENGINES]
    _, done = follow(robots, any_description, seconds=5.0, seed=2)
    rmse = np.sqrt(((done[:, 0] - done[:, 1]) ** 2).mean(axis=0))
    assert rmse.max() < AGREEMENT_RAD
    for robot in robots:
        robot.close()


def test_stands_still_against_gravity(any_robot):
    robot, description = any_robot, any_robot.description
    home = description.limits("home_rad")
    robot.reset(home)
    robot.advance(2.0)
    state = robot.read()
    np.testing.assert_allclose(state.joint_pos, home, atol=1e-5)
    assert np.abs(state.joint_torque).max() > 5.0  # what gravity asks for at home
    assert state.time_s == pytest.approx(2.0)


def test_time_and_sequence_count_physics_steps(robot, description):
    robot.reset(description.limits("home_rad"))
    first = robot.read()
    assert (first.sequence, robot.read().sequence) == (0, 0)
    robot.advance(description.servo_dt_s)
    assert robot.read().sequence == round(description.servo_dt_s / description.simulation.step_s)
    with pytest.raises(ValueError, match=r"multiple of the physics step 0\.005 s, found 0\.003"):
        robot.advance(0.003)


def test_follows_only_when_armed(robot, description):
    home = description.limits("home_rad")
    robot.connect()
    assert robot.read().status is RobotStatus.IDLE
    sent = robot.write(command(home + 0.2))
    np.testing.assert_allclose(sent.joint_pos, home)
    robot.advance(0.5)
    np.testing.assert_allclose(robot.read().joint_pos, home, atol=1e-5)
    robot.arm()
    assert robot.read().status is RobotStatus.ARMED
    assert robot.write(command(home + 0.02)).joint_pos == pytest.approx(home + 0.02)
    robot.advance(1.0)
    np.testing.assert_allclose(robot.read().joint_pos, home + 0.02, atol=1e-4)


def test_hold_stops_a_motion_and_ends_with_arm(robot, description):
    home = description.limits("home_rad")
    robot.reset(home)
    robot.write(command(home + 0.1, np.full_like(home, 0.5)))
    robot.advance(0.1)
    held = robot.read().joint_pos
    robot.stop(StopMode.HOLD)
    robot.write(command(home - 0.3))
    robot.advance(1.0)
    state = robot.read()
    assert state.status is RobotStatus.HOLDING
    np.testing.assert_allclose(state.joint_pos, held, atol=1e-3)
    robot.arm()
    robot.write(command(held + 0.02))
    robot.advance(1.0)
    np.testing.assert_allclose(robot.read().joint_pos, held + 0.02, atol=1e-3)


def test_damped_arm_sinks_slower_than_a_released_one(robot, description):
    speed = {}
    for mode, status in ((StopMode.DAMP, RobotStatus.DAMPING), (StopMode.RELEASE, RobotStatus.RELEASED)):
        robot.reset(description.limits("home_rad"))
        height = robot.tool_position()[2]
        robot.stop(mode)
        robot.advance(0.3)
        state = robot.read()
        assert state.status is status
        assert robot.tool_position()[2] < height - 0.001
        speed[mode] = np.abs(state.joint_vel).max()
    assert speed[StopMode.DAMP] < 0.5
    assert speed[StopMode.RELEASE] > 1.0
    assert not np.any(state.joint_torque)


def test_servo_torque_stays_within_limits(robot, description):
    home, top = description.limits("home_rad"), description.limits("torque_max_nm")
    robot.reset(home)
    robot.advance(0.1)
    gravity = robot.read().joint_torque
    robot.write(command(home + 0.5))
    robot.advance(description.simulation.step_s)
    np.testing.assert_allclose(robot.read().joint_torque, top + gravity, rtol=1e-3)


def test_each_joint_has_the_gains_that_the_description_names_at_its_place(engine, description):
    step_rad, stiffness = 0.005, np.array([900.0, 300.0, 700.0, 400.0, 200.0, 150.0, 100.0])
    gains = {"stiffness_nm_rad": tuple(stiffness.tolist()), "damping_nm_s_rad": (0.01,) * 7}
    simulation = structs.replace(description.simulation, **gains)
    robot = make_robot(structs.replace(description, simulation=simulation), engine)
    home = description.limits("home_rad")
    robot.reset(home)
    robot.advance(simulation.step_s)
    before = robot.read().joint_torque
    robot.write(command(home + step_rad))
    robot.advance(simulation.step_s)
    np.testing.assert_allclose(robot.read().joint_torque - before, stiffness * step_rad, rtol=0.35)
    robot.close()


def test_table_stops_the_arm(robot, description):
    home = description.limits("home_rad")
    robot.reset(home)
    robot.stop(StopMode.RELEASE)
    for _ in range(20):
        robot.advance(0.1)
        assert robot.tool_position()[2] > -0.02


def test_reset_forgets(robot, description):
    home = description.limits("home_rad")
    first = follow([robot], description, seconds=0.5, seed=3)[1]
    robot.stop(StopMode.RELEASE)
    robot.advance(1.0)
    assert np.array_equal(first, follow([robot], description, seconds=0.5, seed=3)[1])
    robot.reset(home)
    assert np.array_equal(robot.read().joint_pos, home)
    assert not np.any(robot.read().joint_vel)


def test_visuals_leave_physics_alone(engine, description):
    robots = [make_robot(description, engine, visuals=visuals) for visuals in (False, True)]
    _, done = follow(robots, description, seconds=0.5, seed=4)
    assert np.array_equal(done[:, 0], done[:, 1])
    for robot in robots:
        robot.close()


def test_close_twice(robot):
    robot.close()
    robot.close()


def test_loading_prints_nothing(engine, description, capfd):
    make_robot(description, engine).close()
    assert capfd.readouterr() == ("", "")


def test_unknown_engine():
    with pytest.raises(EngineError, match=r"unknown engine 'ode': expected one of mujoco, pybullet"):
        make_robot(load_description("panda"), "ode")


def test_missing_engine_says_how_to_get_it(engine, description, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=rf"pip install {engine}"):
        make_robot(description, engine)


def test_a_light_last_link_that_is_hit_comes_to_rest():
    """The damping demands more than the torque limit, which would reverse the spin within one step."""
    arm = make_robot(load_description("xarm6"), "pybullet")
    home = arm.description.limits("home_rad")
    arm.reset(home)
    last = len(home) - 1
    pybullet.resetJointState(arm._body, last, home[last], -3.0, physicsClientId=arm._client)
    arm.advance(0.05)
    assert abs(arm.read().joint_vel[last]) < 0.1
    arm.close()
