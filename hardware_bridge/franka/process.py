"""Starts the gateway's process from the bridge, and reads its messages."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.franka.gateway import (
    GatewayFailure,
    GatewayFault,
    GatewayLine,
    GatewayReady,
    GatewayReport,
    GatewaySettings,
)

COMMAND = (sys.executable, "-m", "wpg.hardware_bridge.franka.gateway")
READY_TIMEOUT_S = 15.0
END_TIMEOUT_S = 7.0
"""Time for the gateway to end, which includes bringing the arm to rest."""


class GatewayProcess:
    """Starts the gateway and keeps its messages.

    Args:
        settings: settings of the gateway; the descriptor is filled in.
        command: command line of the gateway.

    Raises:
        LinkError: the gateway does not reach the robot; says why.
    """

    def __init__(self, settings: GatewaySettings, command: Sequence[str] = COMMAND) -> None:
        self.fault = ""
        """Why the robot cannot be commanded."""
        self.failure = ""
        """Why the gateway has ended."""
        self.warnings: tuple[str, ...] = ()
        """Real-time rights that it lacks."""
        self.report: GatewayReport | None = None
        """Its final report; set by :meth:`close`."""
        self._ready = False
        self._rest = b""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # the bridge handles a terminal's ^C, and brings the arm to rest first
            )
            started = msgspec.structs.replace(settings, descriptor=theirs.fileno())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._output = self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(started) + b"\n")
            self._process.stdin.flush()
        self._await_ready(settings.host)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def listen(self, timeout_s: float = 0.0) -> None:
        """Take messages from the gateway; wait at most this long for one."""
        if select.select((self._output,), (), (), timeout_s)[0]:
            self._take(os.read(self._output.fileno(), 65536))

    def close(self) -> None:
        """Let the gateway bring the arm to rest and end; harmless when called twice."""
        self.socket.close()
        if self._output.closed:
            return
        try:
            said, _ = self._process.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        self._take(said)

    def _await_ready(self, host: str) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self._ready:
            ended = self._process.poll() is not None
            self.listen(0.05)
            if ended or self.failure or time.monotonic() > deadline_s:
                self.close()
                raise LinkError(self.failure or f"link fci://{host}: the gateway does not get ready")

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                said = msgspec.json.decode(line, type=GatewayLine)
            except msgspec.MsgspecError:
                # Whatever a library of the gateway's prints does not end a run, but may tell why none begins.
                if not self._ready:
                    self.failure = f"the gateway printed no message, but {line.decode(errors='replace')!r}"
                continue
            match said:
                case GatewayReady(warnings):
                    self._ready, self.warnings = True, warnings
                case GatewayFault(reason):
                    self.fault = reason
                case GatewayFailure(reason):
                    self.failure = reason
                case GatewayReport() as report:
                    self.report = report
