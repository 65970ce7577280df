"""Byte links to a robot: serial ports, pseudo-terminals, UDP and TCP, all named by a URL.

::

    serial:///dev/ttyUSB0?baudrate=1000000      a port; without a baudrate that of the description's servo
                                                bus, else 1000000
    udp://192.168.1.10:7700                     datagrams
    tcp://192.168.1.10:7700                     a stream
    pty:                                        the robot's end opens a pseudo-terminal and says where

:func:`open_link` opens the bridge's end, :func:`serve_link` the robot's.
"""

from wpg.hardware_bridge.links.base import Link
from wpg.hardware_bridge.links.serial_port import PtyServerLink, SerialLink
from wpg.hardware_bridge.links.tcp import TcpLink, TcpServerLink
from wpg.hardware_bridge.links.udp import UdpLink, UdpServerLink
from wpg.hardware_bridge.links.url import LINK_SCHEMES, LinkUrl, parse_link_url

__all__ = ["LINK_SCHEMES", "Link", "LinkUrl", "open_link", "parse_link_url", "serve_link"]


def open_link(url: str, *, baudrate: int | None = None) -> Link:
    """Open the bridge's end of a link.

    Args:
        url: the link.
        baudrate: described rate of the robot's bus; a serial port's URL need not give it, but may not
            give another.

    Raises:
        LinkUrlError: the URL cannot be read, or gives another baudrate.
        LinkError: nothing there, not permitted, or in use; the message says how to mend it.
    """
    parsed = parse_link_url(url, baudrate=baudrate)
    match parsed.scheme:
        case "serial":
            return SerialLink(parsed)
        case "udp":
            return UdpLink(parsed)
        case "tcp":
            return TcpLink(parsed)
    raise parsed.error(
        "only the robot's end opens a pty; give the serial:// URL that `wpg emulate` prints in its first line"
    )


def serve_link(url: str, *, baudrate: int | None = None) -> Link:
    """Open the robot's end of a link; its ``url`` is what the bridge's end is to open.

    Args:
        url: where to serve; port 0 takes any free port.
        baudrate: as in :func:`open_link`.

    Raises:
        LinkUrlError: the URL cannot be read, or gives another baudrate.
        LinkError: the address is in use, or the port cannot be opened.
    """
    parsed = parse_link_url(url, baudrate=baudrate)
    match parsed.scheme:
        case "serial":
            return SerialLink(parsed)
        case "udp":
            return UdpServerLink(parsed)
        case "tcp":
            return TcpServerLink(parsed)
    return PtyServerLink()
