"""The URL grammar of links."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from wpg.hardware_bridge.errors import LinkUrlError

DEFAULT_BAUDRATE = 1_000_000
LINK_SCHEMES = ("serial", "udp", "tcp", "pty")

_EXAMPLES = {
    "serial": "serial:///dev/ttyUSB0?baudrate=1000000",
    "udp": "udp://192.168.1.10:7700",
    "tcp": "tcp://192.168.1.10:7700",
    "pty": "pty:",
}


@dataclass(frozen=True, kw_only=True)
class LinkUrl:
    """A link's URL, taken apart and checked."""

    text: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    baudrate: int = DEFAULT_BAUDRATE

    @property
    def is_local(self) -> bool:
        """Whether the other end is on this machine or wired to it."""
        if not self.host or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def error(self, reason: str) -> LinkUrlError:
        """An error that names this URL."""
        return LinkUrlError(f"link {self.text!r}: {reason}")


def parse_link_url(text: str, *, baudrate: int | None = None) -> LinkUrl:
    """Read a link's URL.

    Args:
        text: the URL.
        baudrate: described rate of the robot's bus, for the ports of URLs that give none.

    Raises:
        LinkUrlError: unknown scheme, missing part or unknown option; shows a URL that would do. Or the URL
            gives another baudrate than the description.
    """

    def refuse(reason: str) -> LinkUrlError:
        example = _EXAMPLES.get(text.split(":", 1)[0])
        shown = example if example else ", ".join(_EXAMPLES.values())
        return LinkUrlError(f"link {text!r}: {reason}; for example {shown}")

    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise refuse(str(error)) from error
    if parts.scheme not in LINK_SCHEMES:
        raise refuse(f"expected one of the schemes {', '.join(LINK_SCHEMES)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    described = str(baudrate or DEFAULT_BAUDRATE)
    rate = options.pop("baudrate", described) if parts.scheme == "serial" else described
    if options:
        raise refuse(f"unknown option {', '.join(sorted(options))}")
    if not rate.isdecimal() or int(rate) == 0:
        raise refuse(f"baudrate must be a positive number, found {rate!r}")
    if baudrate is not None and int(rate) != baudrate:
        raise LinkUrlError(
            f"link {text!r}: the robot's description says [bus] baudrate = {baudrate}, the link {rate}: "
            "correct the description, or leave the link's out"
        )
    if parts.scheme == "serial":
        if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
            raise refuse("expected the path of a port after serial://")
        return LinkUrl(text=text, scheme="serial", path=parts.path, baudrate=int(rate))
    if parts.scheme == "pty":
        if parts.netloc or parts.path:
            raise refuse("a pty has no address of its own")
        return LinkUrl(text=text, scheme="pty")
    if not parts.hostname or port is None or parts.path not in ("", "/"):
        raise refuse("expected host:port")
    return LinkUrl(text=text, scheme=parts.scheme, host=parts.hostname, port=port)
