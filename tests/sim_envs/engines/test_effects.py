"""Effects against closed forms, on every engine."""

import gymnasium
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.robot import JointCommand
from wpg.sim_envs.effects import Effects, JointEffects, Spread
from wpg.sim_envs.engines import ENGINES, make_robot
from wpg.sim_envs.engines.actuator import Actuator, DelayLine, JointSensor
from wpg.sim_envs.models.scene import Scene
from wpg.sim_envs.tasks.interface import task_kwargs
from wpg.sim_envs.tasks.table import CUBE

IDS = ["wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"]
MANY = Effects(
    action_delay_s=(0.0, 0.03),
    observation_delay_s=0.0125,
    lag_s=0.01,
    dropped_commands=0.05,
    coulomb_friction_nm=(0.2, 0.5),
    viscous_friction_nm_s_rad=0.3,
    friction_factor=Spread(low=0.5, high=2.0, kind="log_uniform"),
    stiffness_factor=(0.8, 1.2),
    damping_factor=0.9,
    torque_limit_factor=0.8,
    armature_kg_m2=0.05,
    mass_factor=1.05,
    inertia_factor=1.1,
    payload_kg=(0.0, 0.5),
    joint_pos_noise_rad=Spread(low=0.0, high=0.002, kind="normal"),
    joint_vel_noise_rad_s=0.01,
    joint_pos_resolution_rad=0.001,
    joint_vel_resolution_rad_s=0.01,
    table_height_m=-0.01,
    gravity_tilt_x_rad=0.01,
    gravity_tilt_y_rad=(-0.02, 0.02),
)


@pytest.fixture
def arm(engine, description):
    """A function that makes an arm at home with given effects."""
    arms = []

    def make(**effects):
        robot = make_robot(description, engine, scene=Scene(payload=True))
        rng = np.random.default_rng(0)
        robot.apply(Effects(**effects).draw(rng, description), rng)
        robot.reset(description.limits("home_rad"))
        arms.append(robot)
        return robot

    yield make
    for robot in arms:
        robot.close()


def stepped(robot, target, *, ticks):
    """Hold one setpoint; returns measured positions (ticks, J)."""
    rows = []
    for _ in range(ticks):
        robot.write(JointCommand(joint_pos=target, joint_vel=np.zeros_like(target)))
        robot.advance(robot.description.servo_dt_s)
        rows.append(robot.read().joint_pos)
    return np.array(rows)


def swing(robot, *, seconds=1.0):
    """Follow a smooth motion of all joints; returns measured positions (T, J)."""
    home, dt_s = robot.description.limits("home_rad"), robot.description.servo_dt_s
    rows = []
    for tick in range(round(seconds / dt_s)):
        phase = 2 * np.pi * tick * dt_s
        pos, vel = home + 0.1 * (1 - np.cos(phase)), np.full_like(home, 0.2 * np.pi * np.sin(phase))
        robot.write(JointCommand(joint_pos=pos, joint_vel=vel))
        robot.advance(dt_s)
        rows.append(robot.read().joint_pos)
    return np.array(rows)


def test_delay_line_is_a_shift():
    line = DelayLine(0.013)
    line.restart(np.array([0.0]))
    for tick in range(40):
        line.push(0.01 * tick, np.array([0.01 * tick]))
        if tick > 1:
            assert line.at(0.01 * tick)[0] == pytest.approx(0.01 * tick - 0.013)
    assert len(line._rows) < 5


def test_no_delay_no_lag_changes_nothing(description):
    rng = np.random.default_rng(0)
    actuator = Actuator(Effects().draw(rng, description), 0.005, rng)
    actuator.restart(np.zeros(7))
    for tick in range(10):
        wanted = rng.normal(size=7)
        actuator.send(0.005 * tick, wanted)
        assert np.array_equal(actuator.step(0.005 * tick), wanted)


def test_lag_is_an_exponential(description):
    rng = np.random.default_rng(0)
    actuator = Actuator(Effects(lag_s=0.02).draw(rng, description), 0.005, rng)
    actuator.restart(np.zeros(7))
    actuator.send(0.0, np.ones(7))
    rows = [actuator.step(0.005 * tick) for tick in range(8)]
    np.testing.assert_allclose(rows[-1], 1 - np.exp(-0.04 / 0.02))


