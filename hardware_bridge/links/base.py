"""The interface of all links."""

import errno
import os
import select
import socket
from abc import ABC, abstractmethod

from wpg.hardware_bridge.errors import LinkError

CHUNK = 65536
GONE_HINT = "is the robot (or its emulator) still running and connected?"
SEND_TIMEOUT_S = 0.002
"""Time to wait for a full transmit buffer before the bytes are dropped."""


class Link(ABC):
    """A non-blocking byte transport with deadlines.

    Datagram links keep each ``send`` whole; stream links may split and join. Protocols must work with both.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        """URL that the other end opens to reach this one, or that this end was opened with."""

    @abstractmethod
    def receive(self, timeout_s: float) -> bytes:
        """Bytes that have arrived; waits for them at most ``timeout_s``.

        Returns:
            Empty if nothing came in time.

        Raises:
            LinkError: the link is dead.
        """

    @abstractmethod
    def send(self, data: bytes) -> bool:
        """Send ``data``, without waiting for the other end.

        Returns:
            False if the other end does not take all bytes; the rest of them is dropped.

        Raises:
            LinkError: the link is dead.
        """

    def answers_sender(self) -> bool:
        """Whether :meth:`send` goes to the sender of the last bytes received."""
        return True

    def answer_sender(self) -> None:  # noqa: B027  most links have one other end
        """Let :meth:`send` go to the sender of the last bytes received, because they were valid."""

    @abstractmethod
    def close(self) -> None:
        """Release the link; harmless when called twice."""

    def _dead(self, reason: str) -> LinkError:
        return LinkError(f"link {self.url}: {reason}")


class DescriptorLink(Link):
    """A link that waits on file descriptors."""

    def receive(self, timeout_s: float) -> bytes:
        """Bytes that have arrived; waits for them at most ``timeout_s``."""
        descriptors = self._descriptors()
        if not descriptors:
            raise LinkError("the link is closed")
        # select takes microseconds; poll would round the deadline to milliseconds.
        ready, _, _ = select.select(descriptors, (), (), max(0.0, timeout_s))
        return self._receive_ready() if ready else b""

    @abstractmethod
    def _descriptors(self) -> tuple[int, ...]:
        """File descriptors that become readable when something arrives; none once it is closed."""

    @abstractmethod
    def _receive_ready(self) -> bytes:
        """Take what has arrived, without waiting."""


class SocketLink(DescriptorLink):
    """A link over one socket that does not block."""

    _socket: socket.socket
    _ended = ""
    """Error text for a read of nothing when something was ready; empty if that is no error."""

    def send(self, data: bytes) -> bool:
        """Send ``data``, without waiting for the other end."""
        try:
            return self._write(data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._dead(self._reason(error)) from error

    def _write(self, data: bytes) -> bool:
        return self._socket.send(data) == len(data)

    def _receive_ready(self) -> bytes:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._dead(self._reason(error)) from error
        if self._ended and not data:
            raise self._dead(self._ended)
        return data

    def _reason(self, error: OSError) -> str:
        """Error text for a socket that no longer works."""
        return f"the network failed: {error.strerror or error}"

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _descriptors(self) -> tuple[int, ...]:
        return (self._socket.fileno(),) if self._socket.fileno() >= 0 else ()


def write_all(descriptor: int, data: bytes) -> bool:
    """Write to a non-blocking stream; False when it stays full for :data:`SEND_TIMEOUT_S`.

    Raises:
        OSError: the stream is dead.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
            if not select.select((), (descriptor,), (), SEND_TIMEOUT_S)[1]:
                return False
    return True
