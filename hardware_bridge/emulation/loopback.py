"""A driver and an emulated device in one thread, in the time of a clock that is moved by hand."""

from wpg.hardware_bridge.clock import ManualClock
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.faults import Device
from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links import Link


class LivingClock(ManualClock):
    """Lets an emulated arm live through every wait, as it would beside a real bridge.

    Args:
        start_s: where it stands at first.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__(start_s)
        self.arm: EmulatedArm | None = None
        """The emulated arm, to be set once it has been made in this clock's time."""

    def sleep_until(self, deadline_s: float) -> None:
        """Move on to the deadline, one physics step after the other."""
        while self.arm is not None and self.arm.next_step_s < deadline_s:
            super().sleep_until(self.arm.next_step_s)
            self.arm.advance_to(self.now())
        super().sleep_until(deadline_s)
        if self.arm is not None:
            self.arm.advance_to(self.now())


class LoopbackLink(Link):
    """Joins a driver to a device; answers take the time that the device gives them.

    Args:
        device: the other end.
        arm: what stands behind it.
        clock: the time of both.
    """

    def __init__(self, device: Device, arm: EmulatedArm, clock: ManualClock) -> None:
        super().__init__("loopback:")
        self._device, self._arm, self._clock = device, arm, clock
        self._answers = b""
        self.dead = False
        """It raises whatever is tried, as an adapter does that was pulled out."""
        self.silent = False
        """The device's answers are lost."""

    def send(self, data: bytes) -> bool:
        """Hand ``data`` to the device."""
        self._live()
        answer = self._device.feed(data, self._clock.now())
        if not self.silent:
            self._answers += answer
        return True

    def receive(self, timeout_s: float) -> bytes:
        """What the device has answered by then."""
        deadline_s = self._clock.now() + timeout_s
        while True:
            self._live()
            late = self._device.due(self._clock.now())
            data, self._answers = self._answers + (b"" if self.silent else late), b""
            if data:
                return data
            if self._clock.now() >= deadline_s:
                return b""
            self._clock.sleep_until(min(deadline_s, self._device.next_reply_s, self._arm.next_step_s))

    def close(self) -> None:
        """Nothing to release."""

    def _live(self) -> None:
        if self.dead:
            raise LinkError("link loopback: unplugged")
        self._arm.advance_to(self._clock.now())
