"""The phases of a run."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a run stands; drawn in ``docs/safety.md``."""

    UNCONFIGURED = "unconfigured"
    CONNECTED = "connected"
    """The right robot answers."""
    CHECKED = "checked"
    """Policy and robot fit, and the arm stands well."""
    ARMED = "armed"
    """Torque is on; the arm is commanded to stand where it is."""
    HOMING = "homing"
    """The arm goes where the policy was trained to start from."""
    WAITING = "waiting"
    """The arm stands out of the way until the object lies again where the policy was trained to find it."""
    RUNNING = "running"
    """The policy moves the arm."""
    HOLDING = "holding"
    """Something is wrong: the arm is brought to rest and kept there."""
    STOPPING = "stopping"
    """The run is over: the arm is brought to rest."""
    PARKED = "parked"
    """The robot has confirmed that it stopped as configured."""
    FAULT = "fault"
    """The robot has not confirmed; its own watchdog holds it."""
