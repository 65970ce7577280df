"""The phases of a run, and which may follow which."""

from collections.abc import Callable
from enum import StrEnum

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.errors import LifecycleError


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


_NEXT = {
    Phase.UNCONFIGURED: {Phase.CONNECTED},
    Phase.CONNECTED: {Phase.CHECKED},
    Phase.CHECKED: {Phase.ARMED, Phase.STOPPING},
    Phase.ARMED: {Phase.HOMING, Phase.RUNNING, Phase.HOLDING, Phase.STOPPING},
    Phase.HOMING: {Phase.WAITING, Phase.RUNNING, Phase.HOLDING, Phase.STOPPING},
    Phase.WAITING: {Phase.RUNNING, Phase.HOLDING, Phase.STOPPING},
    Phase.RUNNING: {Phase.HOMING, Phase.HOLDING, Phase.STOPPING},
    Phase.HOLDING: {Phase.HOMING, Phase.RUNNING, Phase.ARMED, Phase.STOPPING},
    Phase.STOPPING: {Phase.PARKED, Phase.FAULT},
    Phase.PARKED: set[Phase](),
    Phase.FAULT: set[Phase](),
}


class Lifecycle:
    """Holds the phase and lets only the drawn transitions happen.

    Args:
        clock: whose time phases last by.
        on_change: told of every new phase, and why.
    """

    def __init__(self, clock: Clock, on_change: Callable[[Phase, str], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._since_s = clock.now()
        self.phase = Phase.UNCONFIGURED

    @property
    def age_s(self) -> float:
        """How long the phase has lasted."""
        return self._clock.now() - self._since_s

    def enter(self, phase: Phase, reason: str = "") -> None:
        """Go on to ``phase``.

        Raises:
            LifecycleError: not from here.
        """
        if phase not in _NEXT[self.phase]:
            possible = ", ".join(sorted(_NEXT[self.phase])) or "none"
            raise LifecycleError(f"from phase {self.phase} to {phase}: possible are {possible}")
        self.phase = phase
        self._since_s = self._clock.now()
        self._on_change(phase, reason)