def test_dropped_commands_are_dropped_that_often(description):
    rng = np.random.default_rng(0)
    actuator = Actuator(Effects(dropped_commands=0.3).draw(rng, description), 0.005, rng)
    actuator.restart(np.zeros(7))
    kept = []
    for tick in range(2000):
        actuator.send(0.005 * tick, np.full(7, tick))
        kept.append(actuator.step(0.005 * tick)[0] == tick)
    assert np.mean(kept) == pytest.approx(0.7, abs=0.04)


def test_effects_that_are_neutral_leave_the_motion_alone(arm, engine, description):
    plain = make_robot(description, engine)
    plain.reset(description.limits("home_rad"))
    np.testing.assert_allclose(swing(arm()), swing(plain), atol=1e-7)
    plain.close()


@pytest.mark.parametrize("delay_s", [0.02, 0.0125])
def test_either_delay_shifts_the_motion(arm, delay_s):
    """A delay of actions and a delay of observations shift the motion equally, up to interpolation errors."""
    prompt = swing(arm())
    late = [swing(arm(action_delay_s=delay_s)), swing(arm(observation_delay_s=delay_s))]
    np.testing.assert_allclose(late[0], late[1], atol=2e-4)
    ticks = delay_s / 0.005
    times = np.arange(len(prompt)) - ticks
    expected = np.stack([np.interp(times, np.arange(len(prompt)), row) for row in prompt.T], axis=1)
    np.testing.assert_allclose(late[1][10:], expected[10:], atol=1e-6)


def test_dry_friction_holds_back_what_the_spring_cannot_overcome(arm, description):
    """At rest the servo's error times its gain is at most the friction."""
    target = description.limits("home_rad") + 0.05
    error = np.abs(stepped(arm(coulomb_friction_nm=2.0), target, ticks=200)[-1] - target)
    free = np.abs(stepped(arm(), target, ticks=200)[-1] - target)
    assert (error > 5 * free).all()
    assert (error * description.simulation.stiffness_nm_rad < 2.01).all()


def test_friction_slows_a_falling_arm(arm):
    speeds = []
    for friction in (0.0, 1.0, 3.0):
        robot = arm(viscous_friction_nm_s_rad=friction)
        robot.stop(3)
        robot.advance(0.3)
        speeds.append(np.abs(robot.read().joint_vel).max())
    assert speeds[0] > speeds[1] > speeds[2]


@pytest.mark.parametrize(
    "effects",
    [{"payload_kg": 2.0}, {"mass_factor": 1.2}, {"gravity_tilt_y_rad": 0.1}, {"gravity_tilt_x_rad": 0.1}],
    ids=str,
)
def test_what_gravity_compensation_does_not_know_makes_the_arm_sag(arm, effects, description):
    home = description.limits("home_rad")
    robot = arm(**effects)
    robot.advance(1.5)
    sag = robot.read().joint_pos - home
    assert np.abs(sag).max() > 5e-4
    if "payload_kg" in effects:
        from wpg.export.kinematics import ForwardKinematics

        kinematics = ForwardKinematics(description.kinematics())
        heights = [kinematics.tool_position(home + 1e-6 * axis)[2] for axis in np.eye(7)]
        lever = (np.array(heights) - kinematics.tool_position(home)[2]) / 1e-6
        expected = -2.0 * 9.81 * lever / np.array(description.simulation.stiffness_nm_rad)
        np.testing.assert_allclose(sag, expected, atol=1e-4)


def test_torque_limit_and_gains_are_scaled(arm, description):
    home = description.limits("home_rad")
    robot = arm(torque_limit_factor=0.5, stiffness_factor=0.5)
    still = robot.read().joint_torque
    robot.advance(0.1)
    gravity = robot.read().joint_torque
    stepped(robot, home + 0.5, ticks=1)
    expected = 0.5 * description.limits("torque_max_nm")
    np.testing.assert_allclose(robot.read().joint_torque - gravity, expected, rtol=0.01, atol=0.01)
    assert not np.array_equal(still, gravity)


