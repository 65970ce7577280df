"""Silences engines that print while they load."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard the output of compiled code within the context: standard output belongs to the program."""
    libc = ctypes.CDLL(None)
    saved, sink = (os.dup(1), os.dup(2)), os.open(os.devnull, os.O_WRONLY)
    _redirect(libc, (sink, sink))
    try:
        yield
    finally:
        _redirect(libc, saved)
        for descriptor in (*saved, sink):
            os.close(descriptor)


def _redirect(libc: ctypes.CDLL, to: tuple[int, int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    libc.fflush(None)
    os.dup2(to[0], 1)
    os.dup2(to[1], 2)
