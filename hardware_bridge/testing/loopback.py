"""A link that joins a driver to an emulated device in one thread, in simulated time."""

from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.faults import Device
from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.testing.clocks import ManualClock


class LoopbackLink(Link):
    """Joins a driver to an emulated device. Answers arrive when the device would have sent them.

    Args:
        device: device at the other end.
        arm: the arm behind the device.
        clock: time of both.
    """

    def __init__(self, device: Device, arm: EmulatedArm, clock: ManualClock) -> None:
        super().__init__("loopback:")
        self._device, self._arm, self._clock = device, arm, clock
        self._answers = b""
        self.dead = False
        """Whether the link is broken: sending and receiving raise, as if an adapter was pulled out."""
        self.silent = False
        """Whether the device's answers are lost."""

    def send(self, data: bytes) -> bool:
        """Hand ``data`` to the device."""
        self._live()
        answer = self._device.feed(data, self._clock.now())
        if not self.silent:
            self._answers += answer
        return True

    def receive(self, timeout_s: float) -> bytes:
        """What the device has answered within ``timeout_s``."""
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
