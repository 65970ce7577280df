import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wpg.controllers.environment import inspect_env, make_envs
from wpg.controllers.replay import Shares, make_replay
from wpg.controllers.rollout import Rollout
from wpg.controllers.stepping import InProcess
from wpg.sim_envs.effects import Effects
from wpg.sim_envs.vector import ProcessVectorEnv

ID = "wpg/PandaReach-v0"


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


def in_processes(env_id, **kwargs):
    return ProcessVectorEnv(env_id, num_envs=3, num_workers=2, **kwargs)


def in_one(env_id, **kwargs):
    return gymnasium.make_vec(env_id, num_envs=3, **kwargs)


@pytest.mark.parametrize(
    ("make", "env_id", "effects"),
    [
        (in_one, ID, None),
        (in_one, ID, Effects(action_delay_s=(0.0, 0.05))),
        (in_one, "wpg/PandaReachDenseBullet-v0", None),
        (in_one, "wpg/PandaPush-v0", Effects(observation_delay_s=0.03)),
        (in_one, "wpg/PandaPickAndPlace-v0", None),
        (in_one, "wpg/PandaInsertDense-v0", None),
        (in_processes, ID, None),
        (in_processes, ID, Effects(action_delay_s=(0.0, 0.05))),
    ],
)
def test_is_what_single_environments_give(make, env_id, effects):
    """Bit for bit, over an automatic reset, with shares of unequal size."""
    ours = make(env_id, effects=effects)
    one = SyncVectorEnv([lambda: gymnasium.make(env_id, effects=effects)] * 3)
    assert ours.observation_space == one.observation_space
    assert ours.action_space == one.action_space
    for mine, reference in zip(ours.reset(seed=5), one.reset(seed=5), strict=True):
        assert same(mine, reference)
    ours.action_space.seed(0)
    for _ in range(one.envs[0].spec.max_episode_steps + 10):
        action = ours.action_space.sample()
        for mine, reference in zip(ours.step(action), one.step(action), strict=True):
            assert same(mine, reference)
    ours.close()
    one.close()


@pytest.mark.parametrize("make", [in_one, in_processes])
def test_resets_by_hand(make):
    envs = make(ID, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    before = envs.step(np.ones((3, 7), np.float32))[0]
    mask = np.array([False, True, False])
    after, _ = envs.reset(options={"reset_mask": mask})
    changed = (after["desired_goal"] != before["desired_goal"]).any(axis=1)
    assert changed.tolist() == mask.tolist()
    over = [envs.step(np.zeros((3, 7), np.float32))[3] for _ in range(49)][-1]
    assert over.tolist() == (~mask).tolist()
    with pytest.raises(ValueError, match=r"expected a reset of environments \[0"):
        envs.step(np.zeros((3, 7), np.float32))
    envs.close()


def test_training_sees_what_single_environments_give():
    """The trainer's own resets, each with its seed."""
    rows = []
    for factory in (None, lambda: gymnasium.make(ID)):
        envs = make_envs(ID, 2, factory)
        spec, rng = inspect_env(gymnasium.make(ID)), np.random.default_rng(0)
        rollout = Rollout(InProcess(envs), spec, seed=3)
        replay = make_replay(spec, 1000, gymnasium.make(ID), hindsight_ratio=0.8, shares=Shares())
        rollout.begin_all()
        for _ in range(110):
            rollout.begin_step(rng.uniform(-1, 1, (2, 7)).astype(np.float32))
            rollout.finish_step(replay)
        assert replay.size == 200
        rows.append(replay.rows[:200])
        envs.close()
    assert torch.equal(*rows)


def test_a_refused_action_moves_nothing():
    envs, again = in_one(ID), in_one(ID)
    for both in (envs, again):
        both.reset(seed=0)
    with pytest.raises(ValueError, match="expected 7 finite numbers as action"):
        envs.step(np.array([[0.5] * 7, [0.5] * 7, [np.nan] * 7], np.float32))
    still = np.zeros((3, 7), np.float32)
    assert same(envs.step(still)[0], again.step(still)[0])
    for both in (envs, again):
        both.close()


def test_errors_come_through_and_the_others_go_on():
    envs = ProcessVectorEnv(ID, num_envs=2, num_workers=2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="expected 7 finite numbers as action"):
        envs.step(np.array([[0.0] * 7, [np.nan] * 7], np.float32))
    envs.step(np.zeros((2, 7), np.float32))
    envs.close()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="expected 1 to 2 workers, found 3"):
        ProcessVectorEnv(ID, num_envs=2, num_workers=3)
    with pytest.raises(ValueError, match="expected NextStep or Disabled, found SameStep"):
        in_one(ID, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="unknown reward 'shaped'"):
        ProcessVectorEnv(ID, num_envs=2, num_workers=1, reward="shaped")
