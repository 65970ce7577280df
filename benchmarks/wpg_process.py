"""Runs `wpg` in other processes, as a user does."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

WPG = (sys.executable, "-m", "wpg.cli.main")


class Emulated(NamedTuple):
    """A robot in another process."""

    process: "subprocess.Popen[str]"
    link: str
    hello: dict[str, Any]
    """The line of JSON that it prints once it is ready."""


def run_command(*arguments: str | Path, check: bool = True, quiet: bool = False) -> int:
    """Run a `wpg` command to its end; returns its exit code.

    Args:
        arguments: the command line after `wpg`.
        check: raise CalledProcessError if the exit code is not 0.
        quiet: drop what it prints.
    """
    stdout = subprocess.DEVNULL if quiet else None
    return subprocess.run([*WPG, *map(str, arguments)], check=check, stdout=stdout).returncode


@contextmanager
def emulated(robot: str, *options: str | Path) -> Iterator[Emulated]:
    """Run `wpg emulate` during the block; its `--json` file exists afterwards."""
    command = [*WPG, "emulate", robot, *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(command)} ended before it was ready")
            hello = json.loads(line)
            yield Emulated(process, hello["link"], hello)
        finally:
            process.terminate()
