"""Goal environments whose `observation` does not contain the achieved goal."""

import gymnasium as gym
import numpy as np
import pytest
from toy import ReachToy, goal_space, rows, small

from wpg.cli.acting import acting
from wpg.controllers import evaluate, load_run, record, resume, save_demonstrations, train
from wpg.controllers.experience.environment import make_env, policy_view
from wpg.export import export_run
from wpg.export.reader import load_artifact


class Lost(ReachToy):
    """Observes its joints, but not the tool that is to reach the goal."""

    def __init__(self):
        super().__init__()
        self.observation_space = goal_space(2, 2)

    def observe(self):
        obs = super().observe()
        return obs | {"observation": obs["observation"][:2]}

    def step(self, action):
        *step, info = super().step(action)
        return *step, {"success": info["is_success"]}


@pytest.fixture
def lost_id(monkeypatch):
    monkeypatch.setitem(gym.registry, "Lost-v0", gym.envs.registration.EnvSpec("Lost-v0", Lost))
    return "Lost-v0"


def test_what_is_achieved_is_appended_where_it_is_not_observed():
    env = policy_view(Lost())
    obs, _ = env.reset(seed=3)
    assert env.observation_space.contains(obs)
    np.testing.assert_array_equal(obs["observation"][2:], obs["achieved_goal"])
    assert env.action_space == ReachToy().action_space


def test_an_environment_that_observes_it_or_says_what_is_seen_stays_as_it_is():
    for env in (ReachToy(), make_env("Pendulum-v1"), make_env("wpg/PandaReach-v0")):
        assert policy_view(env) is env
    declaring = Lost()
    declaring.interface = "its own"
    assert policy_view(declaring) is declaring


@pytest.mark.parametrize("overlap", [False, True])
def test_training_and_all_that_uses_its_policy_append_it(lost_id, overlap, tmp_path):
    config = small(lost_id, num_envs=2, overlap=overlap)
    folder = tmp_path / "run"
    result = train(config, out=folder)
    assert result.success_rate is not None
    assert any(row["success_rate"] for row in rows(folder))
    run = load_run(folder)
    assert run.spec.appends_achieved_goal
    assert (run.spec.observation_dim, run.spec.own_observation_dim) == (4, 2)
    file = export_run(folder, tmp_path / "policy.onnx")
    terms = load_artifact(file).contract.interface.observation
    assert [(term.name, term.size) for term in terms] == [
        ("observation", 2),
        ("achieved_goal", 2),
        ("desired_goal", 2),
    ]
    obs, _ = Lost().reset(seed=0)
    with acting(file, None, "best", seed=0) as (act, env, _):
        seen, _ = env.reset(seed=0)
        np.testing.assert_array_equal(seen, np.concatenate(list(obs.values()), dtype=np.float32))
        env.step(act(seen))
    ours, theirs = evaluate(run.act(), lost_id, 2), evaluate(run.act(), Lost(), 2)
    assert ours.returns == theirs.returns
    assert resume(folder, steps=300).steps == 300


def test_demonstrations_are_the_environments_own(tmp_path):
    path = tmp_path / "lost.npz"
    episode, success = record(Lost(), lambda obs: np.ones(2), seed=0)
    assert isinstance(success, bool)
    assert episode.observations["observation"].shape == (21, 2)
    save_demonstrations(path, [episode])
    train(small(demonstrations=str(path), num_envs=2), out=tmp_path / "run", env_factory=Lost)
