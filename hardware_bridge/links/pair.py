"""One end of a pair of sockets: how a process talks to one that it has started."""

import socket

from wpg.hardware_bridge.links.base import CHUNK, SocketLink


class PairLink(SocketLink):
    """A local socket that keeps packets whole and notices when the other process ends.

    Args:
        url: what errors call it.
        connection: ``AF_UNIX``, ``SOCK_SEQPACKET``; closed with this link.
    """

    def __init__(self, url: str, connection: socket.socket) -> None:
        super().__init__(url)
        self._socket = connection
        connection.setblocking(False)

    def send(self, data: bytes) -> bool:
        """Send one packet."""
        try:
            return self._socket.send(data) == len(data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._dead(f"the process at the other end has ended: {error.strerror}") from error

    def _receive_ready(self) -> bytes:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._dead(f"the process at the other end has ended: {error.strerror}") from error
        if not data:
            raise self._dead("the process at the other end has ended")
        return data
