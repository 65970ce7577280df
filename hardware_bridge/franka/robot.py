"""The bridge's driver of a Franka arm."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import LinkError, LinkUrlError, NotConnectedError, ProtocolError
from wpg.hardware_bridge.franka.gateway import GatewayReport, GatewaySettings
from wpg.hardware_bridge.franka.limits import inside_fci
from wpg.hardware_bridge.franka.process import COMMAND, GatewayProcess
from wpg.hardware_bridge.franka.streaming import FciMode
from wpg.hardware_bridge.links.pair import PairLink
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode

T = TypeVar("T")

EXAMPLE = "fci://172.16.0.2?recover=yes"


class FciUrl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``fci://HOST[?mode=position&recover=yes&cpu=N]``."""

    host: str
    mode: FciMode = "velocity"
    recover: bool = False
    cpu: Annotated[int, msgspec.Meta(ge=0)] | None = None


def parse_fci_url(text: str) -> FciUrl:
    """Parse the link of a Franka arm.

    Raises:
        LinkUrlError: it names no host, or an unknown option.
    """
    parts = urlsplit(text)
    options: dict[str, object] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "recover" in options:
        options["recover"] = {"yes": True, "no": False}.get(str(options["recover"]), options["recover"])
    if parts.scheme != "fci" or not parts.hostname or parts.netloc != parts.hostname or parts.path:
        raise LinkUrlError(f"link {text!r}: expected the control unit's address alone; for example {EXAMPLE}")
    try:
        return msgspec.convert({"host": parts.hostname, **options}, FciUrl, strict=False)
    except msgspec.ValidationError as error:
        raise LinkUrlError(f"link {text!r}: {error}; for example {EXAMPLE}") from error


class FrankaRobot:
    """A Franka Research 3, or a Panda by its description, over the Franka control interface.

    A separate process, the gateway, answers the robot every millisecond. It is started by :meth:`connect` and
    brings the arm to rest when the bridge ends, in whatever way. From then on the robot holds by itself. Over
    this interface it can neither damp nor release.

    Args:
        description: the robot that is expected; its limits are narrowed to the interface's.
        url: ``fci://HOST``, see :class:`FciUrl`.
        gateway: command line to start instead of the gateway.

    Raises:
        LinkUrlError: the URL cannot be read.
        DescriptionError: the description is no Franka arm's.
    """

    def __init__(self, description: RobotDescription, url: str, *, gateway: Sequence[str] = COMMAND) -> None:
        self._url = url
        self._address = parse_fci_url(url)
        self._description = inside_fci(description)
        self._command = gateway
        self._process: GatewayProcess | None = None
        self._native = NativeRobot(self._description, self._open)

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Hold alone, because the interface knows no other mode."""
        return frozenset({StopMode.HOLD})

    @property
    def report(self) -> GatewayReport | None:
        """Final report of the gateway; set once it was closed."""
        return None if self._process is None else self._process.report

    @property
    def notices(self) -> tuple[str, ...]:
        """Real-time rights that the gateway lacks, one line each."""
        return () if self._process is None else tuple(f"gateway: {text}" for text in self._process.warnings)

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway, for pinning, watching or disturbing it."""
        if self._process is None:
            raise NotConnectedError
        return self._process.pid

    def connect(self) -> None:
        """Start the gateway, which checks that the robot's flange is where the description has it.

        Raises:
            LinkError: pylibfranka is missing, the robot does not answer, or it is another.
        """
        self.close()
        address = self._address
        self._process = GatewayProcess(
            GatewaySettings(
                description=self._description,
                host=address.host,
                mode=address.mode,
                recover=address.recover,
                cpu=address.cpu,
                descriptor=-1,
            ),
            self._command,
        )
        self._with_reason(self._native.connect)

    def arm(self) -> None:
        """Follow commands from where the robot holds.

        Raises:
            ProtocolError: the robot refuses; says why.
            StaleStateError: it does not answer.
            LinkError: it is gone.
        """
        try:
            self._with_reason(self._native.arm)
        except ProtocolError as error:
            raise ProtocolError(f"{error}{self._complaint()}") from error

    def read(self) -> RobotState:
        """The robot's present state.

        Raises:
            StaleStateError: none in time.
            LinkError: the robot is gone; says why.
        """
        state = self._with_reason(self._native.read)
        if state.status is RobotStatus.FAULT:
            return replace(state, fault=self._complaint().removeprefix(": "))
        return state

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint; returns what was sent, clipped to the limits.

        Raises:
            LinkError: the robot is gone.
        """
        return self._with_reason(lambda: self._native.write(command))

    def stop(self, mode: StopMode) -> None:
        """Come to rest and hold.

        Raises:
            ProtocolError: another mode than hold, which the interface does not know; the arm holds.
            StaleStateError: the gateway does not answer.
            LinkError: the robot is gone.
        """
        self._with_reason(lambda: self._native.stop(StopMode.HOLD))
        if mode is not StopMode.HOLD:
            raise ProtocolError(f"stop: a Franka arm can only hold over FCI, not {mode.name.lower()}")

    def close(self) -> None:
        """End the gateway, which first brings the arm to rest."""
        self._native.close()
        if self._process is not None:
            self._process.close()

    def _open(self) -> PairLink:
        assert self._process is not None
        return PairLink(self._url, self._process.socket)

    def _with_reason(self, call: Callable[[], T]) -> T:
        """Result of ``call()``; if the gateway has ended, the error gives its own reason."""
        try:
            return call()
        except LinkError as error:
            if self._process is None:
                raise
            self._process.close()
            raise LinkError(self._process.failure or str(error)) from error

    def _complaint(self) -> str:
        """Why the robot cannot be commanded, as the end of a sentence."""
        assert self._process is not None
        self._process.listen()
        return f": {self._process.fault}" if self._process.fault else ""
