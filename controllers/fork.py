"""A process that is forked from this one and answers its requests, on another core.

Forked, since it then has what the caller's program registered, closures that cannot be pickled, and the
memory that is shared with it; and it starts at once.
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
"""For the process to end by itself."""

Answer = Callable[[Any], Any]
"""From a request to its reply."""


def can_fork() -> bool:
    """Whether a process can be forked that keeps what it inherits: on Linux."""
    return hasattr(os, "sched_getaffinity")


def has_spare_core() -> bool:
    """Whether this process may use more than one core, and can fork another that does."""
    return can_fork() and len(os.sched_getaffinity(0)) > 1


class Fork:
    """A process that is forked here and ends with this object, or with this process.

    What is raised there is raised here, by the `receive` that follows.

    Args:
        name: of the process, for errors.
        serve: is entered there, and left when no request can follow; it gives what answers them.

    Raises:
        ForkedProcessError: the process ended, or it raised what cannot be pickled.
    """

    def __init__(self, name: str, serve: Callable[[], AbstractContextManager[Answer]]) -> None:
        self.name = name
        self._socket, theirs = socket.socketpair()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_run, args=(serve, self._socket, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns where other threads run, whose locks stay locked; none is taken over there.
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
        """Send a request; a reply follows."""
        try:
            self._link.send(request)
        except ConnectionError as error:
            raise self._ended() from error

    def receive(self) -> Any:
        """Wait for the reply to the oldest request that has none yet."""
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
    serve: Callable[[], AbstractContextManager[Answer]], theirs: socket.socket, ours: socket.socket
) -> None:
    """Answer requests until the other end is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of the whole group: the caller decides
        signal.signal(number, signal.SIG_IGN)
    theirs.close()
    link = Connection(ours.detach())
    try:
        with serve() as answer:
            _reply(link, None)
            for request in _requests(link):
                _reply(link, answer(request))
    except Exception as error:
        _reply(link, _portable(error))


def _requests(link: Connection) -> Iterator[Any]:
    """Requests until the other end is gone."""
    while True:
        try:
            request = link.recv()
        except (EOFError, ConnectionError):
            return
        yield request


def _reply(link: Connection, reply: Any) -> None:
    """Reply, if the other end is still there; if not, no request follows."""
    with contextlib.suppress(ConnectionError):
        link.send(reply)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with the way it took here as a note."""
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ForkedProcessError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error
