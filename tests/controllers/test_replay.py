"""Replay against brute force."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from toy import ReachToy, small

from wpg.controllers import UnsupportedEnvError, train
from wpg.controllers.experience.environment import EnvSpec, inspect_env
from wpg.controllers.experience.replay import FlatReplayBuffer, HindsightReplayBuffer, Shares, Transitions

FLAT = EnvSpec(
    env_id="flat", observation_dim=2, goal_dim=0,
    action_low=-np.ones(1, np.float32), action_high=np.ones(1, np.float32), horizon=None,
)  # fmt: skip


def flat_step(i, terminated=False):
    obs = np.array([[i, 0]], np.float32)
    return Transitions(obs, np.array([[i / 100]], np.float32), np.array([i]), np.array([terminated]), obs + 1)


def goal_step(obs, reward, next_obs, terminated=False):
    """A step of one environment with an idle action."""
    obs, next_obs = ({key: value[None] for key, value in one.items()} for one in (obs, next_obs))
    return Transitions(
        obs, np.zeros((1, 2), np.float32), np.array([reward]), np.array([terminated]), next_obs
    )


def test_flat_replay_returns_what_went_in_and_forgets_the_oldest():
    replay = FlatReplayBuffer(FLAT, 8, Shares())
    for i in range(11):
        replay.add(flat_step(i, terminated=i == 9))
    batch = replay.sample(400, torch.Generator().manual_seed(0))
    assert set(batch.reward.tolist()) == set(range(3, 11))
    assert torch.equal(batch.obs[:, 0], batch.reward)
    assert torch.equal(batch.next_obs, batch.obs + 1)
    assert torch.equal(batch.terminated, (batch.reward == 9).float())


@pytest.mark.parametrize(("steps", "kept"), [(40, 0), (137, 0), (137, 10)])
def test_a_share_of_a_batch_is_recent(monkeypatch, steps, kept):
    monkeypatch.setattr("wpg.controllers.experience.replay.RECENT_STEPS", 20)
    replay = FlatReplayBuffer(FLAT, 60, Shares(recent=0.5))
    for i in range(steps):
        replay.add(flat_step(i))
        if i + 1 == kept:
            replay.keep()
    drawn = replay.sample(8000, torch.Generator().manual_seed(0)).reward
    recent = drawn[drawn >= steps - 20]
    assert set(recent.tolist()) == set(range(steps - 20, steps))
    assert len(recent) / len(drawn) == pytest.approx(0.5 + 0.5 * 20 / replay.size, abs=0.02)


def fill(replay, env, episodes, lengths):
    """Add random episodes; returns the achieved goals by the observation's first entry, a counter."""
    rng = np.random.default_rng(0)
    number, futures = 0, {}
    for _ in range(episodes):
        length = int(rng.choice(lengths))
        achieved = rng.normal(size=(length + 1, 2)).astype(np.float32) * 0.1
        goal = rng.normal(size=2).astype(np.float32)
        for t in range(length):
            numbers = [np.full(4, number + k, np.float32) for k in (0, 1)]
            dicts = [
                {"observation": numbers[k], "achieved_goal": achieved[t + k], "desired_goal": goal}
                for k in (0, 1)
            ]
            reward = float(env.compute_reward(achieved[t + 1], goal, {}))
            replay.add(goal_step(dicts[0], reward, dicts[1]))
            futures[number] = (achieved[t + 1], achieved[t + 1 :], goal)
            number += 1
        replay.end_episode(0)
    return futures


