"""The process that answers the robot every millisecond: ``python -m wpg.hardware_bridge.franka.gateway``.

It reads its settings from standard input, and speaks native frames on a socket that it has inherited. On
standard output it writes JSON lines: that it is ready, what is wrong, and at the end what it has seen.
"""

import signal
import socket
import sys
from typing import Any

import msgspec

from wpg.hardware_bridge.clock import RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError, LinkError
from wpg.hardware_bridge.franka.arm import FciArm
from wpg.hardware_bridge.franka.connection import FciConnection
from wpg.hardware_bridge.franka.streaming import FciMode
from wpg.hardware_bridge.links.pair import PairLink
from wpg.hardware_bridge.native.device import NativeDevice
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime, unpin
from wpg.hardware_bridge.robot import StopMode
from wpg.hardware_bridge.witness import Witness

PRIORITY = 85
"""Priority above the control loop's, which may be late, while the gateway must not."""
REST_CYCLES_MAX = 5000


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that the gateway is started with."""

    description: RobotDescription
    """The expected robot, with limits that the interface accepts."""
    host: str
    mode: FciMode = "velocity"
    """What is streamed to the robot."""
    recover: bool = False
    """Recover from a reflex that the robot is in."""
    cpu: int | None = None
    """Core to run on; None leaves it to the scheduler, on all cores instead of the loop's."""
    descriptor: int
    """File descriptor of the socket."""


class GatewayReady(msgspec.Struct, frozen=True, tag="ready"):
    """The robot answers."""

    warnings: tuple[str, ...] = ()
    """Real-time rights that were not granted, each with the line that grants it."""


class GatewayFault(msgspec.Struct, frozen=True, tag="fault"):
    """The robot cannot be commanded."""

    reason: str


class GatewayFailure(msgspec.Struct, frozen=True, tag="failure"):
    """Why the gateway ends."""

    reason: str


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """What the gateway has seen."""

    cycles: int
    """Number of the robot's milliseconds."""
    success_rate_min: float
    """Lowest share of the last hundred commands that came in time, as the robot reports it."""
    late_setpoints: int
    """Number of times that the arm was braked because a setpoint was late."""
    late_answers: int
    """Number of commands that were not sent, because the robot's millisecond was over."""
    reflexes: list[str]
    """Reasons for which the robot has stopped by itself."""
    witness: Witness


GatewayLine = GatewayReady | GatewayFault | GatewayFailure | GatewayReport


def serve(arm: FciArm, link: PairLink, clock: RealClock) -> None:
    """Answer robot and bridge until the bridge is gone, then bring the arm to rest.

    Raises:
        LinkError: the robot is gone.
    """
    bridge = _Bridge(arm, link, clock)
    while not bridge.gone:
        arm.cycle(clock.now())
        bridge.answer()
    arm.stop(StopMode.HOLD)
    for _ in range(REST_CYCLES_MAX):
        if not arm.moving:
            return
        arm.cycle(clock.now())


class _Bridge:
    """The bridge, which commands the arm until it is gone."""

    def __init__(self, arm: FciArm, link: PairLink, clock: RealClock) -> None:
        self._arm, self._link, self._clock = arm, link, clock
        self._device = NativeDevice(arm)
        self._fault = ""
        self.gone = False

    def answer(self) -> None:
        """Answer what has come from the bridge; a fault is reported before the state that shows it.

        Raises:
            LinkError: the robot is gone.
        """
        self._say_fault()
        while data := self._receive():
            reply = self._device.feed(data, self._clock.now())
            self._say_fault()
            if reply:
                self._send(reply)

    def _receive(self) -> bytes:
        try:
            return b"" if self.gone else self._link.receive(0.0)
        except LinkError:
            self.gone = True
            return b""

    def _send(self, reply: bytes) -> None:
        try:
            self._link.send(reply)
        except LinkError:
            self.gone = True

    def _say_fault(self) -> None:
        if self._arm.fault != self._fault:
            self._fault = self._arm.fault
            _say(GatewayFault(self._fault))


def main(module: Any = None) -> int:
    """Serve the robot that the settings name; returns the exit code.

    Args:
        module: replacement of pylibfranka.
    """
    # A signal to the bridge's whole process group must not end the commands while the arm moves. The bridge
    # brings the arm to rest first, and the socket shows when the bridge is gone.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=GatewaySettings)
    link = PairLink(f"fci://{settings.host}", socket.socket(fileno=settings.descriptor))
    unpin()
    try:
        clock = RealClock()
        connection = FciConnection(settings.host, module, clock, settings.mode)
        arm = FciArm(connection, settings.description, clock.now())
        if settings.recover and arm.fault:
            arm.recover()
        with realtime(RealtimeConfig(priority=PRIORITY, cpu=settings.cpu)) as warnings:
            _say(GatewayReady(warnings))
            serve(arm, link, clock)
    except BridgeError as error:
        _say(GatewayFailure(str(error)))
        return 1
    finally:
        link.close()
    _say(_report(arm))
    return 0


def _report(arm: FciArm) -> GatewayReport:
    return GatewayReport(
        cycles=arm.cycles,
        success_rate_min=round(arm.success_rate_min, 4),
        late_setpoints=arm.late_setpoints,
        late_answers=arm.late_answers,
        reflexes=arm.reflexes,
        witness=arm.witness,
    )


def _say(line: GatewayLine) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
