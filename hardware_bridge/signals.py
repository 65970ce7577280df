"""Ctrl-C and SIGTERM as a request, not as an exception in the middle of a tick."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], str]]:
    """While open, signals that would end the process are kept; yields a function that names the first one.

    To be used in the main thread.
    """
    received: list[str] = []

    def keep(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    previous = {number: signal.signal(number, keep) for number in SIGNALS}
    try:
        yield lambda: received[0] if received else ""
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
