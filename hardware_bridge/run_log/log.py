"""The run log in the control loop's process: a pipe that takes a record at once or drops it."""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.run_log.recorder import BaseRecorder
from wpg.hardware_bridge.run_log.schema import RECORD_LENGTH, AttachmentRecord, LogRecord, MetadataRecord
from wpg.hardware_bridge.run_log.writer import READY

PIPE_SIZE = 1 << 20
FINISH_TIMEOUT_S = 30.0
"""Stalled storage is waited for this long, at the start and at the end of a run."""
KILL_TIMEOUT_S = 1.0


class RunLog(BaseRecorder):
    """Records a run to an MCAP file, through a process that writes it.

    Must be opened before the bridge takes real-time rights, because that process must not inherit them.

    Args:
        path: must not exist; its folder is made where it is missing.
        metadata: short facts about the run.
        attachments: files to keep with it, by name.

    Raises:
        LogError: the file exists or cannot be written.
    """

    def __init__(self, path: Path, metadata: dict[str, str], attachments: dict[str, bytes]) -> None:
        super().__init__()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise LogError(f"no run log: {path}: {error.filename} is no folder") from error
        except OSError as error:
            raise LogError(f"no run log: {path}: {error.strerror}") from error
        self._path = path
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
        self.dropped = 0
        """Number of records that the pipe could not take, without those that the writer lost in an error."""
        self.error = ""
        """Why the log ended early; empty if it did not."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(self._pipe, False)
        # These are waited for, because contracts are longer than the pipe. Records of the run never are.
        self._put_patiently(MetadataRecord(fields=metadata))
        for name, content in attachments.items():
            self._put_patiently(AttachmentRecord(name=name, content=content))

    def attach(self, name: str, content: bytes) -> None:
        """Keep a file with the log, e.g. the run's report. May wait, for :data:`FINISH_TIMEOUT_S` at most."""
        self._put_patiently(AttachmentRecord(name=name, content=content))

    def close(self) -> None:
        """Wait until everything is written, or takes too long. Never raises; see :attr:`error`."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        self._flush()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            # If waiting has timed out before, it is not done again.
            self._process.wait(KILL_TIMEOUT_S if self.error == self._late else FINISH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.error = self._late
            self._kill()
        if self._process.returncode and self.error != self._late:
            # The writer has reported why the pipe broke.
            self.error = self._answers.read().decode().strip() or self.error or self._died
        self._answers.close()

    def _kill(self) -> None:
        """Kill the writer; one that is blocked by its storage cannot be killed and ends by itself."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_TIMEOUT_S)

    @property
    def _late(self) -> str:
        return f"{self._path}: not finished within {FINISH_TIMEOUT_S:g} s"

    @property
    def _died(self) -> str:
        return f"{self._path}: its writer died"

    def _put_patiently(self, record: LogRecord) -> None:
        """Keep a record, and wait until the pipe has taken it."""
        if self.error:
            self.dropped += 1
            return
        self._pending += self._framed(record)
        self._flush()

    def _flush(self) -> None:
        """Wait until the pipe has taken what is pending, or for too long."""
        ready = select.poll()
        ready.register(self._pipe, select.POLLOUT)
        deadline_s = time.monotonic() + FINISH_TIMEOUT_S
        while self._pending and not self.error:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not ready.poll(1e3 * left_s):
                self.error = self._late
                return
            self._pending = self._pending[self._write(self._pending) or 0 :]

    def _framed(self, record: LogRecord) -> bytes:
        body = self._encode(record)
        return RECORD_LENGTH.pack(len(body)) + body

    def _write(self, data: bytes) -> int | None:
        """Number of bytes that the pipe has taken at once; None if it is broken."""
        try:
            return os.write(self._pipe, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.error = self._died
            return None

    def _put(self, record: LogRecord) -> None:
        if self.error:
            self.dropped += 1
            return
        data = self._pending + self._framed(record)
        written = self._write(data)
        if written is None:
            return
        # Records up to PIPE_BUF are taken whole or not at all; the rest of a longer one goes first next time.
        if written <= len(self._pending) and written < len(data):
            self.dropped += 1
            self._pending = self._pending[written:]
        else:
            self._pending = data[written:]
