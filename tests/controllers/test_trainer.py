"""Whole runs: outputs, exact resume, stops, errors."""

import csv
import dataclasses
import io
import re
import sys

import numpy as np
import pytest
import torch
from rich.console import Console
from test_divergence import Drop
from toy import ReachToy, rows, small

from wpg.controllers import (
    ConfigError,
    FaultyEnvError,
    ProgressBar,
    TrainConfig,
    UnsupportedEnvError,
    evaluate,
    load_run,
    record,
    resume,
    save_demonstrations,
    train,
)
from wpg.controllers.algorithm.batch import Batch
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.algorithm.settings import LearnerSettings
from wpg.controllers.experience import evaluation
from wpg.controllers.training import checkpoint
from wpg.controllers.training.progress import progress_line


class KilledError(Exception):
    pass


@pytest.fixture
def kill_at(monkeypatch):
    """Kill the run in the middle of its n-th update from now."""

    def arm(count):
        update = Learner.update
        left = [count]

        def dying(self, batch):
            left[0] -= 1
            if left[0] == 0:
                monkeypatch.setattr(Learner, "update", update)
                raise KilledError
            update(self, batch)

        monkeypatch.setattr(Learner, "update", dying)

    return arm


@pytest.mark.parametrize(
    ("config", "factory"),
    [
        (small(), ReachToy),
        (small(num_envs=3, updates_per_step=0.75), ReachToy),
        (small(num_envs=3, updates_per_step=0.75, overlap=True), ReachToy),
        (small("Pendulum-v1", steps=500, learning_starts=160, checkpoint_period=150), None),
    ],
    ids=["goals", "goals, 3 envs", "goals, 3 envs, own process", "Pendulum-v1"],
)
def test_resumed_equals_uninterrupted(config, factory, tmp_path, kill_at):
    train(config, out=tmp_path / "whole", env_factory=factory)
    kill_at(100)
    with pytest.raises(KilledError):
        train(config, out=tmp_path / "cut", env_factory=factory)
    kill_at(25)
    with pytest.raises(KilledError):
        resume(tmp_path / "cut", env_factory=factory)
    result = resume(tmp_path / "cut", env_factory=factory)
    assert result.steps >= config.steps
    whole, state = checkpoint.read(tmp_path / "whole" / "checkpoint")
    cut, cut_state = checkpoint.read(tmp_path / "cut" / "checkpoint")
    assert whole.keys() == cut.keys()
    unequal = [name for name in whole if not torch.equal(whole[name], cut[name])]
    assert unequal == []
    assert state == cut_state
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


def test_all_of_a_run_rounds_alike(tmp_path):
    """Loading a checkpoint folds its networks by products, which must round as in training."""
    flushing = []

    class Watching(ReachToy):
        def __init__(self):
            super().__init__()
            flushing.append(sys.float_info.min / 2 == 0)

        def step(self, action):
            flushing.append(sys.float_info.min / 2 == 0)
            return super().step(action)

    settings = small(steps=3, learning_starts=0, eval_period=0)
    train(settings, out=tmp_path / "run", env_factory=Watching)
    resume(tmp_path / "run", steps=5, env_factory=Watching)
    made = 2  # one environment to inspect, one to step
    assert flushing[-(made + 2) :] == [True] * (made + 2)
    assert all(flushing)
    assert sys.float_info.min / 2 > 0


@pytest.fixture
def rates(monkeypatch):
    """All learning rates that are set, in order."""
    seen = []
    set_rate = Learner.set_learning_rate

    def watched(self, learning_rate):
        seen.append(learning_rate)
        set_rate(self, learning_rate)

    monkeypatch.setattr(Learner, "set_learning_rate", watched)
    return seen


def test_the_learning_rate_never_rises_in_a_run_that_goes_on(tmp_path, rates):
    settings = {
        "learning_rate": 1e-3,
        "final_learning_rate_share": 0.05,
        "eval_period": 0,
        "updates_per_step": 0.1,
    }
    train(small(**settings), out=tmp_path / "run", env_factory=ReachToy)
    assert rates[0] == pytest.approx(1e-3 * (1 - 0.95 * 60 / 240))
    assert rates[-1] == pytest.approx(1e-3 * (1 - 0.95 * 239 / 240))
    resume(tmp_path / "run", steps=320, env_factory=ReachToy)
    assert rates == sorted(rates, reverse=True)
    assert rates[-80:] == [pytest.approx(5e-5)] * 80


