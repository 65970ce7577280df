"""Which phases of a run may follow which."""

from collections.abc import Callable

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.errors import LifecycleError
from wpg.hardware_bridge.phase import Phase

NEXT_PHASES = {
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
"""The phases that may follow each; a run ends in a phase that has none."""


class Lifecycle:
    """Holds the phase of a run and allows only the transitions that ``docs/safety.md`` draws.

    Args:
        clock: measures how long phases last.
        on_change: called with every new phase and the reason for it.
    """

    def __init__(self, clock: Clock, on_change: Callable[[Phase, str], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._since_s = clock.now()
        self.phase = Phase.UNCONFIGURED

    @property
    def age_s(self) -> float:
        """How long the present phase has lasted."""
        return self._clock.now() - self._since_s

    def enter(self, phase: Phase, reason: str = "") -> None:
        """Go on to ``phase``.

        Raises:
            LifecycleError: the phase must not follow the present one.
        """
        if phase not in NEXT_PHASES[self.phase]:
            possible = ", ".join(sorted(NEXT_PHASES[self.phase])) or "none"
            raise LifecycleError(f"from phase {self.phase} to {phase}: possible are {possible}")
        self.phase = phase
        self._since_s = self._clock.now()
        self._on_change(phase, reason)