@pytest.mark.parametrize("capacity", [1000, 40])
def test_hindsight_goals_are_reached_later_in_the_same_episode(capacity):
    env = ReachToy()
    replay = HindsightReplayBuffer(inspect_env(env), capacity, Shares(), env, ratio=0.75)
    futures = fill(replay, env, episodes=12, lengths=[3, 7, 10])
    batch = replay.sample(4000, torch.Generator().manual_seed(1))
    assert not batch.terminated.any()
    seen = {}
    for row in range(4000):
        number = int(batch.obs[row, 0])
        achieved, future, goal = futures[number]
        given = batch.obs[row, 4:].numpy()
        assert np.array_equal(given, batch.next_obs[row, 4:].numpy())
        assert batch.reward[row].item() == env.compute_reward(achieved, given, {})
        if row < 3000:
            seen.setdefault(number, []).append(int(np.flatnonzero((future == given).all(1))[0]))
        else:
            assert np.array_equal(given, goal)
    for number, draws in seen.items():  # uniform over what follows: first and last are both drawn
        remaining = len(futures[number][1])
        if len(draws) > 40:
            assert min(draws) == 0
            assert max(draws) == remaining - 1


def test_an_episode_becomes_usable_when_it_ends():
    env = ReachToy()
    replay = HindsightReplayBuffer(inspect_env(env), 100, Shares(), env, ratio=0.5)
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        next_obs, reward, *_ = env.step(np.zeros(2, np.float32))
        replay.add(goal_step(obs, reward, next_obs))
        obs = next_obs
    assert replay.size == 0
    replay.end_episode(0)
    assert replay.size == 3


@pytest.mark.parametrize("length", [9, 30])
def test_of_an_episode_longer_than_the_memory_the_end_is_kept(length):
    env = ReachToy()
    replay = HindsightReplayBuffer(inspect_env(env), 8, Shares(), env, ratio=1.0)
    futures = fill(replay, env, episodes=1, lengths=[length])
    batch = replay.sample(400, torch.Generator().manual_seed(0))
    assert set(batch.obs[:, 0].tolist()) == set(range(length - 8, length))
    for number, *given in zip(batch.obs[:, 0].tolist(), *batch.obs[:, 4:].T.tolist(), strict=True):
        assert given in futures[int(number)][1].tolist()


def test_terminations_are_recomputed_where_the_environment_can():
    class Ending(ReachToy):
        def compute_terminated(self, achieved, desired, info):
            return np.linalg.norm(achieved - desired, axis=-1) <= self.threshold

    env = Ending()
    replay = HindsightReplayBuffer(inspect_env(env), 1000, Shares(), env, ratio=1.0)
    fill(replay, env, episodes=5, lengths=[6])
    batch = replay.sample(500, torch.Generator().manual_seed(0))
    assert torch.equal(batch.terminated, batch.reward + 1)
    assert batch.terminated.any()


def together(achieved, desired, info):
    """Returns one bool for any input, as a maze written for one pair of goals does."""
    return bool(np.linalg.norm(achieved - desired) <= 0.1)


def one_pair(achieved, desired, info):
    assert achieved.shape == desired.shape == (2,)
    return together(achieved, desired, info)


def first_coordinates(achieved, desired, info):
    """Returns an array as long as a goal if it is given rows."""
    return np.hypot(achieved[0] - desired[0], achieved[1] - desired[1]) <= 0.1


@pytest.mark.parametrize("reached", [together, one_pair, first_coordinates])
def test_what_the_environment_computes_of_one_pair_is_computed_row_by_row(reached):
    class OneByOne(ReachToy):
        def compute_reward(self, achieved, desired, info):
            return float(reached(achieved, desired, info)) - 1

        def compute_terminated(self, achieved, desired, info):
            return reached(achieved, desired, info)

    batches = []
    for env in (ReachToy(), OneByOne()):
        replay = HindsightReplayBuffer(inspect_env(env), 1000, Shares(), env, ratio=1.0)
        fill(replay, env, episodes=5, lengths=[6])
        batches.append(replay.sample(500, torch.Generator().manual_seed(0)))
    expected, batch = batches
    assert torch.equal(batch.reward, expected.reward)
    assert torch.equal(batch.terminated, expected.reward + 1)
    assert 0 < batch.terminated.sum() < len(batch.terminated)


