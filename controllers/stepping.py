"""N environments stepped side by side, in this process or in one of their own.

A step is begun and later finished. In a process of their own the environments step in between, while the
caller learns on another core; in this process they do so when the step is finished. Results are the same,
bit for bit.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wpg.controllers.environment import Envs, FloatArray
from wpg.controllers.errors import EnvProcessError

END_SECONDS = 10.0
"""For the environments' process to end by itself."""


class Outcome(NamedTuple):
    """One step of N environments."""

    obs: Any
    """Flat observations (N, obs_dim), or a goal Dict of them, before any reset."""
    reward: NDArray[np.floating]
    """(N,)."""
    terminated: NDArray[np.bool_]
    """(N,)."""
    truncated: NDArray[np.bool_]
    """(N,)."""
    success: NDArray[np.bool_]
    """`info["is_success"]`, (N,)."""
    reported: NDArray[np.bool_]
    """Whether the environment says if it succeeded, (N,)."""


class Stepping(ABC):
    """N environments, reset on demand alone."""

    num_envs: int

    @abstractmethod
    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """Begin new episodes in some environments (N,); returns the observations of all."""

    @abstractmethod
    def begin(self, actions: FloatArray) -> None:
        """Begin a step of every environment with `actions (N, A)`, in the environment's units."""

    @abstractmethod
    def finish(self) -> Outcome:
        """Finish the step that was begun."""

    @abstractmethod
    def close(self) -> None:
        """Close the environments."""


class InProcess(Stepping):
    """Environments of this process."""

    def __init__(self, envs: Envs) -> None:
        self.envs, self.num_envs = envs, envs.num_envs
        self._actions: FloatArray

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `Stepping.reset`."""
        # Gymnasium's base class declares one seed; its implementations, and ours, take one for each.
        return self.envs.reset(seed=seeds, options={"reset_mask": which})[0]  # type: ignore[arg-type]

    def begin(self, actions: FloatArray) -> None:
        """See `Stepping.begin`."""
        self._actions = actions

    def finish(self) -> Outcome:
        """See `Stepping.finish`."""
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        nothing = np.zeros(self.num_envs, np.bool_)
        success = np.asarray(infos.get("is_success", nothing), np.bool_)
        return Outcome(obs, reward, terminated, truncated, success, infos.get("_is_success", nothing))

    def close(self) -> None:
        """See `Stepping.close`."""
        self.envs.close()


def can_fork() -> bool:
    """Whether a process can be forked that keeps what it inherits: on Linux."""
    return hasattr(os, "sched_getaffinity")


def has_spare_core() -> bool:
    """Whether this process may use more than one core, and can fork another that does."""
    return can_fork() and len(os.sched_getaffinity(0)) > 1


class OwnProcess(Stepping):
    """Environments of a process that is forked here and ends with this object, or with this process.

    Forked, since it then has the environments that the caller's program registered, and closures that
    cannot be pickled, and starts at once. What an environment raises is raised here.

    Args:
        make: makes the environments, there.
        num_envs: how many.

    Raises:
        EnvProcessError: the process ended, or it raised what cannot be pickled.
    """

    def __init__(self, make: Callable[[], Envs], num_envs: int) -> None:
        self.num_envs = num_envs
        self._socket, theirs = socket.socketpair()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_serve, args=(make, self._socket, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns where other threads run, whose locks stay locked; none is taken over there.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        self._link = Connection(os.dup(self._socket.fileno()))
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: list[int | None], which: NDArray[np.bool_]) -> Any:
        """See `Stepping.reset`."""
        self._send((seeds, which))
        return self._receive()

    def begin(self, actions: FloatArray) -> None:
        """See `Stepping.begin`."""
        self._send(actions)

    def finish(self) -> Outcome:
        """See `Stepping.finish`."""
        outcome: Outcome = self._receive()
        return outcome

    def close(self) -> None:
        """See `Stepping.close`."""
        if self._link.closed:
            return
        self._socket.shutdown(socket.SHUT_RDWR)  # seen there even if another fork still holds the socket
        self._socket.close()
        self._link.close()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _send(self, request: Any) -> None:
        try:
            self._link.send(request)
        except ConnectionError as error:
            raise self._ended() from error

    def _receive(self) -> Any:
        try:
            answer = self._link.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> EnvProcessError:
        self._process.join(END_SECONDS)
        return EnvProcessError(
            f"the environments' process ended by itself, with exit code {self._process.exitcode}"
        )


def _serve(make: Callable[[], Envs], theirs: socket.socket, ours: socket.socket) -> None:
    """Obey requests until the other end is gone: actions are stepped, anything else is a reset."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of the whole group: the caller decides
        signal.signal(number, signal.SIG_IGN)
    theirs.close()
    link = Connection(ours.detach())
    envs: InProcess | None = None
    try:
        envs = InProcess(make())
        _answer(link, None)
        for request in _requests(link):
            if isinstance(request, np.ndarray):
                envs.begin(request)
                _answer(link, envs.finish())
            else:
                _answer(link, envs.reset(*request))
    except Exception as error:
        _answer(link, _portable(error))
    finally:
        if envs is not None:
            envs.close()


def _requests(link: Connection) -> Iterator[Any]:
    """Requests until the other end is gone."""
    while True:
        try:
            request = link.recv()
        except (EOFError, ConnectionError):
            return
        yield request


def _answer(link: Connection, answer: Any) -> None:
    """Answer, if the other end is still there; if not, no request follows."""
    with contextlib.suppress(ConnectionError):
        link.send(answer)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with the way it took here as a note."""
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = EnvProcessError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error
