"""Serves a simulated arm in real time over a link, behind a real device protocol."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Protocol

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.dynamixel_device import DynamixelDevice
from wpg.hardware_bridge.emulation.faults import Device, FaultSpec, FaultyDevice, FaultyLink
from wpg.hardware_bridge.emulation.servo_device import FeetechDevice
from wpg.hardware_bridge.errors import BridgeError, LinkError
from wpg.hardware_bridge.links import Link, parse_link_url, serve_link
from wpg.hardware_bridge.links.serial_port import PtyServerLink
from wpg.hardware_bridge.native.device import NativeDevice
from wpg.hardware_bridge.protocols.dynamixel import DynamixelProtocol
from wpg.hardware_bridge.protocols.feetech import FeetechProtocol
from wpg.hardware_bridge.robot import SimulatedRobot
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.witness import Witness

LOOK_S = 150e-6
"""Sleeping processes wake up to this late, so the emulator polls instead around times that matter."""


class Companion(Protocol):
    """Something that is simulated beside the arm, such as a camera."""

    def advance_to(self, now_s: float) -> None:
        """Advance to ``now_s``; called after every physics step."""
        ...

    def close(self) -> None:
        """Release what it holds; harmless when called twice."""
        ...


class Emulator:
    """Serves one simulated arm behind one device protocol on one link.

    Clients may come, go and be killed: the arm's watchdog holds it, and the next client finds it there.

    Args:
        robot: the simulated arm; the emulator closes it.
        url: where to serve, e.g. ``pty:`` or ``udp://127.0.0.1:0``.
        protocol: device protocol.
        key: shared secret of the native protocol.
        faults: what goes wrong on the link and in the device.
        seed: of the faults.
        wrap_link: puts something between protocol and link.
        companions: what is simulated beside the arm, such as a camera; closed with it.

    Raises:
        LinkError: the link cannot be opened, or others could reach it and there is no key.
        BridgeError: no emulator of the protocol for this arm, or no such servo to be dead.
    """

    def __init__(
        self,
        robot: SimulatedRobot,
        url: str,
        *,
        protocol: str = "native",
        key: bytes | None = None,
        clock: Clock | None = None,
        faults: FaultSpec | None = None,
        seed: int = 0,
        wrap_link: Callable[[Link], Link] | None = None,
        companions: Sequence[Companion] = (),
    ) -> None:
        self._companions = companions
        self._clock = clock or RealClock()
        self.protocol = protocol
        resolution = 0.0 if protocol == "native" else RAD_PER_COUNT
        self._arm = EmulatedArm(robot, self._clock.now(), resolution)
        self._device: Device = make_device(protocol, self._arm, key)
        if not parse_link_url(url).is_local and (key is None or protocol != "native"):
            reason = "without a key" if protocol == "native" else f"protocol {protocol} knows no key:"
            raise LinkError(f"link {url}: {reason} only this machine may be served, e.g. at 127.0.0.1")
        if faults is not None:
            self._device = FaultyDevice(self._device, faults, self._clock.now())
        bus = None if protocol == "native" else robot.description.bus
        self._link = serve_link(url, baudrate=bus.baudrate if bus is not None else None)
        self.url = self._link.url
        """What a client opens."""
        # A kernel worker forwards a pseudo-terminal's bytes; polling would keep it off the core.
        self._listen_s = 0.0 if isinstance(self._link, PtyServerLink) else LOOK_S
        if wrap_link is not None:
            self._link = wrap_link(self._link)
        if faults is not None:
            self._link = FaultyLink(self._link, faults, seed=seed, clock=self._clock)

    @property
    def witness(self) -> Witness:
        """Record of what has reached the device so far."""
        return self._arm.witness

    def hello(self) -> dict[str, str | int]:
        """Where and what is served: the first line that ``wpg emulate`` prints."""
        return {
            "link": self.url,
            "robot": self._arm.description.name,
            "protocol": self.protocol,
            "pid": os.getpid(),
        }

    def serve(self, should_stop: Callable[[], bool | str]) -> Witness:
        """Serve in real time until ``should_stop()``, which is asked at every physics step.

        Raises:
            LinkError: the link itself died, e.g. a serial adapter was pulled out.
        """
        clock, link, arm = self._clock, self._link, self._arm
        arm.begin(clock.now())
        device = self._device
        listening_until_s = -math.inf
        while True:
            now_s = clock.now()
            if now_s >= arm.next_step_s:
                arm.advance_to(now_s)
                for companion in self._companions:
                    companion.advance_to(now_s)
                if should_stop():
                    break
            now_s = clock.now()
            wait_s = min(arm.next_step_s, device.next_reply_s - LOOK_S) - now_s
            data = link.receive(max(0.0, wait_s) if now_s >= listening_until_s else 0.0)
            reply = self._feed(data) if data else b""
            if due := device.due(clock.now()):
                # The client is expected to send its next message soon after this answer.
                listening_until_s = clock.now() + self._listen_s
            if reply := reply + due:
                link.send(reply)
        return self.witness

    def _feed(self, data: bytes) -> bytes:
        """Answers to received bytes. Answers go to a new sender only after it has sent a valid frame."""
        frames_ok = self.witness.frames_ok
        reply = self._device.feed(data, self._clock.now())
        if self.witness.frames_ok > frames_ok:
            self._link.answer_sender()
        return reply

    def close(self) -> None:
        """Close link, arm and companions; harmless when called twice."""
        self._link.close()
        for companion in self._companions:
            companion.close()
        self._arm.close()


def make_device(protocol: str, arm: EmulatedArm, key: bytes | None = None) -> Device:
    """The device side of a protocol.

    Raises:
        BridgeError: no emulator of this protocol.
        DescriptionError: the arm has no servos that speak it.
    """
    match protocol:
        case "native":
            return NativeDevice(arm, key)
        case "feetech":
            return FeetechDevice(arm, FeetechProtocol())
        case "dynamixel":
            return DynamixelDevice(arm, DynamixelProtocol())
    raise BridgeError(f"no emulator of protocol {protocol!r}: expected native, dynamixel or feetech")
