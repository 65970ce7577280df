"""A diverged training ends with an error that names the quantity; large rewards are not divergence."""

import numpy as np
import pytest
from gymnasium.spaces import Box
from toy import Flat, ReachToy, rows, small

from wpg.controllers import DivergenceError, FaultyEnvError, load_run, train
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.experience.replay import HindsightReplayBuffer


def test_a_reward_of_relabelled_goals_that_is_not_finite_is_no_divergence(tmp_path):
    class Broken(ReachToy):
        steps = 0

        def step(self, action):
            Broken.steps += 1
            return super().step(action)

        def compute_reward(self, achieved, desired, info):
            """Gives NaN as the reward of relabelled goals only, which come in rows."""
            reward = super().compute_reward(achieved, desired, info)
            return reward * np.nan if Broken.steps > 250 and reward.ndim else reward

    with pytest.raises(
        FaultyEnvError, match=r"^Broken: compute_reward gave -?nan for the achieved goal \[.*\]"
    ):
        train(
            small(steps=400, checkpoint_period=100, eval_period=0), out=tmp_path / "run", env_factory=Broken
        )
    assert load_run(tmp_path / "run").metadata.steps == 200


def test_divergence_names_quantity_and_step(tmp_path, monkeypatch):
    sample = HindsightReplayBuffer.sample
    drawn = []

    def broken(replay, *args):
        batch = sample(replay, *args)
        drawn.append(batch)
        return batch._replace(reward=batch.reward * np.nan) if len(drawn) > 190 else batch

    monkeypatch.setattr(HindsightReplayBuffer, "sample", broken)
    with pytest.raises(DivergenceError, match=r"step 2\d\d: .*= nan.* checkpoint in .* is from before"):
        train(
            small(steps=400, checkpoint_period=100, eval_period=0), out=tmp_path / "run", env_factory=ReachToy
        )
    assert load_run(tmp_path / "run").metadata.steps == 200


class Drop(Flat):
    """Gives rewards of about 10,000."""

    def __init__(self):
        super().__init__(Box(-1, 1, (1,)), Box(-np.inf, np.inf, (1,)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1, 1), 0
        return self.x, {}

    def step(self, action):
        self.x, self.t = np.clip(self.x + 0.2 * action, -1, 1), self.t + 1
        return self.x, -5e4 * float(self.x[0]) ** 2, False, self.t == 20, {}


def test_large_rewards_are_no_divergence(tmp_path):
    result = train(small(eval_period=0), out=tmp_path / "run", env_factory=Drop)
    assert result.steps == 240
    assert max(float(row["critic_loss"]) for row in rows(tmp_path / "run") if row["critic_loss"]) > 1e8


class Strict(Drop):
    """Refuses actions that are not finite."""

    def step(self, action):
        if not np.isfinite(action).all():
            raise ValueError("the motor takes numbers only")
        return super().step(action)


@pytest.mark.parametrize("eval_period", [0, 1])
@pytest.mark.parametrize("overlap", [False, True])
def test_actions_that_an_environment_refuses_are_a_divergence(eval_period, overlap, tmp_path, monkeypatch):
    """They are refused in a training step, or in an evaluation."""
    update = Learner.update

    def diverging(learner, batch):
        update(learner, batch)
        if learner.updates == 30:
            actor = learner.wait_for_actor()
            for parameter in (*actor.policy.parameters(), *actor.average.parameters()):
                parameter.data.fill_(np.nan)
            learner.publish_policy()

    monkeypatch.setattr(Learner, "update", diverging)
    settings = small(eval_period=eval_period, eval_episodes=1, log_period=1000, overlap=overlap)
    with pytest.raises(DivergenceError, match=r"diverged at step \d+: .* = nan"):
        train(settings, out=tmp_path / "run", env_factory=Strict)


@pytest.mark.parametrize("learning_rate", [10.0, 1e3, 1e6])
def test_steps_that_are_too_large_are_a_divergence(learning_rate, tmp_path):
    settings = small(learning_rate=learning_rate, checkpoint_period=1000, eval_period=0)
    with pytest.raises(
        DivergenceError, match=r"diverged at step \d+: .*observations or rewards, may help"
    ) as caught:
        train(settings, out=tmp_path / "run", env_factory=Drop)
    assert "checkpoint" not in str(caught.value)
