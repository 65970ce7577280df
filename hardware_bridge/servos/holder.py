"""Torque and goals of all servos on a bus, changed so that the change is seen to have happened."""

from collections.abc import Mapping, Sequence

from wpg.hardware_bridge.errors import ProtocolError, StaleStateError
from wpg.hardware_bridge.servos.bus import ATTEMPTS, ServoBus
from wpg.hardware_bridge.servos.checks import check_register
from wpg.hardware_bridge.servos.models import ServoModel

AGREEING_COUNTS = 16
"""Two reads of a servo's position, a few milliseconds apart, differ by no more."""

Counts = dict[int, int]
"""Positions or goals, by servo."""


class ServoHolder:
    """Holds servos at goals, and releases them.

    Args:
        bus: of the servos.
        model: their kind.
        names: name of every servo.
    """

    def __init__(self, bus: ServoBus, model: ServoModel, names: Mapping[int, str]) -> None:
        self._bus, self._model, self._names = bus, model, names
        self._servos = tuple(names)

    def send(self, goals: Mapping[int, int]) -> None:
        """Send goals to the servos that have one; nobody answers.

        Raises:
            LinkError: the link is dead.
        """
        if goals:
            register = self._model.goal_position
            self._bus.sync_write(
                register.address, {servo: register.encode(goal) for servo, goal in goals.items()}
            )

    def stance(self) -> Counts:
        """Position of every servo, on which two reads agree: one may be damaged and still fit its checksum.

        Raises:
            ProtocolError: no two reads agree.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        before: Counts = {}
        for _ in range(ATTEMPTS):
            present = self._bus.registers(self._servos, self._model.present_position)
            if before and _agreeing(present, before) == present:
                return present
            before = present
        raise ProtocolError("hold: no two reads agree on where the servos stand; does somebody move the arm?")

    def quick_stance(self) -> Counts:
        """As :meth:`stance`, from two reads that wait for nobody: of the servos that answer both alike.

        Raises:
            LinkError: the link is dead.
        """
        register = self._model.present_position
        first, second = (
            {
                servo: register.decode(status.data)
                for servo, status in self._bus.sync_read(
                    self._servos, register.address, register.size
                ).items()
            }
            for _ in range(2)
        )
        return _agreeing(second, first)

    def hold(self, goals: Mapping[int, int]) -> None:
        """Torque on with these goals, one for every servo; both are read back.

        Raises:
            ProtocolError: a servo refuses, or does not take its goal.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        # Before torque, so that nothing jumps; after it too, since enabling sets some servos' goals.
        self.send(goals)
        self._enable_torque()
        for _ in range(ATTEMPTS):
            self.send(goals)
            if self._bus.registers(self._servos, self._model.goal_position) == goals:
                return
        raise ProtocolError("hold: the servos do not take the goals that they were given")

    def _enable_torque(self) -> None:
        """One by one, each acknowledged; a servo that has lost it again by then is not told twice."""
        register = self._model.torque_enable
        for servo in self._servos:
            self._bus.write(servo, register, 1)
        check_register(self._bus, self._names, register, "torque", (1,))

    def release(self, servos: Sequence[int]) -> None:
        """Torque off in these servos, read back. All are told at once, so that a silent one hinders nobody.

        Raises:
            ProtocolError: a servo does not give up its torque.
            StaleStateError: a servo does not answer.
            LinkError: the link is dead.
        """
        register = self._model.torque_enable
        names = {servo: self._names[servo] for servo in servos}
        for left in reversed(range(ATTEMPTS if servos else 0)):
            self._bus.sync_write(register.address, dict.fromkeys(servos, register.encode(0)))
            try:
                return check_register(self._bus, names, register, "torque", (0,))
            except (ProtocolError, StaleStateError):
                if not left:
                    raise


def _agreeing(counts: Counts, before: Counts) -> Counts:
    """Those of ``counts`` that are near the same servo's in ``before``."""
    return {
        servo: count
        for servo, count in counts.items()
        if servo in before and abs(count - before[servo]) <= AGREEING_COUNTS
    }