def test_armature_slows_the_start(arm, description):
    home = description.limits("home_rad")
    nudge = 0.3 * description.limits("torque_max_nm") / description.simulation.stiffness_nm_rad
    first = [stepped(arm(armature_kg_m2=a), home + nudge, ticks=2)[-1] - home for a in (0.0, 1.0)]
    assert np.linalg.norm(first[1]) < 0.7 * np.linalg.norm(first[0])


def test_noise_and_resolution(arm, description):
    robot = arm(joint_pos_noise_rad=0.01, joint_vel_resolution_rad_s=0.25)
    rows = np.array([robot.read().joint_pos for _ in range(300)]) - description.limits("home_rad")
    assert rows.std() == pytest.approx(0.01, rel=0.1)
    swing(robot, seconds=0.2)
    steps = robot.read().joint_vel / 0.25
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert np.abs(steps).max() >= 1


def test_a_sensor_adds_offset_and_noise_and_rounds(description):
    rng = np.random.default_rng(0)
    effects = Effects(
        joint_pos_offset_rad=0.2,
        joint_pos_resolution_rad=0.5,
        joint_vel_noise_rad_s=0.1,
        joint_torque_noise_nm=3.0,
    )
    sensor = JointSensor(effects.draw(rng, description), rng)
    sensor.restart((np.array([0.0, 0.1, -0.5, 1.2, 0.0, 0.0, 0.0]), np.full(7, 2.0), np.full(7, -5.0)))
    joint_pos, joint_vel, joint_torque = np.moveaxis([sensor.read(0.0) for _ in range(2000)], 1, 0)
    np.testing.assert_allclose(joint_pos, np.tile([0.0, 0.5, -0.5, 1.5, 0.0, 0.0, 0.0], (2000, 1)))
    for values, mean, deviation in ((joint_vel, 2.0, 0.1), (joint_torque, -5.0, 3.0)):
        assert values.mean() == pytest.approx(mean, abs=0.05 * deviation)
        assert values.std() == pytest.approx(deviation, rel=0.05)


def test_gravity_of_a_base_that_is_tilted_about_x_and_then_y(description):
    x, y = 0.3, -0.5
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    effects = Effects(gravity_tilt_x_rad=x, gravity_tilt_y_rad=y)
    gravity = effects.draw(np.random.default_rng(0), description).gravity_m_s2(9.81)
    np.testing.assert_allclose(gravity, (about_y @ about_x).T @ np.array([0.0, 0.0, -9.81]), atol=1e-12)


def test_engines_agree_under_effects(description):
    """Without chance and contacts the physics of both engines is the same."""
    effects = Effects(
        action_delay_s=0.0175,
        lag_s=0.02,
        coulomb_friction_nm=0.5,
        viscous_friction_nm_s_rad=0.5,
        stiffness_factor=0.8,
        armature_kg_m2=0.1,
        mass_factor=1.1,
        gravity_tilt_y_rad=0.05,
    )
    rows = []
    for engine in ENGINES:
        rng = np.random.default_rng(0)
        robot = make_robot(description, engine, scene=Scene(payload=True))
        robot.apply(effects.draw(rng, description), rng)
        robot.reset(description.limits("home_rad"))
        rows.append(swing(robot, seconds=2.0))
        robot.close()
    assert np.sqrt(((rows[0] - rows[1]) ** 2).mean(axis=0)).max() < 1e-4


def test_table_height_and_what_lies_on_it(engine, description):
    robot = make_robot(description, engine, scene=Scene(cube=CUBE, payload=True))
    for height in (0.1, -0.05):
        rng = np.random.default_rng(0)
        robot.apply(Effects(table_height_m=height, object_mass_factor=2.0).draw(rng, description), rng)
        robot.reset(description.limits("home_rad"))
        robot.place_cube(np.array([0.5, 0.1, height + CUBE.half_size_m + 0.005]), 0.3)
        robot.advance(0.5)
        assert robot.cube_state().position_m[2] == pytest.approx(height + CUBE.half_size_m, abs=1e-3)
    robot.close()


