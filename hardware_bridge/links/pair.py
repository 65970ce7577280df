"""One end of a pair of sockets, between a process and one that it has started."""

import socket

from wpg.hardware_bridge.links.base import SocketLink


class PairLink(SocketLink):
    """A local socket that keeps packets whole and notices when the other process ends.

    Args:
        url: name of the link in errors.
        connection: ``AF_UNIX``, ``SOCK_SEQPACKET``; closed with this link.
    """

    _ended = "the process at the other end has ended"

    def __init__(self, url: str, connection: socket.socket) -> None:
        super().__init__(url)
        self._socket = connection
        connection.setblocking(False)

    def _reason(self, error: OSError) -> str:
        return f"{self._ended}: {error.strerror}"
