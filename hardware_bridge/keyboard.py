"""A key of the terminal as an emergency stop."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator

EMERGENCY_KEY = b" "
"""The space bar: the largest."""


@contextlib.contextmanager
def emergency_key(descriptor: int | None = None) -> Iterator[Callable[[], str] | None]:
    """While open, the terminal hands over each key at once; Ctrl-C stays what it is.

    Args:
        descriptor: of the terminal; by default standard input.

    Yields:
        A function that says ``the space bar`` once that was pressed, without ever waiting; None where there
        is no terminal, or where it belongs to another job.
    """
    if descriptor is None:
        descriptor = _standard_input()
    if descriptor is None or not os.isatty(descriptor) or os.tcgetpgrp(descriptor) != os.getpgrp():
        yield None
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)

    def pressed() -> str:
        if not select.select((descriptor,), (), (), 0)[0]:
            return ""
        return "the space bar" if EMERGENCY_KEY in os.read(descriptor, 64) else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _standard_input() -> int | None:
    """Its descriptor; None where it was closed, or is none of the system's."""
    try:
        return None if sys.stdin is None else sys.stdin.fileno()
    except (OSError, ValueError):
        return None
