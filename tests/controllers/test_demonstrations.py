import errno
import os

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from toy import Flat, ReachToy

from wpg.controllers import (
    Demonstration,
    DemonstrationError,
    FaultyEnvError,
    TrainConfig,
    load_demonstrations,
    record,
    save_demonstrations,
    train,
)
from wpg.controllers.experience import evaluation
from wpg.controllers.experience.environment import GOAL_KEYS, EnvSpec, inspect_env
from wpg.controllers.experience.replay import FlatReplayBuffer, HindsightReplayBuffer, Shares, Transitions

FLAT = EnvSpec(
    env_id="flat",
    observation_dim=2,
    goal_dim=0,
    action_low=np.array([-2.0], np.float32),
    action_high=np.array([4.0], np.float32),
    horizon=None,
)


def flat_demonstration(length, *, terminated=True):
    return Demonstration(
        observations={"observation": np.arange(2.0 * length + 2).reshape(-1, 2)},
        actions=np.linspace(-2, 4, length, dtype=np.float32)[:, None],
        rewards=np.arange(float(length)),
        terminated=terminated,
    )


def towards_goal(obs):
    way = obs["desired_goal"] - obs["achieved_goal"]
    return np.clip(np.array([way[1], way[1]]) * 5, -1, 1)


def played(episodes):
    return [record(ReachToy(), towards_goal, seed=seed)[0] for seed in range(episodes)]


def small(**settings):
    sizes = {"hidden": 16, "batch_size": 16, "num_particles": 4, "num_envs": 2, "learning_starts": 60}
    return TrainConfig(env="toy", steps=240, eval_period=0, **sizes, **settings)


def test_what_is_recorded_is_what_was_played():
    episode, success = record(ReachToy(), towards_goal, seed=3)
    assert isinstance(success, bool)
    env = ReachToy()
    obs, _ = env.reset(seed=3)
    for t, action in enumerate(episode.actions):
        for name, rows in episode.observations.items():
            np.testing.assert_array_equal(rows[t], obs[name])
        obs, reward, *_ = env.step(action)
        assert episode.rewards[t] == reward
    assert len(episode.actions) == env.horizon
    assert not episode.terminated


@pytest.mark.parametrize("goals", [False, True])
def test_arrays_that_are_used_again_are_copied(goals):
    class Reusing(Flat):
        """Keeps its observation in one array and clips the action in place, as Gymnasium allows."""

        def __init__(self):
            box = Box(-9, 9, (1,))
            super().__init__(Box(-1, 1, (1,)), Dict(dict.fromkeys(GOAL_KEYS, box)) if goals else box)
            self.x = np.zeros(1, np.float32)
            self.obs = dict.fromkeys(GOAL_KEYS, self.x) if goals else self.x

        def reset(self, *, seed=None, options=None):
            self.x[:] = 0
            return self.obs, {}

        def step(self, action):
            self.x += 1
            action[:] = 0
            return self.obs, 0.0, False, self.x[0] == 4, {}

    chosen = np.zeros(1, np.float32)

    def policy(obs):
        chosen[:] = (obs["observation"] if goals else obs) / 8
        return chosen

    episode, _ = record(Reusing(), policy, seed=0)
    np.testing.assert_array_equal(episode.actions[:, 0], [0, 0.125, 0.25, 0.375])
    for rows in episode.observations.values():
        np.testing.assert_array_equal(rows[:, 0], [0, 1, 2, 3, 4])


def test_a_file_of_no_episodes_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="expected demonstrations, found none"):
        save_demonstrations(tmp_path / "none.npz", [])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_episodes(tmp_path, monkeypatch):
    path = tmp_path / "episodes.npz"
    save_demonstrations(path, [flat_demonstration(3)])
    before = path.read_bytes()

    def full(*_args, **_arrays):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_demonstrations(path, [flat_demonstration(5)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_give_back_what_went_in(tmp_path):
    before = [flat_demonstration(3), flat_demonstration(5, terminated=False)]
    save_demonstrations(tmp_path / "some.npz", before)
    after = load_demonstrations(tmp_path / "some.npz", FLAT)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.observations["observation"], other.observations["observation"])
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        assert one.terminated == other.terminated


def test_steps_have_actions_in_the_unit_box_and_end_where_the_episode_terminated():
    steps = list(flat_demonstration(4).transitions(FLAT))
    np.testing.assert_allclose(
        [float(step.action[0, 0]) for step in steps], [-1, -1 / 3, 1 / 3, 1], atol=1e-6
    )
    assert [bool(step.terminated[0]) for step in steps] == [False, False, False, True]
    np.testing.assert_array_equal(steps[1].obs, [[2, 3]])
    np.testing.assert_array_equal(steps[1].next_obs, [[4, 5]])


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint64])
def test_steps_of_any_integer_type_are_read(tmp_path, kind):
    longest = min(255, np.iinfo(kind).max)
    before = [flat_demonstration(longest), flat_demonstration(longest)]
    save_demonstrations(tmp_path / "some.npz", before)
    arrays = dict(np.load(tmp_path / "some.npz"))
    np.savez(tmp_path / "some.npz", **arrays | {"steps": arrays["steps"].astype(kind)})
    for one, other in zip(before, load_demonstrations(tmp_path / "some.npz", FLAT), strict=True):
        np.testing.assert_array_equal(one.observations["observation"], other.observations["observation"])


