"""A run log that stays in memory, for runs that the same process evaluates."""

from collections import defaultdict
from typing import Any

from wpg.hardware_bridge.run_log.messages import messages
from wpg.hardware_bridge.run_log.reader import RunRecording, as_recording
from wpg.hardware_bridge.run_log.recorder import BaseRecorder
from wpg.hardware_bridge.run_log.schema import RunRecord


class MemoryLog(BaseRecorder):
    """Keeps what the control loop records, and returns it as if it were read from a log file."""

    def __init__(self) -> None:
        super().__init__()
        self._times_s: defaultdict[str, list[float]] = defaultdict(list)
        self._messages: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def recording(self) -> RunRecording:
        """What has been recorded so far."""
        return as_recording(self._times_s, self._messages, metadata={}, attachments={}, complete=True)

    def _put(self, record: RunRecord) -> None:
        for message in messages(record):
            self._times_s[message.topic].append(message.time_s)
            self._messages[message.topic].append(message.fields)