def test_slippery_objects_slide_further(engine, description):
    ways = []
    for factor in (1.0, 0.5):
        robot = make_robot(description, engine, scene=Scene(cube=CUBE, payload=True))
        rng = np.random.default_rng(0)
        drawn = Effects(object_friction_factor=factor, gravity_tilt_y_rad=0.8).draw(rng, description)
        robot.apply(drawn, rng)
        robot.reset(description.limits("home_rad"))
        robot.place_cube(np.array([0.5, 0.1, CUBE.half_size_m]), 0.0)
        robot.advance(0.2)
        ways.append(robot.cube_state().position_m[0] - 0.5)
        robot.close()
    slopes = [max(0.0, np.sin(0.8) - 0.5 * factor * np.cos(0.8)) for factor in (1.0, 0.5)]
    np.testing.assert_allclose(ways, 0.5 * 9.81 * 0.2**2 * np.array(slopes), rtol=0.1)


@pytest.mark.parametrize("name", IDS)
def test_environment_draws_by_seed_and_says_what(name):
    env = gymnasium.make(name, effects=MANY)
    low, high = MANY.action_delay_s
    seen = []
    for seed in (1, 2, 1):
        obs, info = env.reset(seed=seed)
        drawn = info["effects"]
        assert low <= drawn["action_delay_s"] <= high
        assert drawn["coulomb_friction_nm"].shape == (7,)
        for _ in range(5):
            obs, *_ = env.step(np.ones(7, np.float32))
        seen.append(np.concatenate([obs["observation"], drawn["stiffness_factor"]]))
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])
    interface = env.unwrapped.interface
    assert interface.trained_delay_s == pytest.approx((0.0125, 0.0425))
    assert interface.trained_ranges["friction_factor"] == (0.5, 2.0)
    assert "action_delay_s" not in interface.trained_ranges
    env.close()


LATE = Effects(action_delay_s=(0.0, 0.06), observation_delay_s=0.02)


@pytest.mark.parametrize(
    ("given", "history"),
    [
        ({}, 0),
        ({"effects": Effects(lag_s=0.02)}, 0),
        ({"effects": Effects(action_delay_s=0.05)}, 1),
        ({"effects": LATE}, 2),
        ({"effects": LATE, "target_history": 0}, 0),
        ({"target_history": 3}, 3),
        ({"robot": "so101"}, 1),
        ({"robot": "so101", "effects": LATE}, 2),
    ],
)
def test_of_a_late_arm_the_targets_under_way_are_seen(given, history):
    env = gymnasium.make(IDS[0], **given)
    interface = env.unwrapped.interface
    seen = [term.history for term in interface.observation if term.source == "joint_target"]
    assert seen == [history] * bool(history)
    assert interface.action.delta_from == ("target" if history else "measured")
    assert task_kwargs(interface) == {"control": "joints", "target_history": history}
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    env.close()


def test_late_actions_count_from_the_target_before(description):
    env = gymnasium.make(IDS[0], effects=LATE)
    obs, _ = env.reset(seed=0)
    kinematics = ForwardKinematics(description.kinematics())
    start = obs["observation"][:7]
    for number in range(4):
        targets, tool = obs["observation"][17:31].reshape(2, 7), obs["observation"][31:]
        np.testing.assert_allclose(targets[0], start + 0.012 * number, atol=1e-6)
        np.testing.assert_allclose(targets[1], start + 0.012 * max(number - 1, 0), atol=1e-6)
        np.testing.assert_allclose(tool, kinematics.tool_position(targets[0].astype(float)), atol=1e-6)
        obs, *_ = env.step(np.full(7, 0.4, np.float32))
    env.close()


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        JointEffects(lag_s=0.1).lag_s = 0.2


def test_objects_are_seen_late_too(engine):
    """A cube that is moved by hand is observed there only after the delay; success is judged at once."""
    env = gymnasium.make(
        f"wpg/PandaPush{'' if engine == 'mujoco' else 'Bullet'}-v0",
        effects=Effects(observation_delay_s=0.075),
    )
    obs, _ = env.reset(seed=0)
    before, goal = obs["achieved_goal"], obs["desired_goal"]
    env.unwrapped.robot.place_cube(goal.astype(np.float64), 0.0)
    seen = []
    for _ in range(3):
        obs, _, _, _, info = env.step(np.zeros(env.action_space.shape, np.float32))
        seen.append(np.linalg.norm(obs["achieved_goal"] - goal) / np.linalg.norm(before - goal))
        assert info["is_success"]
    np.testing.assert_allclose(seen, [1.0, 0.5, 0.0], atol=0.02)
    env.close()
