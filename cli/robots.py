"""The robots that commands move: behind their links, with an emergency stop at hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.keyboard import Keys, terminal_keys
from wpg.hardware_bridge.keys import read_key
from wpg.hardware_bridge.robot import Robot
from wpg.hardware_bridge.session import open_robot
from wpg.hardware_bridge.signals import stop_on_signals


def robot_at(
    link: str, description: RobotDescription, *, key: Path | None = None, calibration: Path | None = None
) -> Robot:
    """The driver for the robot behind a link, not yet connected.

    Args:
        link: its URL.
        description: the robot that is expected there.
        key: file with the secret that both ends share.
        calibration: LeRobot's file of an arm on a servo bus.

    Raises:
        KeyFileError, DescriptionError, LinkUrlError: one of them cannot be used.
    """
    secret = None if key is None else read_key(key)
    return open_robot(description, link, key=secret, calibration=calibration)


@contextmanager
def emergency_stop(console: Console) -> Iterator[EmergencyStop]:
    """While open, the space bar stops the arm at once, where there is a terminal to press it on."""
    with keys_of_terminal(console) as keys:
        yield stop_by(keys)


@contextmanager
def stoppable(console: Console) -> Iterator[tuple[EmergencyStop, Callable[[], str]]]:
    """While open, signals stop the arm in good order, the space bar at once.

    Yields:
        The emergency stop, and what names the signal that asked for a stop.

    Raises:
        KeyboardInterrupt: in place of the block's error, which a signal asked for.
    """
    with emergency_stop(console) as emergency, stop_on_signals(emergency) as should_stop:
        try:
            yield emergency, should_stop
        except BridgeError as error:
            if should_stop() and not emergency.source:
                raise KeyboardInterrupt(str(error)) from error
            raise


@contextmanager
def keys_of_terminal(console: Console) -> Iterator[Keys | None]:
    """While open, the terminal's keys are heeded, where there is one; says which."""
    with terminal_keys() as keys:
        if keys is not None:
            console.print(
                Text.assemble(("space bar: emergency stop", "bold"), "; Ctrl-C: stop in good order")
            )
        yield keys


def stop_by(keys: Keys | None) -> EmergencyStop:
    """The emergency stop that the space bar triggers."""
    return EmergencyStop() if keys is None else EmergencyStop(keys.emergency)
