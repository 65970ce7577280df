"""TCP streams."""

import contextlib
import socket

from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links.base import CHUNK, GONE_HINT, DescriptorLink, SocketLink, write_all
from wpg.hardware_bridge.links.udp import bind_reason, bound_url
from wpg.hardware_bridge.links.url import LinkUrl

CONNECT_TIMEOUT_S = 2.0
SILENCE_MS = 1000
"""Bytes that are unacknowledged for longer close the connection, as after a pulled cable."""


class TcpLink(SocketLink):
    """The bridge's end of a stream."""

    _ended = f"the other end has closed; {GONE_HINT}"

    def __init__(self, url: LinkUrl) -> None:
        super().__init__(url.text)
        try:
            self._socket = socket.create_connection((url.host, url.port), timeout=CONNECT_TIMEOUT_S)
        except ConnectionRefusedError as error:
            raise self._dead(f"nothing listens there; {GONE_HINT}") from error
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise self._dead(f"{url.host} cannot be reached: {reason}") from error
        _tune(self._socket)

    def _write(self, data: bytes) -> bool:
        return write_all(self._socket.fileno(), data)

    def _reason(self, error: OSError) -> str:
        return f"the connection broke ({error.strerror or error}); {GONE_HINT}"


class TcpServerLink(DescriptorLink):
    """The robot's end: one client at a time, others are turned away until it leaves."""

    def __init__(self, url: LinkUrl) -> None:
        super().__init__(url.text)
        self._client: socket.socket | None = None
        try:
            family = socket.AF_INET6 if ":" in url.host else socket.AF_INET
            self._listener = socket.create_server((url.host, url.port), family=family, backlog=1)
        except OSError as error:
            raise self._dead(bind_reason(error, url)) from error
        self._listener.setblocking(False)
        self.url = bound_url("tcp", url.host, self._listener)

    def send(self, data: bytes) -> bool:
        """Write to the client; False while there is none."""
        if self._client is None:
            return False
        try:
            return write_all(self._client.fileno(), data)
        except OSError:
            self._drop_client()
            return False

    def _descriptors(self) -> tuple[int, ...]:
        if self._listener.fileno() < 0:
            return ()
        if self._client is None:
            return (self._listener.fileno(),)
        return (self._client.fileno(), self._listener.fileno())

    def _receive_ready(self) -> bytes:
        data = b""
        if self._client is not None:
            try:
                data = self._client.recv(CHUNK)
                if not data:
                    self._drop_client()
            except BlockingIOError:
                pass
            except OSError:
                self._drop_client()
        with contextlib.suppress(BlockingIOError):
            newcomer, _ = self._listener.accept()
            if self._client is None:
                _tune(newcomer)
                self._client = newcomer
            else:
                newcomer.close()
        return data

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """Close client and listener."""
        self._drop_client()
        self._listener.close()


def _tune(connection: socket.socket) -> None:
    connection.setblocking(False)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    except OSError as error:
        raise LinkError(f"the connection broke while it was set up: {error.strerror}") from error