def test_a_run_in_stages_may_fall_over_all_of_them(tmp_path, rates):
    settings = {
        "learning_rate": 1e-3,
        "final_learning_rate_share": 0.05,
        "eval_period": 0,
        "updates_per_step": 0.1,
    }
    train(small(steps=120, decay_steps=360, **settings), out=tmp_path / "run", env_factory=ReachToy)
    for steps in (240, 360):
        resume(tmp_path / "run", steps=steps, env_factory=ReachToy)
    assert rates == [pytest.approx(1e-3 * (1 - 0.95 * step / 360)) for step in range(60, 360)]


def test_a_resumed_run_has_its_demonstrations_in_the_checkpoint(tmp_path, kill_at):
    path = tmp_path / "toy.npz"
    save_demonstrations(path, [record(ReachToy(), lambda obs: np.ones(2), seed=seed)[0] for seed in range(3)])
    config = small(demonstrations=str(path))
    train(config, out=tmp_path / "whole", env_factory=ReachToy)
    kill_at(100)
    with pytest.raises(KilledError):
        train(config, out=tmp_path / "cut", env_factory=ReachToy)
    path.unlink()
    resume(tmp_path / "cut", env_factory=ReachToy)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    whole = checkpoint.read(tmp_path / "whole" / "checkpoint")[1]
    assert whole.kept == 60


def test_run_folder_and_load(tmp_path):
    seen = []
    result = train(small(), out=tmp_path / "run", env_factory=ReachToy, on_progress=seen.append)
    assert result.stopped_by == "steps"
    assert result.updates == 180
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "tb",
        "checkpoint",
        "training.png",
    }
    assert list((tmp_path / "run" / "tb").glob("events.out.tfevents.*"))
    assert seen[-1].step == seen[-1].total_steps == 240
    assert [progress.step for progress in seen if progress.evaluation is not None] == [100, 200]
    run = load_run(tmp_path / "run")
    assert (run.config.hidden, run.config.gamma, run.config.target_entropy) == (16, 0.99, -4.0)
    assert not run.policy.training
    assert (run.metadata.env, run.metadata.seed, run.metadata.steps) == ("toy", 0, 240)
    for select in ("best", "mean", "sample"):
        first, second = (evaluate(run.act(select), ReachToy(), 3, seed=1) for _ in range(2))
        assert first == second


def test_a_log_file_shows_the_start_and_every_evaluation(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    with ProgressBar(console) as bar:
        train(small(), out=tmp_path / "run", env_factory=ReachToy, on_progress=bar)
    first, *evaluations, last = console.file.getvalue().splitlines()[:4]
    assert first == "training up to step 240 ..."
    for line, step in zip(evaluations, (100, 200), strict=True):
        assert re.fullmatch(rf"evaluation at step {step}: return -?\d+\.\d, success \d+%", line)
    assert " 240 return " in last


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_by_default")
@pytest.mark.parametrize("factory", [ReachToy, Drop])
def test_the_default_type_of_torch_does_not_matter(factory, tmp_path):
    assert train(small(), out=tmp_path / "run", env_factory=factory).updates
    assert torch.get_default_dtype() == torch.float64
    run = load_run(tmp_path / "run")
    for select in ("best", "mean", "sample"):
        assert evaluate(run.act(select), factory(), 1).returns


def test_what_is_loaded_is_the_average(tmp_path):
    train(small(), out=tmp_path / "run", env_factory=ReachToy)
    tensors, _ = checkpoint.read(tmp_path / "run" / "checkpoint")
    name = "network.layers.1.weight"
    loaded = load_run(tmp_path / "run").policy.state_dict()[name]
    assert torch.equal(loaded, tensors[f"average.{name}"])
    assert not torch.equal(loaded, tensors[f"policy.{name}"])


def test_the_average_follows_the_policy():
    policy = ParticlePolicy(3, 2, num_particles=2, hidden=8)
    generator = torch.Generator().manual_seed(0)
    settings = LearnerSettings(
        gamma=0.9, learning_rate=1e-2, policy_delay=1, initial_tau=0.1, target_entropy=-2.0, norm_warmup=5
    )
    learner = Learner(policy, Critic(3, 2, hidden=8), settings, generator=generator)
    expected = torch.zeros_like(policy.network.own_layers()[1].weight)
    for count in range(12):
        obs, next_obs = torch.randn(2, 16, 3, generator=generator)
        action = torch.rand(16, 2, generator=generator) * 2 - 1
        learner.update(Batch(obs, action, torch.randn(16, generator=generator), torch.zeros(16), next_obs))
        expected += (policy.network.own_layers()[1].weight.detach() - expected) / (1 + 0.2 * count)
    torch.testing.assert_close(learner.wait_for_actor().average.network.own_layers()[1].weight, expected)


def test_it_learns_to_reach(tmp_path):
    sizes = {"hidden": 64, "batch_size": 128, "num_particles": 8}
    checks = {"eval_period": 1000, "eval_episodes": 20, "stop_at_success": 0.9}
    config = TrainConfig(env="toy", steps=12_000, gamma=0.9, **sizes, **checks)
    result = train(config, out=tmp_path / "run", env_factory=ReachToy)
    assert result.stopped_by == "success"
    outcome = evaluate(load_run(tmp_path / "run").act(), ReachToy(), 50, seed=9)
    assert outcome.success_rate >= 0.9


def test_time_limit_stops_and_can_be_resumed(tmp_path):
    config = small(steps=10_000_000, max_seconds=0.5)
    result = train(config, out=tmp_path / "run", env_factory=ReachToy)
    assert result.stopped_by == "time"
    seen = []
    resume(tmp_path / "run", steps=result.steps, env_factory=ReachToy, on_progress=seen.append)
    assert [progress.seconds_left for progress in seen] == [None]
    assert "left" not in progress_line(seen[0])
    assert resume(tmp_path / "run", steps=result.steps + 50, env_factory=ReachToy).steps == result.steps + 50


def test_the_seconds_of_a_resumed_run_go_on(tmp_path):
    train(small(), out=tmp_path / "run", env_factory=ReachToy)
    path = tmp_path / "run" / "metrics.csv"
    with path.open(newline="") as file:
        header, *rest, last = csv.reader(file)
    last[header.index("seconds")] = "5000.0"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rest, last])
    resume(tmp_path / "run", steps=400, env_factory=ReachToy)
    with path.open(newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)][len(rest) :]
    assert len(seconds) > 2
    assert seconds[0] == 5000 < seconds[1] < seconds[-1] < 5100


