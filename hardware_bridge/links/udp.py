"""UDP datagrams."""

import errno
import socket

from wpg.hardware_bridge.links.base import CHUNK, GONE_HINT, SocketLink
from wpg.hardware_bridge.links.url import LinkUrl

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


class UdpLink(SocketLink):
    """The bridge's end: sends to one address and receives only from it."""

    def __init__(self, url: LinkUrl) -> None:
        super().__init__(url.text)
        try:
            self._socket, address = _resolve(url)
        except OSError as error:
            raise self._dead(f"{url.host} has no address: {error.strerror or error}") from error
        try:
            self._socket.connect(address)
        except OSError as error:
            self.close()
            raise self._dead(f"{url.host} cannot be reached: {error.strerror or error}") from error

    def _reason(self, error: OSError) -> str:
        if error.errno == errno.ECONNREFUSED:
            return f"nothing listens there; {GONE_HINT}"
        return super()._reason(error)


class UdpServerLink(SocketLink):
    """The robot's end: receives from anybody, and sends to the sender chosen by :meth:`answer_sender`."""

    def __init__(self, url: LinkUrl) -> None:
        super().__init__(url.text)
        self._peer: Address | None = None
        self._sender: Address | None = None
        try:
            self._socket, address = _resolve(url)
        except OSError as error:
            raise self._dead(f"{url.host} has no address: {error.strerror or error}") from error
        try:
            self._socket.bind(address)
        except OSError as error:
            self.close()
            raise self._dead(bind_reason(error, url)) from error
        self.url = bound_url("udp", url.host, self._socket)

    def send(self, data: bytes) -> bool:
        """Send one datagram to the chosen sender; False while there is none."""
        if self._peer is None:
            return False
        try:
            return self._socket.sendto(data, self._peer) == len(data)
        except OSError:
            # A peer that is gone is no error here: the next one may have another address.
            return False

    def _receive_ready(self) -> bytes:
        try:
            data, self._sender = self._socket.recvfrom(CHUNK)
        except OSError:
            return b""
        return data

    def answers_sender(self) -> bool:
        """Whether the last datagram came from the chosen sender."""
        return self._sender == self._peer

    def answer_sender(self) -> None:
        """Send to the sender of the last datagram from now on."""
        self._peer = self._sender


def _resolve(url: LinkUrl) -> tuple[socket.socket, Address]:
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_DGRAM)
    except UnicodeError as error:
        raise OSError(f"no host is called that: {error}") from error
    family, kind, proto, _, address = found[0]
    connection = socket.socket(family, kind, proto)
    connection.setblocking(False)
    return connection, address


def bound_url(scheme: str, host: str, bound: socket.socket) -> str:
    """URL with the port that the system chose."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{bound.getsockname()[1]}"


def bind_reason(error: OSError, url: LinkUrl) -> str:
    """Error for an address that cannot be opened, with its remedy."""
    if error.errno == errno.EADDRINUSE:
        return f"port {url.port} is in use; choose another, or port 0 for any free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{url.host} is no address of this machine; 127.0.0.1 serves this machine alone"
    return f"cannot listen on {url.host}:{url.port}: {error.strerror or error}"
