"""The folder of a run: when it is refused, and what a resumed run keeps of it."""

import os

import pytest
from toy import ReachToy, small

from wpg.controllers import RunFolderError, load_run, resume, train
from wpg.controllers.training.metrics import COLUMNS, MetricsLog


def test_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "keep").write_text("mine")
    with pytest.raises(RunFolderError, match="exists already"):
        train(small(), out=tmp_path, env_factory=ReachToy)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]
    with pytest.raises(RunFolderError, match="no run folder"):
        resume(tmp_path)


def test_a_folder_without_a_checkpoint_is_not_to_be_resumed(tmp_path):
    with pytest.raises(RunFolderError, match="out must be the path"):
        train(small(), out="", env_factory=ReachToy)
    (tmp_path / "run").mkdir()
    train(small(), out=tmp_path / "run", env_factory=ReachToy)
    with pytest.raises(RunFolderError, match="choose another, or resume it"):
        train(small(), out=tmp_path / "run", env_factory=ReachToy)
    (tmp_path / "run" / "checkpoint").rename(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="choose another, or remove it: that run has no checkpoint"):
        train(small(), out=tmp_path / "run", env_factory=ReachToy)


class Wandering(ReachToy):
    """Changes the working directory."""

    def reset(self, *, seed=None, options=None):
        os.chdir("/")
        return super().reset(seed=seed)


def test_an_environment_may_change_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(small(), out="run", env_factory=Wandering)
    assert load_run(tmp_path / "run").metadata.steps == 240
    monkeypatch.chdir(tmp_path)
    resume("run", steps=300, env_factory=Wandering)
    assert load_run(tmp_path / "run").metadata.steps == 300


@pytest.mark.parametrize("cut", ["80,4,20", "80,4,20\r\n", "80" + "," * 14])
def test_a_row_that_was_cut_short_is_dropped(cut, tmp_path):
    path = tmp_path / "metrics.csv"
    whole = ",".join(COLUMNS) + "\r\n40" + "," * 14 + "\r\n"
    path.write_bytes((whole + cut).encode())
    with MetricsLog(tmp_path, resume_step=80):
        assert path.read_bytes() == whole.encode()


@pytest.mark.parametrize("damaged", [b"4o" + b"," * 14, b"40" + b"," * 13 + b"\xff,"])
def test_a_damaged_row_is_told(damaged, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b",".join(name.encode() for name in COLUMNS) + b"\r\n" + damaged + b"\r\n")
    with pytest.raises(RunFolderError, match=r"metrics\.csv, line 2: expected numbers, "):
        MetricsLog(tmp_path, resume_step=80)


def test_a_run_with_damaged_metrics_keeps_its_settings(tmp_path):
    folder = tmp_path / "run"
    train(small(), out=folder, env_factory=ReachToy)
    before = (folder / "config.yaml").read_bytes()
    with (folder / "metrics.csv").open("ab") as file:
        file.write(b"4o" + b"," * 14 + b"\r\n")
    with pytest.raises(RunFolderError, match="expected numbers"):
        resume(folder, steps=300, env_factory=ReachToy)
    assert (folder / "config.yaml").read_bytes() == before
