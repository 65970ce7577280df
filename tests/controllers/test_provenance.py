"""The recorded versions of packages and code."""

import subprocess

import pytest

from wpg.controllers.training.provenance import checkout_commit


def test_a_commit_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    def git(*args):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *args], check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert checkout_commit() is None
    git("init")
    assert checkout_commit() is None
    file = tmp_path / "robot.toml"
    file.write_text("length = 1")
    git("add", ".")
    git("commit", "-m", "robot")
    git("tag", "-a", "v1", "-m", "v1")
    commit = git("rev-parse", "HEAD")
    assert checkout_commit() == commit
    file.write_text("length = 2")
    assert checkout_commit() == f"{commit}-dirty"


@pytest.mark.parametrize("failure", [subprocess.TimeoutExpired("git", 10), FileNotFoundError("git")])
def test_training_does_not_wait_for_git(failure, monkeypatch):
    def run(*args, **options):
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    assert checkout_commit() is None
