"""Exceptions of the bridge; the tree stands in the package's docstring."""


class BridgeError(RuntimeError):
    """Root of everything the bridge raises."""


class DescriptionError(BridgeError, ValueError):
    """A robot's description does not hold together."""


class LinkError(BridgeError, ConnectionError):
    """The link cannot be opened, or has died."""


class ProtocolError(BridgeError):
    """The device answers, but not as this protocol, this version or this robot."""


class StaleStateError(BridgeError, TimeoutError):
    """No fresh state arrived in time."""
