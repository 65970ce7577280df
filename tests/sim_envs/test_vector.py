import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wpg.sim_envs.effects import Effects
from wpg.sim_envs.vector import ProcessVectorEnv

ID = "wpg/PandaReach-v0"


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


@pytest.mark.parametrize("effects", [None, Effects(action_delay_s=(0.0, 0.05))], ids=["plain", "effects"])
def test_is_what_one_process_gives(effects):
    """Bit for bit, over an automatic reset, with shares of unequal size."""
    ours = ProcessVectorEnv(ID, num_envs=3, num_workers=2, effects=effects)
    one = SyncVectorEnv([lambda: gymnasium.make(ID, effects=effects)] * 3)
    assert ours.observation_space == one.observation_space
    assert ours.action_space == one.action_space
    for mine, reference in zip(ours.reset(seed=5), one.reset(seed=5), strict=True):
        assert same(mine, reference)
    ours.action_space.seed(0)
    for _ in range(60):
        action = ours.action_space.sample()
        for mine, reference in zip(ours.step(action), one.step(action), strict=True):
            assert same(mine, reference)
    ours.close()
    one.close()


def test_resets_by_hand():
    envs = ProcessVectorEnv(ID, num_envs=3, num_workers=3, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    before = envs.step(np.ones((3, 7), np.float32))[0]
    mask = np.array([False, True, False])
    after, _ = envs.reset(options={"reset_mask": mask})
    changed = (after["desired_goal"] != before["desired_goal"]).any(axis=1)
    assert changed.tolist() == mask.tolist()
    envs.close()


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
    with pytest.raises(ValueError, match="unknown reward 'shaped'"):
        ProcessVectorEnv(ID, num_envs=2, num_workers=1, reward="shaped")
