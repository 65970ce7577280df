import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wpg.controllers.experience.environment import inspect_env
from wpg.controllers.experience.replay import Shares, make_replay
from wpg.controllers.training.envs import LocalEnvs, make_envs
from wpg.controllers.training.rollout import Rollout
from wpg.sim_envs.effects import Effects

ID = "wpg/PandaReach-v0"


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


def three_at_once(env_id, **kwargs):
    return gymnasium.make_vec(env_id, num_envs=3, **kwargs)


@pytest.mark.parametrize(
    ("env_id", "effects"),
    [
        (ID, None),
        (ID, Effects(action_delay_s=(0.0, 0.05))),
        ("wpg/PandaReachDenseBullet-v0", None),
        ("wpg/PandaPush-v0", Effects(observation_delay_s=0.03)),
        ("wpg/PandaPickAndPlace-v0", None),
        ("wpg/PandaInsertDense-v0", None),
    ],
)
def test_is_what_single_environments_give(env_id, effects):
    """They agree bit for bit, also over an automatic reset."""
    ours = three_at_once(env_id, effects=effects)
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


@pytest.mark.parametrize("limit", [2, -1])
def test_another_time_limit_is_that_of_single_environments(limit):
    """−1 is Gymnasium's "no limit"."""
    ours, one = three_at_once(ID, max_episode_steps=limit), gymnasium.make(ID, max_episode_steps=limit)
    ours.reset(seed=0)
    one.reset(seed=0)
    still = np.zeros((3, 7), np.float32)
    for _ in range(2):
        assert ours.step(still)[3].tolist() == [one.step(still[0])[3]] * 3
    ours.close()
    one.close()


def test_resets_by_hand():
    envs = three_at_once(ID, autoreset_mode=AutoresetMode.DISABLED)
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
    """They agree under the trainer's own resets, each with its seed."""
    rows = []
    for factory in (None, lambda: gymnasium.make(ID)):
        envs = make_envs(ID, 2, gymnasium.make(ID).observation_space, factory)
        assert (type(envs) is SyncVectorEnv) == (factory is not None)
        spec, rng = inspect_env(gymnasium.make(ID)), np.random.default_rng(0)
        rollout = Rollout(LocalEnvs(envs, spec), spec, seed=3)
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
    envs, again = three_at_once(ID), three_at_once(ID)
    for both in (envs, again):
        both.reset(seed=0)
    with pytest.raises(ValueError, match="expected 7 finite numbers as action"):
        envs.step(np.array([[0.5] * 7, [0.5] * 7, [np.nan] * 7], np.float32))
    still = np.zeros((3, 7), np.float32)
    assert same(envs.step(still)[0], again.step(still)[0])
    for both in (envs, again):
        both.close()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="expected NextStep or Disabled, found SameStep"):
        three_at_once(ID, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="unknown reward 'shaped'"):
        three_at_once(ID, reward="shaped")
