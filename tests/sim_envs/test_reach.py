import gymnasium
import numpy as np
import pytest
from scipy.optimize import least_squares

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import load_description, shipped_robots
from wpg.sim_envs.task_interface import term_slice

ENV_IDS = ["wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"]


@pytest.fixture(params=ENV_IDS)
def env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


@pytest.fixture(params=shipped_robots())
def any_env(request):
    """Every shipped arm; the first engine stands for both where the task's own code is tested."""
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
    """The task can be done within the horizon, and the tool frame is right."""
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
