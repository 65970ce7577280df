"""Episode statistics, and the errors for numbers that an environment must not return."""

import numpy as np
import pytest
from gymnasium.spaces import Box
from toy import Flat, ReachToy, small

from wpg.controllers import FaultyEnvError, resume, train
from wpg.controllers.experience.environment import inspect_env
from wpg.controllers.experience.replay import Shares, make_replay
from wpg.controllers.training import checkpoint
from wpg.controllers.training.envs import LocalEnvs, make_envs
from wpg.controllers.training.rollout import Rollout


class Fading(Flat):
    """Returns something bad after a number of steps."""

    def __init__(self, **bad):
        super().__init__(Box(-1, 1, (1,)), Box(-np.inf, np.inf, (2,), np.float64))
        self.bad, self.t = bad, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.0, self.bad.get("first", 0.0)]), {}

    def step(self, action):
        self.t += 1
        bad = self.bad if self.t == 3 else {}
        return np.array([0.0, bad.get("obs", 0.0)]), bad.get("reward", 0.0), False, self.t == 5, {}


class FadingGoal(ReachToy):
    def step(self, action):
        obs, *rest = super().step(action)
        return {**obs, "achieved_goal": obs["achieved_goal"] * (np.nan if self.t == 3 else 1.0)}, *rest


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Fading(reward=np.nan), "reward = nan after 3 steps"),
        (lambda: Fading(reward=-np.inf), "reward = -inf after 3 steps"),
        (lambda: Fading(obs=np.nan), r"observation\[1\] = nan after 3 steps"),
        (lambda: Fading(obs=1e39), r"observation\[1\] = 1e\+39 after 3 steps"),
        (lambda: Fading(first=np.inf), r"observation\[1\] = inf after 0 steps"),
        (FadingGoal, r"achieved_goal\[0\] = nan after 3 steps"),
    ],
)
def test_what_is_not_finite_is_told_and_stays_out_of_the_replay(make, found):
    env = make()
    spec = inspect_env(env)
    rollout = Rollout(LocalEnvs(make_envs("toy", 2, env.observation_space, make), spec), spec, seed=0)
    replay = make_replay(spec, 100, env, hindsight_ratio=0.8, shares=Shares())

    def play():
        rollout.begin_all()
        for _ in range(3):
            rollout.begin_step(np.zeros((2, spec.action_dim), np.float32))
            rollout.finish_step(replay)

    name = type(env).__name__
    with pytest.raises(
        FaultyEnvError, match=rf"{name}: expected finite numbers, found {found} of the episode with seed \d+$"
    ):
        play()
    rollout.truncate_all(replay)
    assert bool(replay.rows[: replay.size].isfinite().all())


def test_a_checkpoint_from_before_is_as_it_was(tmp_path):
    steps = 0

    class Faulty(ReachToy):
        def step(self, action):
            nonlocal steps
            steps += 1
            obs, reward, *rest = super().step(action)
            return obs, np.nan if steps == 150 else reward, *rest

    with pytest.raises(FaultyEnvError, match="reward = nan"):
        train(small(eval_period=0), out=tmp_path / "run", env_factory=Faulty)
    tensors, state = checkpoint.read(tmp_path / "run" / "checkpoint")
    assert state.metadata.steps == 120
    assert bool(tensors["replay.rows"].isfinite().all())
    assert resume(tmp_path / "run", env_factory=Faulty).steps == 240


def test_episodes_that_report_nothing_beside_ones_that_do_are_failures():
    class Winning(Fading):
        """Every fourth step ends an episode; only the first environment succeeds and reports it."""

        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, False, self.t == 4, {"is_success": True} if action[0] > 0 else {}

    spec = inspect_env(Winning())
    rollout = Rollout(
        LocalEnvs(make_envs("toy", 4, Winning().observation_space, Winning), spec), spec, seed=0
    )
    replay = make_replay(spec, 100, Winning(), hindsight_ratio=0.8, shares=Shares())
    rollout.begin_all()
    for actions, expected in ((np.zeros((4, 1)), None), (np.array([[1.0], [0.0], [0.0], [0.0]]), 1 / 8)):
        for _ in range(4):
            rollout.begin_step(actions.astype(np.float32))
            rollout.finish_step(replay)
        assert rollout.success_rate() == expected
