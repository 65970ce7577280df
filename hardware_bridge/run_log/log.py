"""The run log as the control loop sees it: a pipe that takes a record at once or not at all."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Unpack

import msgspec
import numpy as np

from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.recorder import Step, Tick
from wpg.hardware_bridge.run_log.schema import (
    RECORD_LENGTH,
    AttachmentRecord,
    DecisionRecord,
    EventRecord,
    LogRecord,
    MetadataRecord,
    SourceRecord,
    StateRecord,
    TickRecord,
)
from wpg.hardware_bridge.run_log.writer import READY

PIPE_SIZE = 1 << 20
FINISH_TIMEOUT_S = 30.0


class RunLog:
    """Records a run to an MCAP file, through a process that writes it.

    To be opened before the bridge takes real-time rights, which that process is not to inherit.

    Args:
        path: must not exist.
        metadata: short facts about the run.
        attachments: files to keep with it, by name.

    Raises:
        LogError: the file exists or cannot be written.
    """

    def __init__(self, path: Path, metadata: dict[str, str], attachments: dict[str, bytes]) -> None:
        command = [sys.executable, "-m", "wpg.hardware_bridge.run_log.writer", str(path), str(time.time_ns())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._answers = self._process.stdout
        answer = self._answers.readline().decode().strip()
        if answer != READY:
            self._process.communicate()
            raise LogError(f"no run log: {answer or 'its writer did not start'}")
        self._pipe = self._process.stdin.fileno()
        self._encode = msgspec.msgpack.Encoder().encode
        self._pending = b""
        self._num_decisions = 0
        self._num_readings: dict[str, int] = {}
        self.dropped = 0
        """Records that came faster than they could be written."""
        self.error = ""
        """Why the log ended early; empty when it did not."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._put(MetadataRecord(fields=metadata))
        for name, content in attachments.items():
            self._put(AttachmentRecord(name=name, content=content))
        # Until here a full pipe is waited for: contracts are longer than it. From here on nothing waits.
        os.set_blocking(self._pipe, False)

    def tick(self, **tick: Unpack[Tick]) -> None:
        """One servo period."""
        state, command = tick["state"], tick["command"]
        measured = None
        if state is not None:
            measured = StateRecord(
                device_time_s=state.time_s,
                sequence=state.sequence,
                status=int(state.status),
                joint_pos=state.joint_pos.tobytes(),
                joint_vel=state.joint_vel.tobytes(),
                joint_torque=state.joint_torque.tobytes(),
                gripper_m=state.gripper_m,
            )
        self._put(
            TickRecord(
                time_s=tick["time_s"],
                phase=str(tick["phase"]),
                lateness_s=tick["lateness_s"],
                sense_to_act_s=tick["sense_to_act_s"],
                state=measured,
                joint_pos=command.joint_pos.tobytes(),
                joint_vel=command.joint_vel.tobytes(),
                gripper_m=command.gripper_m,
            )
        )

    def decision(self, **step: Unpack[Step]) -> None:
        """One policy step."""
        decision, goal = step["decision"], step["goal"]
        self._put(
            DecisionRecord(
                number=self._num_decisions,
                time_s=step["time_s"],
                policy_s=step["policy_s"],
                spread=decision.spread,
                fresh=decision.fresh,
                obs=step["obs"].tobytes(),
                action=np.asarray(decision.action, np.float32).tobytes(),
                goal=b"" if goal is None else goal.tobytes(),
                target=step["target"].tobytes(),
                tool=step["tool"].tobytes(),
                achieved=step["achieved"].tobytes(),
            )
        )
        self._num_decisions += 1

    def source(self, *, time_s: float, name: str, value: Vector, age_s: float) -> None:
        """A reading of an observation term from outside the robot."""
        number = self._num_readings.get(name, 0)
        self._num_readings[name] = number + 1
        self._put(SourceRecord(name=name, number=number, time_s=time_s, age_s=age_s, value=value.tobytes()))

    def event(self, *, time_s: float, name: str, detail: str) -> None:
        """A change of phase, or something that went wrong."""
        self._put(EventRecord(time_s=time_s, name=str(name), detail=detail))

    def attach(self, name: str, content: bytes) -> None:
        """Keep a file with the log, e.g. the run's report. May wait."""
        with contextlib.suppress(OSError):
            os.set_blocking(self._pipe, True)
        self._put(AttachmentRecord(name=name, content=content))

    def close(self) -> None:
        """Wait until everything is written. Never raises; see :attr:`error`."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        with contextlib.suppress(OSError):
            os.set_blocking(self._pipe, True)
            if self._pending:
                os.write(self._pipe, self._pending)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(FINISH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.error = f"the run log was not finished within {FINISH_TIMEOUT_S:g} s"
        if self._process.returncode and not self.error:
            self.error = self._answers.read().decode().strip() or "its writer died"
        self._answers.close()

    def _put(self, record: LogRecord) -> None:
        if self.error:
            self.dropped += 1
            return
        body = self._encode(record)
        data = self._pending + RECORD_LENGTH.pack(len(body)) + body
        try:
            written = os.write(self._pipe, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.error = "its writer died"
            return
        # Records up to PIPE_BUF are taken whole or not at all; of a longer one the rest goes first next time.
        if written <= len(self._pending) and written < len(data):
            self.dropped += 1
            self._pending = self._pending[written:]
        else:
            self._pending = data[written:]
