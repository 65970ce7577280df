"""The phases of a run."""

from enum import StrEnum


class Phase(StrEnum):
    """What a run does at present; ``docs/safety.md`` draws which phase may follow which."""

    UNCONFIGURED = "unconfigured"
    CONNECTED = "connected"
    """The robot answers, and it is the right one."""
    CHECKED = "checked"
    """The policy fits the robot, and the arm may be armed where it stands."""
    ARMED = "armed"
    """Torque is on, and the arm is commanded to stand where it is."""
    HOMING = "homing"
    """The arm goes to where the policy was trained to start from."""
    WAITING = "waiting"
    """The arm waits at its start until the object lies again where the policy was trained to find it."""
    RUNNING = "running"
    """The policy moves the arm."""
    HOLDING = "holding"
    """Something is wrong: the arm is brought to rest and held there."""
    STOPPING = "stopping"
    """The run is over: the arm is brought to rest."""
    PARKED = "parked"
    """The robot has confirmed that it stopped as configured."""
    FAULT = "fault"
    """The robot has not confirmed that it stopped; its own watchdog holds it."""
