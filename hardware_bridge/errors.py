"""Exceptions of the bridge; the tree stands in the package's docstring."""


class BridgeError(RuntimeError):
    """Root of everything the bridge raises."""


class DescriptionError(BridgeError, ValueError):
    """A robot's description does not hold together."""


class LinkError(BridgeError, ConnectionError):
    """The link cannot be opened, or has died."""


class LinkUrlError(LinkError, ValueError):
    """The link's URL cannot be read, or names something the link does not have."""


class ProtocolError(BridgeError):
    """The device answers, but not as this protocol, this version or this robot."""


class FrameError(ProtocolError, ValueError):
    """Bytes that are no frame of this protocol: garbage, a bad checksum, a wrong length."""


class StaleStateError(BridgeError, TimeoutError):
    """No fresh state arrived in time."""


class LifecycleError(BridgeError):
    """A step that the run's present phase does not allow."""


class LogError(BridgeError, OSError):
    """The run log cannot be written or read."""
