"""Serial ports and pseudo-terminals."""

import contextlib
import errno
import os
import termios
import tty

import serial
from serial.tools import list_ports

from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links.base import CHUNK, GONE_HINT, DescriptorLink, write_all
from wpg.hardware_bridge.links.url import LinkUrl


class SerialLink(DescriptorLink):
    """A serial port, or the slave end of a pty, opened exclusively.

    pyserial opens, locks and configures the port; reads and writes use its file descriptor directly, which
    takes a third of the time.

    Raises:
        LinkError: no such port, not permitted, in use.
    """

    def __init__(self, url: LinkUrl) -> None:
        super().__init__(url.text)
        try:
            self._port = serial.Serial(url.path, url.baudrate, timeout=0, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise self._cannot_open(url, error) from error
        self._descriptor = self._port.fileno()
        try:
            # pyserial leaves VMIN at 0, where "nothing yet" and "hung up" read alike.
            tty.setraw(self._descriptor, termios.TCSANOW)
            # DTR stays up when the port is closed: its next rise would restart some boards (Arduino Mega).
            attributes = termios.tcgetattr(self._descriptor)
            attributes[2] &= ~termios.HUPCL
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except termios.error as error:
            self.close()
            raise self._dead(f"{url.path} cannot be configured: {error}") from error
        # A USB adapter's latency timer, 16 ms by default, would be longer than the control period. Ports
        # without such a timer refuse to set it; their names do not tell.
        with contextlib.suppress(OSError, ValueError):
            self._port.set_low_latency_mode(True)

    def _cannot_open(self, url: LinkUrl, error: Exception) -> LinkError:
        code = getattr(error, "errno", None)
        if code == errno.ENOENT:
            return self._dead(f"no port {url.path}; ports here: {', '.join(serial_ports()) or 'none'}")
        if code in (errno.EACCES, errno.EPERM):
            return self._dead(
                f"no permission for {url.path}: run `sudo usermod -aG dialout $USER` and log in again"
            )
        if code in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in str(error):
            return self._dead(f"{url.path} is in use by another program: `fuser {url.path}` names it")
        return self._dead(f"{url.path} cannot be opened: {error}")

    def send(self, data: bytes) -> bool:
        """Write to the port."""
        try:
            return write_all(self._descriptor, data)
        except OSError as error:
            raise self._dead(_gone(error)) from error

    def _descriptors(self) -> tuple[int, ...]:
        return (self._descriptor,) if self._descriptor >= 0 else ()

    def _receive_ready(self) -> bytes:
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._dead(_gone(error)) from error
        if not data:
            raise self._dead(f"the other end has closed; {GONE_HINT}")
        return data

    def close(self) -> None:
        """Close and unlock the port."""
        self._descriptor = -1
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()


class PtyServerLink(DescriptorLink):
    """The robot's end of a pseudo-terminal, which clients may open, leave and open again."""

    def __init__(self) -> None:
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise LinkError(f"link pty: no pseudo-terminal to be had: {error.strerror}") from error
        super().__init__(f"serial://{os.ttyname(self._slave)}")
        # Our own hold on the slave's end keeps the master readable while no client has it open.
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)

    def send(self, data: bytes) -> bool:
        """Write to the client; dropped while nobody reads."""
        try:
            return write_all(self._master, data)
        except OSError as error:
            raise self._dead(_gone(error)) from error

    def _descriptors(self) -> tuple[int, ...]:
        return (self._master,) if self._master >= 0 else ()

    def _receive_ready(self) -> bytes:
        try:
            return os.read(self._master, CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._dead(_gone(error)) from error

    def close(self) -> None:
        """Close both ends: a client that still has it open reads a hang-up."""
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1


def serial_ports() -> list[str]:
    """Serial ports of this machine."""
    return sorted(port.device for port in list_ports.comports())


def _gone(error: OSError) -> str:
    return f"the port has gone ({error.strerror}); {GONE_HINT}"
