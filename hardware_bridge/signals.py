"""Turns Ctrl-C, Ctrl-Z and SIGTERM into a request to stop: a tick is neither interrupted nor suspended."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from wpg.hardware_bridge.control.emergency_stop import EmergencyStop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EMERGENCY = signal.SIGQUIT
"""Ctrl-\\ on a terminal."""
SUSPENSION = signal.SIGTSTP
"""Ctrl-Z on a terminal."""
SUSPENDED = "SIGTSTP, a stop in good order: a run that moves an arm cannot be suspended"


@contextmanager
def stop_on_signals(emergency: EmergencyStop | None = None) -> Iterator[Callable[[], str]]:
    """Keep signals that would end the process; yields a function that names the first one, or returns "".

    If ``emergency`` is given, an arm is being moved: SIGQUIT and a second SIGINT trigger it, and SIGTSTP is
    kept as well, because a suspended process would leave the arm to itself. A SIGHUP that is ignored, as
    under nohup, stays ignored. To be used in the main thread.
    """
    received: list[str] = []

    def keep(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if emergency is not None and (number == EMERGENCY or (number == signal.SIGINT and name in received)):
            emergency.trigger(name)
        received.append(SUSPENDED if number == SUSPENSION else name)

    kept = {*SIGNALS} if emergency is None else {*SIGNALS, EMERGENCY, SUSPENSION}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        kept.remove(signal.SIGHUP)
    previous = {number: signal.signal(number, keep) for number in kept}
    try:
        yield lambda: received[0] if received else ""
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
