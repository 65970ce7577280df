"""Files of a run: a failed write keeps the old file, and a damaged or foreign one is named."""

import dataclasses
import errno
import os
import random

import gymnasium as gym
import pytest
import torch
from safetensors.torch import save_file
from toy import ReachToy, small

from wpg.controllers import (
    CheckpointFormatError,
    CheckpointWriteError,
    ConfigError,
    TrainConfig,
    load_run,
    resume,
    train,
)
from wpg.controllers.training import checkpoint


def no_space(above):
    """A disk with space for this many bytes."""

    def sync(descriptor):
        if os.fstat(descriptor).st_size > above:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return sync


def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    train(small(), out=tmp_path / "run", env_factory=ReachToy)
    before = checkpoint.read(tmp_path / "run" / "checkpoint")

    monkeypatch.setattr(os, "fsync", no_space(above=10_000))
    with pytest.raises(
        CheckpointWriteError, match="No space left on device; the checkpoint before it is intact"
    ):
        resume(tmp_path / "run", steps=320, env_factory=ReachToy)
    monkeypatch.undo()
    after = checkpoint.read(tmp_path / "run" / "checkpoint")
    assert after[1] == before[1]
    assert all(torch.equal(after[0][name], before[0][name]) for name in before[0])
    assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == [checkpoint.FILE_NAME]
    assert resume(tmp_path / "run", env_factory=ReachToy).steps == 320


def test_a_checkpoint_may_be_read_by_whom_the_settings_may(tmp_path):
    train(small(steps=100), out=tmp_path / "run", env_factory=ReachToy)
    modes = [
        (tmp_path / "run" / name).stat().st_mode for name in ("config.yaml", "checkpoint/state.safetensors")
    ]
    assert modes[0] == modes[1]


def test_a_checkpoint_that_has_no_place_is_told(tmp_path):
    train(small(steps=100), out=tmp_path / "run", env_factory=ReachToy)
    _, state = checkpoint.read(tmp_path / "run" / "checkpoint")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointWriteError, match=r"File exists.*; there is none before it"):
        checkpoint.write(tmp_path / "file", {}, state)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_named(tmp_path, content):
    train(small(steps=100), out=tmp_path / "run", env_factory=ReachToy)
    path = tmp_path / "run" / "checkpoint" / checkpoint.FILE_NAME
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(CheckpointFormatError, match=r"state\.safetensors"):
        load_run(tmp_path / "run")


def test_no_damaged_byte_is_loaded(tmp_path):
    train(small(steps=100), out=tmp_path / "run", env_factory=ReachToy)
    folder = tmp_path / "run" / "checkpoint"
    path = folder / checkpoint.FILE_NAME
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(0)
    for end in [header, len(content)] * 100:
        damaged = bytearray(content)
        damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointFormatError, match=r"state\.safetensors"):
            checkpoint.read(folder)


@pytest.mark.parametrize("header", ["[]", "{", '{"version": 8}', '{"version": 8, "state": {"kept": "all"}}'])
def test_a_damaged_state_is_named(header, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 8)
    save_file({}, tmp_path / checkpoint.FILE_NAME, {"wpg": header})
    with pytest.raises(CheckpointFormatError, match=r"state\.safetensors is no checkpoint of ours"):
        checkpoint.read(tmp_path)


def test_a_run_on_another_environment_is_refused(tmp_path):
    train(small(steps=100), out=tmp_path / "run", env_factory=ReachToy)
    with pytest.raises(CheckpointFormatError, match=r"was trained on .*dim=4,.*, not on .*dim=5,"):
        resume(tmp_path / "run", env_factory=lambda: ReachToy(joints=3))


def test_a_run_of_another_release_is_told_by_its_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(small(steps=100), out=folder, env_factory=ReachToy)
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(line for line in lines if "policy_delay" not in line))
    with pytest.raises(ConfigError, match="policy_delay"):
        load_run(folder)
    ours = checkpoint.VERSION
    monkeypatch.setattr(checkpoint, "VERSION", ours + 1)
    for read in (load_run, resume):
        with pytest.raises(CheckpointFormatError, match=f"has version {ours}, this release reads {ours + 1}"):
            read(folder)


@pytest.mark.parametrize(
    ("read", "settings", "message"),
    [
        (load_run, {"hidden": 32}, "size mismatch for network"),
        (resume, {"num_particles": 5}, "size mismatch for network"),
        (resume, {"replay_capacity": 50}, r"expanded size of the tensor \(50\)"),
    ],
)
def test_settings_of_other_sizes_are_told(read, settings, message, tmp_path, monkeypatch):
    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", ReachToy))
    folder = tmp_path / "run"
    train(small("Toy-v0", steps=100, overlap=False), out=folder)
    dataclasses.replace(TrainConfig.load(folder / "config.yaml"), **settings).save(folder / "config.yaml")
    with pytest.raises(CheckpointFormatError, match=rf"does not fit its config\.yaml: .*{message}"):
        read(folder)


def test_a_replay_memory_that_was_full_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setitem(gym.registry, "Toy-v0", gym.envs.registration.EnvSpec("Toy-v0", ReachToy))
    folder = tmp_path / "run"
    config = small("Toy-v0", steps=100, overlap=False, replay_capacity=60)
    train(config, out=folder)
    stored = TrainConfig.load(folder / "config.yaml")
    dataclasses.replace(stored, replay_capacity=200).save(folder / "config.yaml")
    with pytest.raises(CheckpointFormatError, match=r"holds 60 transitions, .* replay_capacity of 200"):
        resume(folder, steps=200)


def test_full_disk_keeps_the_old_settings(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    small().save(path)
    monkeypatch.setattr(os, "fsync", no_space(above=0))
    with pytest.raises(OSError, match="No space left on device"):
        small(steps=480).save(path)
    assert TrainConfig.load(path) == small()
    assert list(tmp_path.iterdir()) == [path]