def archive(path, **changes):
    arrays = {
        "observation": np.zeros((4, 2)),
        "action": np.zeros((3, 1)),
        "reward": np.zeros(3),
        "steps": np.array([3]),
        "terminated": np.array([True]),
    }
    kept = {name: values for name, values in (arrays | changes).items() if values is not None}
    np.savez(path, **kept)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": None}, "the array 'action' is missing"),
        ({"steps": np.array([0])}, r"steps must be whole numbers from 1, one an episode, found \[0\]"),
        ({"action": np.zeros((3, 7))}, r"3 steps in 1 episodes has action \(3, 1\), found \(3, 7\)"),
        (
            {"action": np.array([[0.0], [-114.6], [57.3]])},
            "bad.npz: flat takes actions from -2 to 4 in dimension 0, found -114.6; give actions in the",
        ),
        ({"action": np.array([[0.0], [-1.0], [4.02]])}, "from -2 to 4 in dimension 0, found 4.02"),
        ({"reward": np.array([0.0, np.nan, 0.0])}, "reward has entries that are not finite"),
        ({"reward": np.array([0.0, 1e39, 0.0])}, "reward has entries that are not finite in float32"),
        ({"reward": np.array(["a", "b", "c"])}, "reward must be real numbers, found <U1"),
        ({"reward": np.zeros(3, complex)}, "reward must be real numbers, found complex128"),
        ({"reward": np.array([None, 1, 2])}, "is no archive of NumPy's arrays, or is damaged"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, changes, message):
    path = archive(tmp_path / "bad.npz", **changes)
    with pytest.raises(DemonstrationError, match=message):
        load_demonstrations(path, FLAT)


def test_actions_that_rounding_moved_out_of_the_box_are_clipped(tmp_path):
    actions = np.array([[-2.0005], [0.0], [4.001]])
    (one,) = load_demonstrations(archive(tmp_path / "rounded.npz", action=actions), FLAT)
    assert [float(step.action[0, 0]) for step in one.transitions(FLAT)] == [-1, pytest.approx(-1 / 3), 1]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([np.nan, 9.0], "the policy: ReachToy takes actions from -1 to 1 in dimension 0, found nan;"),
        ([1.0, -9.0], "the policy: ReachToy takes actions from -1 to 1 in dimension 1, found -9;"),
        (0.5, r"the policy: ReachToy takes actions of the shape \(2,\), found \(\)"),
    ],
)
def test_actions_that_do_not_fit_are_neither_played_nor_recorded(action, message):
    env = ReachToy()
    with pytest.raises(DemonstrationError, match=message):
        record(env, lambda obs: np.array(action), seed=0)
    assert env.t == 0


def test_an_episode_that_does_not_end_is_not_recorded(monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 50)
    with pytest.raises(FaultyEnvError, match=r"^ReachToy: an episode did not end within 50 steps"):
        record(ReachToy(horizon=51), towards_goal, seed=0)


def test_no_file_and_another_kind_of_file(tmp_path):
    with pytest.raises(DemonstrationError, match="no demonstrations at"):
        load_demonstrations(tmp_path / "none.npz", FLAT)
    for content in (b"", b"text", b"PK\x03\x04 cut"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(DemonstrationError, match="no archive of NumPy's arrays, or is damaged"):
            load_demonstrations(tmp_path / "other", FLAT)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DemonstrationError, match="no archive of NumPy's arrays, or is damaged"):
        load_demonstrations(tmp_path / "one.npy", FLAT)


def test_what_is_kept_stays_and_has_its_share_of_every_batch():
    replay = FlatReplayBuffer(FLAT, 20, Shares(kept=0.25))
    for step in flat_demonstration(5).transitions(FLAT):
        replay.add(step)
    replay.keep()
    idle = np.zeros((1, 2), np.float32)
    for number in range(100, 137):
        reward = np.array([float(number)])
        replay.add(Transitions(idle, idle[:, :1], reward, np.zeros(1, np.bool_), idle))
    batch = replay.sample(8000, torch.Generator().manual_seed(0))
    assert set(batch.reward.tolist()) == {0, 1, 2, 3, 4, *range(122, 137)}
    shown = float((batch.reward < 5).float().mean())
    assert shown == pytest.approx(0.25 + 0.75 * 5 / 20, abs=0.02)


def test_hindsight_goes_round_the_ring_beside_what_is_kept():
    env = ReachToy()
    replay = HindsightReplayBuffer(inspect_env(env), 70, Shares(kept=0.5), env, ratio=1.0)
    for episode in played(1):
        for step in episode.transitions(inspect_env(env)):
            replay.add(step)
        replay.end_episode(0)
    replay.keep()
    kept = replay.rows[:20].clone()
    for episode in played(4):
        for step in episode.transitions(inspect_env(env)):
            replay.add(step)
        replay.end_episode(0)
    assert torch.equal(replay.rows[:20], kept)
    last = replay.remaining.argwhere()[:, 0]
    ends = replay.future_rows(last, torch.Generator().manual_seed(0))
    assert int(ends.min()) >= 0
    ring = last[last >= 20]
    assert int(replay.future_rows(ring, torch.Generator().manual_seed(0)).min()) >= 20


def test_too_many_are_refused_and_leave_nothing_behind(tmp_path):
    save_demonstrations(tmp_path / "toy.npz", played(3))
    config = small(demonstrations=str(tmp_path / "toy.npz"), replay_capacity=100)
    with pytest.raises(DemonstrationError, match="at most 50 steps, half of replay_capacity, found 60"):
        train(config, out=tmp_path / "run", env_factory=ReachToy)
    assert not (tmp_path / "run").exists()
