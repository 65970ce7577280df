"""Exceptions of the bridge.

::

    BridgeError (RuntimeError)
    ├── DescriptionError (ValueError)     a robot's description does not hold together
    ├── LinkError (ConnectionError)       the link cannot be opened, or has died
    │   ├── LinkUrlError (ValueError)     the link's URL cannot be read
    │   └── NotConnectedError             a robot that must be connected first
    ├── ProtocolError                     the device answers, but not as this protocol or this robot
    │   └── FrameError (ValueError)       bytes that are no frame
    │       └── UnauthenticatedError      protocols.framing: a frame that is not tagged with the key
    ├── StaleStateError (TimeoutError)    no fresh state arrived in time
    ├── LifecycleError                    a step that the run's present phase does not allow
    ├── LogError (OSError)                the run log cannot be written or read
    ├── KeyFileError (ValueError)         keys: the key file cannot be used
    ├── FaultSpecError (ValueError)       emulation.faults: the faults that are asked for cannot be read
    └── FciReflexError                    franka.connection: a Franka arm has stopped by itself

Where a module is named, the error is defined there.
"""


class BridgeError(RuntimeError):
    """Root of everything the bridge raises."""


class DescriptionError(BridgeError, ValueError):
    """A robot's description does not hold together."""


class LinkError(BridgeError, ConnectionError):
    """The link cannot be opened, or has died."""


class LinkUrlError(LinkError, ValueError):
    """The link's URL cannot be read, or names something the link does not have."""


class NotConnectedError(LinkError):
    """What was asked of a robot needs it to be connected."""

    def __init__(self, message: str = "the robot is not connected: call connect() first") -> None:
        super().__init__(message)


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
