"""Makes a loop punctual on Linux: priority, locked memory, a core of its own, no garbage collection."""

import contextlib
import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_TIMERSLACK = 29
_IN_CONTAINER = "this root lacks the capability, as in a container by default: start it with {}"


@dataclass(frozen=True, kw_only=True)
class RealtimeConfig:
    """How punctual the loop is to be made."""

    priority: int | None = 80
    """SCHED_FIFO priority, 1 to 99; None leaves the scheduler as it is."""
    cpu: int | None = None
    """Core to run on; None leaves it to the scheduler."""

    def __post_init__(self) -> None:
        if self.priority is not None and not 1 <= self.priority <= 99:
            raise ValueError(f"priority: expected 1 to 99, found {self.priority}")
        if self.cpu is not None and self.cpu < 0:
            raise ValueError(f"cpu: expected 0 or more, found {self.cpu}")


@contextlib.contextmanager
def realtime(config: RealtimeConfig) -> Iterator[tuple[str, ...]]:
    """Take real-time rights for this thread while open, as far as they are granted.

    All of it is given back at the end as far as the kernel permits. Giving back never raises: the run that it
    follows has been done.

    Yields:
        What was not granted, each with the line that grants it.
    """
    warnings: list[str] = []
    libc = ctypes.CDLL(None, use_errno=True)
    # Timers fire up to 50 µs late unless told otherwise; this needs no right.
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    affinity = os.sched_getaffinity(0)
    scheduler, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    if config.cpu is not None:
        _pin(config.cpu, warnings)
    if config.priority is not None:
        warnings.extend(filter(None, (take_priority(config.priority), lock_memory())))
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield tuple(warnings)
    finally:
        gc.enable()
        gc.unfreeze()
        libc.munlockall()
        _give_back_priority(scheduler, parameter)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, affinity)
        libc.prctl(_PR_SET_TIMERSLACK, 0, 0, 0, 0)


def take_priority(priority: int) -> str:
    """Give this thread a SCHED_FIFO priority; returns what is missing and the line that grants it, or ""."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        soft, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
        remedy = (
            "`sudo groupadd -f realtime && sudo usermod -aG realtime $USER`, put "
            "`@realtime - rtprio 90` into /etc/security/limits.d/wpg.conf, and log in again"
        )
        if os.geteuid() == 0:
            remedy = _IN_CONTAINER.format("`--cap-add SYS_NICE` or `--ulimit rtprio=90`")
        return f"no real-time priority (limit {soft}): {remedy}"
    return ""


def lock_memory() -> str:
    """Lock this process's memory; returns what is missing and the line that grants it, or ""."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return ""
    reason = os.strerror(ctypes.get_errno())
    remedy = "put `@realtime - memlock unlimited` into /etc/security/limits.d/wpg.conf and log in again"
    if os.geteuid() == 0:
        remedy = _IN_CONTAINER.format("`--cap-add IPC_LOCK` or `--ulimit memlock=-1`")
    return f"memory not locked ({reason}): {remedy}"


def unpin() -> None:
    """Let this thread run on every core again, if it has inherited the restriction to one."""
    if len(os.sched_getaffinity(0)) == 1:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))


def _pin(cpu: int, warnings: list[str]) -> None:
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, OverflowError):
        cores = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        warnings.append(f"not pinned to core {cpu}: cores of this process are {cores}")


def _give_back_priority(scheduler: int, parameter: os.sched_param) -> None:
    with contextlib.suppress(OSError):
        try:
            os.sched_setscheduler(0, scheduler, parameter)
        except PermissionError:
            # Only with CAP_SYS_NICE may the flag be cleared that taking the priority has set. A user with an
            # rtprio limit does not have it, and the flag does no harm at an ordinary priority.
            os.sched_setscheduler(0, scheduler | os.SCHED_RESET_ON_FORK, parameter)
