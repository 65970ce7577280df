"""Opens the robots that commands move, with an emergency stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.loop_config import load_safety
from wpg.hardware_bridge.control.safety import SafetyConfig
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
        LinkError: the robot is on another machine, and there is no key.
    """
    secret = None if key is None else read_key(key)
    return open_robot(description, link, key=secret, calibration=calibration)


def safety_of(file: Path | None) -> SafetyConfig:
    """Thresholds and workspace from a file; the defaults if there is none.

    Raises:
        DescriptionError: the file cannot be used.
    """
    return SafetyConfig() if file is None else load_safety(file)


@contextmanager
def emergency_stop(console: Console) -> Iterator[EmergencyStop]:
    """While open, the space bar stops the arm at once, if there is a terminal."""
    with keys_of_terminal(console) as keys:
        yield stop_by(keys)


@contextmanager
def stoppable(console: Console) -> Iterator[tuple[EmergencyStop, Callable[[], str]]]:
    """While open, signals stop the arm in good order, and the space bar stops it at once.

    Yields:
        The emergency stop, and a function that returns the name of the signal that asked for a stop, or "".

    Raises:
        KeyboardInterrupt: replaces an error of the block that a signal caused.
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
    """While open, keys of the terminal are read, if there is one; prints which keys have a meaning."""
    with terminal_keys() as keys:
        if keys is not None:
            console.print(
                Text.assemble(("space bar: emergency stop", "bold"), "; Ctrl-C or Ctrl-Z: stop in good order")
            )
        yield keys


def stop_by(keys: Keys | None) -> EmergencyStop:
    """The emergency stop that the space bar triggers."""
    return EmergencyStop() if keys is None else EmergencyStop(keys.emergency)
