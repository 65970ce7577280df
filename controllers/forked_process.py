"""A process that is forked from this one and handles its requests on another core.

A forked process inherits everything that the caller's program registered, closures that cannot be pickled,
and shared memory, and it starts at once.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from wpg.controllers.errors import ForkedProcessError

END_SECONDS = 10.0
"""Time for the process to end by itself, before it is killed."""

RequestHandler = Callable[[Any], Any]
"""From a request to its reply."""


def can_fork() -> bool:
    """Whether this process can fork one that keeps what it inherits.

    Linux can, but Python forbids it in a daemonic process, such as a worker of `multiprocessing.Pool`.
    """
    return hasattr(os, "sched_getaffinity") and not multiprocessing.current_process().daemon


def has_spare_core() -> bool:
    """Whether this process may use more than one core and can fork a process that uses another one."""
    return can_fork() and len(os.sched_getaffinity(0)) > 1


def overlaps(wanted: bool | None) -> bool:
    """Whether to run work in a process of its own: as `wanted`; if that is None, where a core is spare."""
    return has_spare_core() if wanted is None else wanted


class ForkedProcess:
    """A process that is forked here and ends with this object, or with this process.

    An exception that is raised there is raised again here, by the next `receive`.

    Args:
        name: of the process, for error messages.
        serve: context manager that is entered in the new process and gives the handler of its requests; it
            is left when no more requests can come.

    Raises:
        ForkedProcessError: the process ended, or it raised an exception that cannot be pickled.
    """

    def __init__(self, name: str, serve: Callable[[], AbstractContextManager[RequestHandler]]) -> None:
        self.name = name
        self._socket, theirs = socket.socketpair()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_run, args=(serve, self._socket, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns that locks held by other threads stay locked in the fork; it takes none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        self._link = Connection(os.dup(self._socket.fileno()))
        try:
            self.receive()
        except BaseException:
            self.close()
            raise

    def send(self, request: Any) -> None:
        """Send a request; every request gets one reply."""
        try:
            self._link.send(request)
        except ConnectionError as error:
            raise self._ended() from error

    def receive(self) -> Any:
        """Wait for the reply to the oldest request that has not been answered yet."""
        try:
            reply = self._link.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """End the process."""
        if self._link.closed:
            return
        self._socket.shutdown(socket.SHUT_RDWR)  # seen there even if another fork still holds the socket
        self._socket.close()
        self._link.close()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ended(self) -> ForkedProcessError:
        self._process.join(END_SECONDS)
        return ForkedProcessError(f"{self.name} ended by itself, with exit code {self._process.exitcode}")


def _run(
    serve: Callable[[], AbstractContextManager[RequestHandler]], theirs: socket.socket, ours: socket.socket
) -> None:
    """Handle requests in the new process until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the terminal sends these to the whole process group
        signal.signal(number, signal.SIG_IGN)
    theirs.close()
    link = Connection(ours.detach())
    try:
        with serve() as handle:
            _reply(link, None)
            for request in _requests(link):
                _reply(link, handle(request))
    except Exception as error:
        _reply(link, _portable(error))


def _requests(link: Connection) -> Iterator[Any]:
    """Requests until the other end is closed."""
    while True:
        try:
            request = link.recv()
        except (EOFError, ConnectionError):
            return
        yield request


def _reply(link: Connection, reply: Any) -> None:
    """Reply, unless the other end is closed, in which case no more requests can come."""
    with contextlib.suppress(ConnectionError):
        link.send(reply)


def _portable(error: Exception) -> Exception:
    """The error in a form that can be pickled, with this process's traceback as a note."""
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ForkedProcessError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error
