"""The console script: runs `wpg.cli.main`, and handles Ctrl-C while that is being imported."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from wpg.cli.main import main as run  # noqa: PLC0415  a second or more, in which users change their minds
    except KeyboardInterrupt:
        print("wpg: interrupted", file=sys.stderr)
        return 130
    return run()
