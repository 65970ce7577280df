"""Environments and policy in forked processes: same results and errors, and no process left behind."""

import multiprocessing
import os
import signal
import socket

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from test_trainer import rows, small
from toy import ReachToy

from wpg.controllers import ConfigError, ForkedProcessError, train
from wpg.controllers.forked_process import has_spare_core
from wpg.controllers.training import checkpoint
from wpg.controllers.training.envs import ForkedEnvs, LocalEnvs
from wpg.controllers.training.trainer import Trainer


def contents(folder):
    tensors, state = checkpoint.read(folder / "checkpoint")
    return {name: value.tolist() for name, value in tensors.items()}, state


@pytest.mark.parametrize(
    ("settings", "factory"),
    [
        ({"num_envs": 3, "updates_per_step": 0.75}, lambda: ReachToy(joints=3)),
        ({"env": "Pendulum-v1", "steps": 500, "learning_starts": 160, "checkpoint_period": 150}, None),
    ],
    ids=["goals, a closure", "Pendulum-v1"],
)
def test_training_is_the_same_bit_for_bit(settings, factory, tmp_path):
    train(small(**settings, overlap=False), out=tmp_path / "one", env_factory=factory)
    train(small(**settings, overlap=True), out=tmp_path / "two", env_factory=factory)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("kwargs", "cores", "expected"),
    [
        ({}, {0, 1}, (ForkedEnvs, 2)),
        ({}, {0}, (LocalEnvs, 0)),
        ({"overlap": False}, {0, 1}, (LocalEnvs, 0)),
        ({"overlap": True}, {0}, (ForkedEnvs, 2)),
        ({"threads": 2}, {0, 1}, (ForkedEnvs, 1)),
        ({"env": "Pendulum-v1"}, {0, 1}, (LocalEnvs, 1)),
        ({"factory": ReachToy}, {0, 1}, (LocalEnvs, 1)),
    ],
)
def test_what_has_a_process_of_its_own(kwargs, cores, expected, tmp_path, monkeypatch):
    """The environments run in a process, and so does the policy if it is updated by one thread."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", ReachToy))
    settings = {"env": "Toy-v0"} | kwargs
    factory = settings.pop("factory", None)
    with Trainer(small(**settings), tmp_path, factory) as trainer:
        assert (type(trainer.rollout.envs), len(multiprocessing.active_children())) == expected
    assert multiprocessing.active_children() == []


def test_without_fork_overlap_is_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    with pytest.raises(ConfigError, match=r"forked, as on Linux .*; set overlap=False, or"):
        train(small(overlap=True), out=tmp_path / "run", env_factory=ReachToy)
    assert not has_spare_core()


STEPS = Box(0, 99, (1,))


class Counting(gym.Env):
    """Observes how many steps were taken, in one vector or in parts."""

    action_space = Box(-1, 1, (1,))

    def __init__(self, parts):
        self.parts, self.observation_space = parts, Dict(steps=STEPS, same=STEPS) if parts else STEPS

    def observe(self, steps):
        return {"steps": steps, "same": steps} if self.parts else steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = np.zeros(1, np.float32)
        return self.observe(self.steps), {}

    def step(self, action):
        self.steps = self.steps + 1
        return self.observe(self.steps), 0.0, False, bool(self.steps[0] == 5), {}


class CountingTogether(VectorEnv):
    """Counts in one array, which it returns again and again."""

    def __init__(self, num_envs, autoreset_mode, parts):
        self.one, self.num_envs = Counting(parts), num_envs
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.single_action_space = self.one.action_space
        self.single_observation_space = self.one.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.steps = np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps[options["reset_mask"]] = 0
        return self.one.observe(self.steps), {}

    def step(self, actions):
        self.steps += 1
        never, over = np.zeros(self.num_envs, np.bool_), self.steps[:, 0] == 5
        return self.one.observe(self.steps), np.zeros(self.num_envs), never, over, {}


@pytest.mark.parametrize("parts", [False, True])
def test_a_vector_environment_may_keep_its_array_or_observe_in_parts(parts, tmp_path, monkeypatch):
    spec = gym.envs.registration.EnvSpec(
        "Count-v0", Counting, vector_entry_point=CountingTogether, kwargs={"parts": parts}
    )
    monkeypatch.setitem(gym.registry, "Count-v0", spec)
    train(small("Count-v0", num_envs=2, eval_period=0), out=tmp_path / "run")
    rows = checkpoint.read(tmp_path / "run" / "checkpoint")[0]["replay.rows"]
    size = 2 if parts else 1
    assert bool((rows[:, -size:] - rows[:, :size] == 1).all())


def _train_as_daemon(settings, out):
    torch.set_num_threads(1)
    config = small("Pendulum-v1", steps=80, learning_starts=10, **settings)
    return train(config, out=out).steps


def test_a_worker_of_a_pool_trains_in_one_process(tmp_path):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_train_as_daemon, ({}, tmp_path / "run")) == 80
        with pytest.raises(ConfigError, match=r"such as the workers of multiprocessing\.Pool"):
            pool.apply(_train_as_daemon, ({"overlap": True}, tmp_path / "other"))


class OddError(Exception):
    def __init__(self, joint, angle):
        super().__init__(f"joint {joint} at {angle}")


class Failing(ReachToy):
    """Fails at its 30th step."""

    taken = 0

    def fail(self):
        raise ValueError("the arm came loose")

    def step(self, action):
        self.taken += 1
        if self.taken == 30:
            self.fail()
        return super().step(action)


class FailingOddly(Failing):
    def fail(self):
        raise OddError(2, 0.5)


class Disconnected(Failing):
    def fail(self):
        raise ConnectionResetError("the simulator's server is gone")


class Exiting(Failing):
    def fail(self):
        os._exit(7)


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (Failing, ValueError, "the arm came loose"),
        (FailingOddly, ForkedProcessError, "OddError: joint 2 at 0.5"),
        (Disconnected, ConnectionResetError, "the simulator's server is gone"),
        (Exiting, ForkedProcessError, "the environments' process ended by itself, with exit code 7"),
    ],
)
def test_what_an_environment_raises_comes_out(factory, error, message, tmp_path):
    with pytest.raises(error) as caught:
        train(small(overlap=True), out=tmp_path / "run", env_factory=factory)
    assert str(caught.value) == message
    assert factory is Exiting or "in fail" in "".join(caught.value.__notes__)
    assert multiprocessing.active_children() == []


def test_training_ends_where_the_policy_s_process_is_killed(tmp_path, monkeypatch):
    class Killing(Failing):
        def fail(self):
            (policy,) = multiprocessing.active_children()
            policy.kill()

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(ForkedProcessError, match="the policy's process ended by itself, with exit code -9"):
        train(small(learning_starts=10), out=tmp_path / "run", env_factory=Killing)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [ValueError, ConnectionRefusedError])
def test_an_environment_that_cannot_be_made(error, tmp_path):
    made = []

    def make():
        if made:
            raise error("only one arm here")
        made.append(ReachToy())
        return made[0]

    with pytest.raises(error, match="only one arm here"):
        train(small(overlap=True), out=tmp_path / "run", env_factory=make)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{}, {"overlap": True}, {"replay_capacity": 10**15}])
def test_environments_are_closed_where_training_cannot_begin(settings, tmp_path):
    """The run folder cannot be made, or the memory for the transitions cannot be allocated."""
    opened = []

    class Closing(ReachToy):
        def __init__(self):
            super().__init__()
            opened.append(self)

        def close(self):
            opened.remove(self)

    (tmp_path / "file").touch()
    with pytest.raises((NotADirectoryError, ConfigError)):
        train(small(**settings), out=tmp_path / "file" / "run", env_factory=Closing)
    assert opened == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_behind(number, tmp_path):
    """The environments hold one end of a socket, which closes when their process has ended."""
    ours, theirs = socket.socketpair()

    class Telling(ReachToy):
        def step(self, action):
            theirs.send(b"." if multiprocessing.parent_process() else b"")
            return super().step(action)

    def run():
        ours.close()
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests before have set
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        config = small(steps=10_000_000, learning_starts=9_999_999, eval_period=0, overlap=True)
        train(config, out=tmp_path / "run", env_factory=Telling)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    theirs.close()
    ours.recv(1)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # Ctrl-C reaches the group
    while ours.recv(4096):
        pass
    process.join()
    ours.close()
    assert process.exitcode != 0
