"""Replacement of files, and the lock on a run folder."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from toy import ReachToy, small

from wpg.controllers import RunFolderError, resume, train
from wpg.controllers.files import replacing


def test_two_writers_of_a_file_do_not_mix(tmp_path):
    path = tmp_path / "policy.onnx"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "state"
    program = """if True:
        import os, pathlib, signal, sys
        from wpg.controllers.files import replacing
        with replacing(pathlib.Path(sys.argv[1])) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with replacing(path) as partial:
        partial.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


def test_only_one_process_trains_in_a_folder(tmp_path):
    folder = tmp_path / "run"
    shown = []

    def intrude(progress):
        if shown or not (folder / "checkpoint").exists():
            return
        shown.append(progress)
        with pytest.raises(RunFolderError, match=f"another process trains in {folder}"):
            resume(folder, env_factory=ReachToy)
        for child in multiprocessing.active_children():
            held = os.scandir(f"/proc/{child.pid}/fd")
            assert str(folder) not in [os.readlink(descriptor.path) for descriptor in held]

    train(small(overlap=True, eval_period=0), out=folder, env_factory=ReachToy, on_progress=intrude)
    assert shown
    assert resume(folder, steps=260, env_factory=ReachToy).steps == 260
