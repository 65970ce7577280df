"""Behaviour that all tasks share on every engine."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wpg.export.kinematics import ForwardKinematics
from wpg.sim_envs.registration import TASKS, task_of, train_steps

IDS = [
    f"wpg/{task}{dense}{engine}-v0" for task in TASKS for dense in ("", "Dense") for engine in ("", "Bullet")
]


@pytest.fixture(params=IDS)
def env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


@pytest.fixture(params=[name for name in IDS if "Dense" not in name])
def sparse_env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


def rollout(env, *, seed, steps):
    """Every observation and reward of random episodes."""
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    rows = [np.concatenate([*obs.values(), [0.0]])]
    for _ in range(steps):
        obs, reward, _, truncated, _ = env.step(env.action_space.sample())
        rows.append(np.concatenate([*obs.values(), [reward]]))
        if truncated:
            obs, _ = env.reset()
    return np.array(rows)


def test_gymnasium_accepts_it(env):
    check_env(env.unwrapped, skip_render_check="Dense" in env.spec.id)  # pictures know no reward


def test_same_seed_same_bits(sparse_env):
    first = rollout(sparse_env, seed=7, steps=1000)
    assert np.array_equal(first[:301], rollout(sparse_env, seed=7, steps=300))
    fresh = gymnasium.make(sparse_env.spec.id)
    assert np.array_equal(first, rollout(fresh, seed=7, steps=1000))
    assert not np.array_equal(first[:51], rollout(fresh, seed=8, steps=50))
    fresh.close()


def test_step_reward_is_what_relabelling_computes(env):
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(20):
        obs, reward, terminated, _, info = env.step(env.action_space.sample())
        again = env.unwrapped.compute_reward(obs["achieved_goal"], obs["desired_goal"], info)
        assert reward == float(again)
        assert not terminated
        distance = np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"])
        assert info["is_success"] == (distance <= env.unwrapped.tolerance_m)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None], ids=["nan", "inf", "short"])
def test_refuses_bad_actions(sparse_env, bad):
    action = np.zeros(sparse_env.action_space.shape, np.float32)
    wrong = action[:-1] if bad is None else np.append(action[:-1], np.float32(bad))
    sparse_env.reset(seed=0)
    with pytest.raises(ValueError, match=f"expected {len(action)} finite numbers as action"):
        sparse_env.unwrapped.step(wrong)
    sparse_env.step(action)


@pytest.mark.parametrize("task", TASKS)
def test_engines_and_rewards_declare_the_same(task):
    envs = [
        gymnasium.make(name)
        for name in IDS
        if name.startswith((f"wpg/{task}-", f"wpg/{task}D", f"wpg/{task}B"))
    ]
    assert len(envs) == 4
    for other in envs[1:]:
        assert other.observation_space == envs[0].observation_space
        assert other.action_space == envs[0].action_space
        assert other.unwrapped.interface == envs[0].unwrapped.interface
        assert other.spec.max_episode_steps == envs[0].spec.max_episode_steps
    for env in envs:
        env.close()


def test_interface_describes_the_observation(env):
    interface = env.unwrapped.interface
    obs, _ = env.reset(seed=0)
    assert interface.obs_dim == len(obs["observation"]) + len(obs["desired_goal"])
    assert interface.observation[-1].source == "goal"
    assert interface.control_dt_s == pytest.approx(0.05)
    entries = np.split(obs["observation"], np.cumsum([term.size for term in interface.observation[:-2]]))
    terms = dict(zip([term.name for term in interface.observation], entries, strict=False))
    np.testing.assert_array_equal(terms[env.unwrapped.achieved], obs["achieved_goal"])
    tool = ForwardKinematics(interface.robot.kinematics).tool_position(terms["joint_pos"])
    np.testing.assert_allclose(terms["tool_pos"], tool, atol=1e-6)


def test_unknown_reward():
    with pytest.raises(ValueError, match="unknown reward 'shaped': expected sparse or dense"):
        gymnasium.make("wpg/PandaReach-v0", reward="shaped")


def test_time_limit_truncates(sparse_env):
    steps = sparse_env.spec.max_episode_steps
    sparse_env.reset(seed=0)
    still = np.zeros(sparse_env.action_space.shape, np.float32)
    ends = [sparse_env.step(still)[3] for _ in range(steps)]
    assert ends == [False] * (steps - 1) + [True]


def test_reward_of_many_goals_at_once(env):
    tolerance = env.unwrapped.tolerance_m
    rng = np.random.default_rng(0)
    achieved = rng.uniform(-1, 1, (5, 4, 3)).astype(np.float32)
    offset = np.array([0.0, 0.95 * tolerance, 1.05 * tolerance, 0.5], np.float32)
    desired = achieved.copy()
    desired[:, :, 1] += offset
    reward = env.unwrapped.compute_reward(achieved, desired, [{}])
    assert reward.shape == (5, 4)
    expected = -offset if "Dense" in env.spec.id else [0.0, 0.0, -1.0, -1.0]
    np.testing.assert_allclose(reward, np.broadcast_to(expected, (5, 4)), atol=1e-6)
    assert env.unwrapped.compute_reward(achieved[0, 0], desired[0, 0], {}).shape == ()
    terminated = env.unwrapped.compute_terminated(achieved, desired, [{}])
    assert terminated.shape == reward.shape
    assert not terminated.any()


def test_engine_prints_nothing_on_standard_output():
    code = "import gymnasium; gymnasium.make('wpg.sim_envs:wpg/PandaReachBullet-v0').reset(seed=0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_registration_imports_no_engine():
    code = (
        "import sys, gymnasium, wpg.sim_envs; "
        "gymnasium.spec('wpg/PandaReach-v0'); "
        "print('mujoco' in sys.modules or 'pybullet' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_many_at_once():
    envs = gymnasium.make_vec("wpg/PandaReach-v0", num_envs=3)
    obs, _ = envs.reset(seed=0)
    assert obs["observation"].shape == (3, 17)
    _, reward, *_ = envs.step(envs.action_space.sample())
    assert reward.shape == (3,)
    envs.close()


@pytest.mark.parametrize(
    ("env_id", "steps"),
    [
        ("wpg/PandaReach-v0", 18_000),
        ("wpg/PandaReachDenseBullet-v0", 54_000),
        ("wpg/PandaPushDenseBullet-v0", 300_000),
        ("wpg.sim_envs:wpg/PandaReachDense", 54_000),
        ("PandaReach-v0", None),
        ("Hopper-v5", None),
    ],
)
def test_every_task_says_how_long_it_takes_to_learn(env_id, steps):
    assert train_steps(env_id) == steps


@pytest.mark.parametrize("task", TASKS)
def test_an_id_names_its_task_whatever_comes_before_and_behind(task):
    for ending in ("", "Dense", "Bullet", "DenseBullet"):
        for env_id in (f"wpg/{task}{ending}-v0", f"wpg/{task}{ending}", f"my.tasks:wpg/{task}{ending}-v0"):
            assert task_of(env_id) is TASKS[task]


@pytest.mark.parametrize(
    "env_id", ["wpg/Mine-v0", "wpg/PandaReach-v1", "PandaReach-v0", "my/wpg/PandaReach-v0"]
)
def test_ids_of_others_name_no_task(env_id):
    assert task_of(env_id) is None
