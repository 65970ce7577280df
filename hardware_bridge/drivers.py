"""Finds the driver of a robot, among the shipped ones and those that other packages add.

A package adds a protocol by an entry point with the protocol's name, which is called like :class:`Driver`::

    [project.entry-points."wpg.protocols"]
    canopen = "my_package:open_robot"

A description then says ``protocol = "canopen"``, or a link ``canopen://...``.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal, Protocol, get_args

from wpg.hardware_bridge.description import ProtocolName, RobotDescription
from wpg.hardware_bridge.errors import DescriptionError, LinkUrlError
from wpg.hardware_bridge.franka.robot import FrankaRobot
from wpg.hardware_bridge.lerobot_robot import LeRobotRobot
from wpg.hardware_bridge.links.url import LINK_SCHEMES
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import Robot
from wpg.hardware_bridge.servos.calibration import load_calibration
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot

GROUP = "wpg.protocols"
OVER_LINKS = get_args(ProtocolName)
"""Protocols that work over any link of bytes; the others have a link scheme of their own."""


class Driver(Protocol):
    """Makes a robot that is not yet connected."""

    def __call__(
        self, description: RobotDescription, url: str, *, key: bytes | None, calibration: Path | None
    ) -> Robot:
        """Driver of ``description`` at ``url``; key and calibration are None if none was given.

        Raises:
            LinkUrlError: one of them was given, but this protocol does not use it.
        """
        ...


_SHIPPED: dict[str, tuple[Callable[..., Robot], Literal["key", "calibration"] | None]] = {
    "native": (NativeRobot, "key"),
    "dynamixel": (DynamixelRobot, "calibration"),
    "feetech": (FeetechRobot, "calibration"),
    "fci": (FrankaRobot, None),
    "lerobot": (LeRobotRobot, None),
}
"""The driver of each protocol, and the option that it takes."""


def _open(
    protocol: str, description: RobotDescription, url: str, *, key: bytes | None, calibration: Path | None
) -> Robot:
    """A shipped :class:`Driver`, once ``protocol`` is bound; options that it does not use are refused."""
    robot, accepted = _SHIPPED[protocol]
    options: dict[str, object] = {"key": key, "calibration": calibration}
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name != accepted:
            raise LinkUrlError(f"protocol {protocol} takes no {name}: leave it out")
    if calibration is not None:
        options["calibration"] = load_calibration(calibration, description)
    return robot(description, url, **options)


def protocol_names() -> tuple[str, ...]:
    """All protocols that have a driver, the shipped ones first."""
    return (*_SHIPPED, *sorted(set(_brought()) - set(_SHIPPED)))


def is_link(text: str) -> bool:
    """Whether a text is the link of a robot, rather than a file or an environment."""
    scheme, colon, _ = text.partition(":")
    return "://" in text or (bool(colon) and scheme in _schemes())


def find_driver(description: RobotDescription, url: str) -> Driver:
    """The driver of the protocol that the link's scheme names, otherwise of the description's protocol.

    Raises:
        LinkUrlError: the scheme is neither a link's nor a protocol's.
        DescriptionError: there is no driver, or the package that adds it cannot be loaded.
    """
    scheme = url.partition(":")[0]
    if scheme not in _schemes():
        known = (*LINK_SCHEMES, *(name for name in protocol_names() if name not in OVER_LINKS))
        meant = f"; did you mean serial://{url}?" if url.startswith("/") else ""
        raise LinkUrlError(f"link {url!r}: expected one of the schemes {', '.join(known)}{meant}")
    name = scheme if scheme in protocol_names() else description.protocol
    if name in _SHIPPED:
        return partial(_open, name)
    brought = _brought()
    if name not in brought:
        raise DescriptionError(
            f"robot {description.name}: no driver of protocol {name!r}, only of {', '.join(protocol_names())}"
        )
    try:
        driver: Driver = brought[name].load()
    except (ImportError, AttributeError) as error:
        raise DescriptionError(
            f"protocol {name!r}: {brought[name].value} cannot be loaded: {error}"
        ) from error
    return driver


def _schemes() -> tuple[str, ...]:
    return *LINK_SCHEMES, *protocol_names()


def _brought() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