class InOtherUnits(gym.Wrapper):
    """Multiplies all rewards by ten, also of relabelled goals; an episode ends at its goal."""

    def compute_reward(self, achieved, desired, info):
        return 10 * self.env.unwrapped.compute_reward(achieved, desired, info)

    def compute_terminated(self, achieved, desired, info):
        return self.compute_reward(achieved, desired, info) == 0


def test_a_wrapper_computes_what_it_changes():
    env = gym.wrappers.TimeLimit(InOtherUnits(ReachToy()), 20)
    replay = HindsightReplayBuffer(inspect_env(env), 1000, Shares(), env, ratio=1.0)
    fill(replay, env.unwrapped, episodes=5, lengths=[6])
    batch = replay.sample(500, torch.Generator().manual_seed(0))
    assert set(batch.reward.tolist()) == {-10, 0}
    assert torch.equal(batch.terminated, 1 + batch.reward / 10)


class Resting(ReachToy):
    def step(self, action):
        return self.observe(), 0.0, False, False, {"effort": 0.0, "over": False}


class NeedsEffort(Resting):
    def compute_reward(self, achieved, desired, info):
        return super().compute_reward(achieved, desired, info) - info["effort"]


class RewardsEachAxis(Resting):
    def compute_reward(self, achieved, desired, info):
        return achieved - desired


class TerminatesByInfo(Resting):
    def compute_terminated(self, achieved, desired, info):
        return info["over"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (NeedsEffort, r"NeedsEffort: compute_reward\(.* it raised KeyError\('effort'\)$"),
        (RewardsEachAxis, r"RewardsEachAxis: compute_reward\(.* it returned array"),
        (TerminatesByInfo, r"TerminatesByInfo: compute_terminated\(.* it raised KeyError"),
    ],
)
def test_rewards_that_need_more_than_goals_are_refused(env, message, tmp_path):
    with pytest.raises(UnsupportedEnvError, match=message):
        train(small(), out=tmp_path / "run", env_factory=env)
    assert not (tmp_path / "run").exists()


def test_a_function_that_fails_on_goals_of_zero_is_tried_with_real_ones():
    class NeverAtZero(ReachToy):
        def compute_reward(self, achieved, desired, info):
            if not achieved.any():
                raise ZeroDivisionError
            return super().compute_reward(achieved, desired, info)

    env = NeverAtZero()
    HindsightReplayBuffer(inspect_env(env), 100, Shares(), env, ratio=1.0)


def test_a_wrapper_alone_may_compute_the_reward():
    class Plain(ReachToy):
        compute_reward = property()

    class Rewarding(gym.Wrapper):
        def compute_reward(self, achieved, desired, info):
            return ReachToy.compute_reward(self.unwrapped, achieved, desired, info)

    assert inspect_env(Rewarding(Plain())).goal_dim == 2
    with pytest.raises(UnsupportedEnvError, match=r"Plain: a goal environment needs compute_reward"):
        inspect_env(Plain())


def test_half_a_batch_comes_from_episodes_that_changed_something():
    """Nine episodes leave the achieved goal in place, the tenth moves it."""
    env = ReachToy()
    replay = HindsightReplayBuffer(inspect_env(env), 200, Shares(), env, ratio=0.8)
    for number in range(10):
        for t in range(10):
            place = np.full(2, 0.5 * t if number == 9 else 0.0, np.float32)
            row = {
                "observation": np.full(4, number, np.float32),
                "achieved_goal": place,
                "desired_goal": np.full(2, 9.0, np.float32),
            }
            replay.add(goal_step(row, -1.0, row))
        replay.end_episode(0)
    batch = replay.sample(4000, torch.Generator().manual_seed(0))
    assert float((batch.obs[:, 0] == 9).float().mean()) == pytest.approx(0.55, abs=0.03)
    copy = HindsightReplayBuffer(inspect_env(env), 200, Shares(), env, ratio=0.8)
    copy.restore(replay.tensors(), replay.position, replay.kept)
    again = copy.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(batch.obs, again.obs)
