"""Keys of the terminal during a run: the space bar for an emergency stop, and Enter to go on."""

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
    """Tells which keys have been pressed. Never waits.

    Args:
        descriptor: file descriptor of a terminal in cbreak mode.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._entered = False

    def emergency(self) -> str:
        """``the space bar`` if it has been pressed since the last call, else empty."""
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
    """Put the terminal into cbreak mode, where each key is read at once; Ctrl-C keeps its meaning.

    Args:
        descriptor: file descriptor of the terminal; standard input by default.

    Yields:
        Its keys; None if there is no terminal, or if it belongs to another job or session.
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
        # A terminal that was closed meanwhile cannot be set back.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _is_ours(descriptor: int) -> bool:
    """Whether it is a terminal whose keys this process gets."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def _standard_input() -> int | None:
    """File descriptor of standard input; None if it is closed or has no descriptor."""
    try:
        return None if sys.stdin is None else sys.stdin.fileno()
    except (OSError, ValueError):
        return None
