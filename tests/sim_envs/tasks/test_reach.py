import gymnasium
import numpy as np
import pytest
from scipy.optimize import least_squares

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import load_description, shipped_robots
from wpg.sim_envs.tasks.interface import term_slice

ENV_IDS = ["wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"]


@pytest.fixture(params=ENV_IDS)
def env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


@pytest.fixture(params=shipped_robots())
def any_env(request):
    """Every shipped arm, on one engine, as the tests are of the task's own code."""
    env = gymnasium.make(ENV_IDS[0], robot=request.param)
    yield env
    env.close()


def test_goals_lie_in_the_declared_box(any_env):
    env, goal = any_env, any_env.unwrapped.interface.goal
    goals = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(100)])
    assert (goals >= np.float32(goal.low)).all()
    assert (goals <= np.float32(goal.high)).all()
    assert (np.ptp(goals, axis=0) > 0.8 * (np.array(goal.high) - goal.low)).all()


def test_limits_hold_under_random_actions(env, description):
    low, high = description.limits("position_min_rad"), description.limits("position_max_rad")
    speed = description.motion_fraction * description.limits("velocity_max_rad_s")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for step in range(500):
        if step % 10 == 0:  # long enough to reach full speed
            direction = rng.choice([-1.0, 1.0], 7).astype(np.float32)
        obs, _, _, truncated, _ = env.step(direction)
        joint_pos, joint_vel = obs["observation"][:7], obs["observation"][7:14]
        assert (joint_pos > low - 0.01).all()
        assert (joint_pos < high + 0.01).all()
        assert (np.abs(joint_vel) < 1.1 * speed).all()
        if truncated:
            env.reset()


@pytest.mark.parametrize("robot", shipped_robots())
@pytest.mark.parametrize("name", ENV_IDS)
def test_inverse_kinematics_solves_it(name, robot):
    """The task can be solved within the time limit, and the tool frame is right."""
    env = gymnasium.make(name, robot=robot)
    description = load_description(robot)
    kinematics = ForwardKinematics(description.kinematics())
    bounds = (description.limits("position_min_rad"), description.limits("position_max_rad"))
    interface = env.unwrapped.interface
    scale = interface.action.scale
    counted_from = term_slice(
        interface, "joint_target" if interface.action.delta_from == "target" else "joint_pos"
    )
    successes = []
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        goal = obs["desired_goal"].astype(np.float64)
        start = np.clip(obs["observation"][: description.num_joints].astype(np.float64), *bounds)
        target = least_squares(
            lambda q, goal=goal: kinematics.tool_position(q) - goal, start, bounds=bounds
        ).x
        for _ in range(env.spec.max_episode_steps):
            action = (target - obs["observation"][counted_from]) / scale
            obs, _, _, _, info = env.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        successes.append(info["is_success"])
    env.close()
    assert np.mean(successes) >= 0.95


def test_an_episode_may_begin_as_given(env):
    start, goal = (
        np.linspace(-0.2, 0.2, 7) + env.unwrapped.robot.description.limits("home_rad"),
        [0.5, 0.1, 0.3],
    )
    obs, _ = env.reset(seed=0, options={"joint_pos_rad": start.tolist(), "goal_m": goal})
    np.testing.assert_allclose(obs["observation"][:7], start, atol=1e-6)
    np.testing.assert_array_equal(obs["desired_goal"], np.float32(goal))


@pytest.mark.parametrize(
    "bad", [0.3, [0.5], [0.5, 0.1, 0.2, 0.3], [0.5, np.nan, 0.3], [0.5, np.inf, 0.3], None, "far"]
)
def test_a_goal_is_three_finite_numbers(env, bad):
    with pytest.raises(ValueError, match=r"^goal_m: expected 3 finite numbers, found "):
        env.reset(seed=0, options={"goal_m": bad})


@pytest.mark.parametrize("bad", [0.0, [0.0] * 3, [np.nan] * 7])
def test_a_start_is_a_finite_number_for_each_joint(env, bad):
    with pytest.raises(ValueError, match=r"^joint_pos_rad: expected 7 finite numbers, found "):
        env.reset(seed=0, options={"joint_pos_rad": bad})


def test_a_start_lies_within_the_joints_limits(env):
    description = env.unwrapped.robot.description
    highest = description.limits("position_max_rad")
    env.reset(seed=0, options={"joint_pos_rad": highest + 0.01})  # as a real arm may be measured
    start = description.limits("home_rad")
    start[3] = 9.0
    name = description.joints[3].name
    with pytest.raises(
        ValueError, match=rf"^joint_pos_rad: expected {name} from -3\.\S+ to -0\.\S+, found 9\.0$"
    ):
        env.reset(seed=0, options={"joint_pos_rad": start})
    env.reset(seed=0)
