"""The recorded versions of packages and code."""

import subprocess

import pytest

from wpg.controllers.provenance import checkout_commit


@pytest.mark.parametrize("failure", [subprocess.TimeoutExpired("git", 10), FileNotFoundError("git")])
def test_training_does_not_wait_for_git(failure, monkeypatch):
    def run(*args, **options):
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    assert checkout_commit() is None