def test_a_policy_is_not_used_in_a_way_that_it_does_not_know(tmp_path):
    train(small(eval_period=0), out=tmp_path / "run", env_factory=ReachToy)
    run = load_run(tmp_path / "run")
    for select in ("bogus", ""):
        with pytest.raises(ConfigError, match=f"select must be one of best, mean, sample, it is '{select}'"):
            run.act(select)
    with pytest.raises(UnsupportedEnvError, match=r"ReachToy takes .* the shape \(6,\), found \(3,\)$"):
        evaluate(run.act(), "Pendulum-v1", 1)


class Unending(ReachToy):
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


def test_an_evaluation_that_does_not_end_leaves_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 50)
    settings = small(eval_period=100, checkpoint_period=100)
    with pytest.raises(FaultyEnvError, match=r"did not end within 50 steps.* With eval_period=0"):
        train(settings, out=tmp_path / "run", env_factory=Unending)
    assert load_run(tmp_path / "run").metadata.steps == 100


def test_the_last_evaluation_is_kept(tmp_path):
    unseen = train(small(eval_period=0), out=tmp_path / "unseen", env_factory=ReachToy)
    assert (unseen.return_mean, unseen.success_rate) == (None, None)
    seen = train(small(eval_period=240), out=tmp_path / "seen", env_factory=ReachToy)
    again = resume(tmp_path / "seen", steps=300, env_factory=ReachToy)
    assert (again.return_mean, again.success_rate) == (seen.return_mean, seen.success_rate)
    assert seen.return_mean is not None


def test_fewer_steps_than_done_are_refused(tmp_path):
    train(small(), out=tmp_path / "run", env_factory=ReachToy)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="has done 240 steps already"):
        resume(tmp_path / "run", steps=100, env_factory=ReachToy)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"compile": True}, r"compile needs a C\+\+ compiler"),
    ],
)
def test_a_run_of_another_machine_is_loaded_but_not_trained_on(settings, message, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "run"
    train(small(steps=100), out=folder, env_factory=ReachToy)
    config = dataclasses.replace(TrainConfig.load(folder / "config.yaml"), **settings)
    config.save(folder / "config.yaml")
    assert {parameter.device.type for parameter in load_run(folder).policy.parameters()} == {"cpu"}
    with pytest.raises(ConfigError, match=message):
        resume(folder, steps=200, env_factory=ReachToy)
    with pytest.raises(ConfigError, match=message):
        train(config, out=tmp_path / "new", env_factory=ReachToy)
    assert not (tmp_path / "new").exists()
