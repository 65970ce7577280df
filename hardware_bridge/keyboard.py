"""Keys of the terminal that a run heeds: an emergency stop, and a word to go on."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

EMERGENCY_KEY = b" "
"""The space bar: the largest."""
ENTER_KEY = b"\n"


class Keys:
    """What has been pressed. Never waits.

    Args:
        descriptor: of a terminal that hands over each key at once.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._entered = False

    def emergency(self) -> str:
        """``the space bar`` once that was pressed; else empty."""
        if not select.select((self._descriptor,), (), (), 0)[0]:
            return ""
        pressed = os.read(self._descriptor, 64)
        self._entered = self._entered or ENTER_KEY in pressed
        return "the space bar" if EMERGENCY_KEY in pressed else ""

    def enter(self) -> bool:
        """Whether Enter was among the keys that :meth:`emergency` has taken since the last call."""
        entered, self._entered = self._entered, False
        return entered


@contextlib.contextmanager
def terminal_keys(descriptor: int | None = None) -> Iterator[Keys | None]:
    """While open, the terminal hands over each key at once; Ctrl-C stays what it is.

    Args:
        descriptor: of the terminal; by default standard input.

    Yields:
        Its keys; None where there is no terminal, or where it belongs to another job or session.
    """
    if descriptor is None:
        descriptor = _standard_input()
    if descriptor is None or not _is_ours(descriptor):
        yield None
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield Keys(descriptor)
    finally:
        # A terminal that was closed meanwhile needs no mode back.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _is_ours(descriptor: int) -> bool:
    """Whether it is a terminal whose keys this process gets."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def _standard_input() -> int | None:
    """Its descriptor; None where it was closed, or is none of the system's."""
    try:
        return None if sys.stdin is None else sys.stdin.fileno()
    except (OSError, ValueError):
        return None
