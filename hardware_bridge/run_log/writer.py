"""The process that writes a run log: takes records from its standard input and puts them into an MCAP file.

It is a process of its own because a thread would hold the interpreter's lock while the control loop needs it,
and because the log is then complete even if the bridge is killed.
"""

import os
import signal
import sys
from typing import IO, Any

import msgspec
from mcap.writer import Writer

from wpg.hardware_bridge.run_log.messages import LogMessage, messages
from wpg.hardware_bridge.run_log.schema import (
    RECORD_LENGTH,
    RUN_METADATA,
    SCHEMAS,
    SOURCE_SCHEMA,
    AttachmentRecord,
    LogRecord,
    MetadataRecord,
)

READY = "ready"
CHUNK_SIZE = 256 * 1024


class LogWriter:
    """Turns records into messages.

    Args:
        file: open for writing.
        start_ns: time 0 of the run, in ns since the epoch.
    """

    def __init__(self, file: IO[bytes], start_ns: int) -> None:
        self._start_ns = start_ns
        self._writer = Writer(file, chunk_size=CHUNK_SIZE)
        self._writer.start(profile="", library="wpg")
        self._channels: dict[str, int] = {}
        for name, schema in SCHEMAS.items():
            self._channels[f"/{name}"] = self._channel(f"/{name}", f"wpg.{name}", schema)

    def write(self, record: LogRecord) -> None:
        """Write one record."""
        match record:
            case MetadataRecord():
                self._writer.add_metadata(RUN_METADATA, record.fields)
            case AttachmentRecord():
                kind = "application/json" if record.name.endswith(".json") else "application/octet-stream"
                self._writer.add_attachment(self._start_ns, self._start_ns, record.name, kind, record.content)
            case _:
                for message in messages(record):
                    self._add(message)

    def finish(self) -> None:
        """Complete the file."""
        self._writer.finish()  # type: ignore[no-untyped-call]

    def _channel(self, topic: str, name: str, schema: dict[str, Any]) -> int:
        schema_id = self._writer.register_schema(name, "jsonschema", msgspec.json.encode(schema))
        return self._writer.register_channel(topic, "json", schema_id)

    def _add(self, message: LogMessage) -> None:
        if message.topic not in self._channels:
            self._channels[message.topic] = self._channel(message.topic, "wpg.source", SOURCE_SCHEMA)
        time_ns = self._start_ns + round(message.time_s * 1e9)
        data = msgspec.json.encode(message.fields)
        self._writer.add_message(self._channels[message.topic], time_ns, data, time_ns)


def copy_records(source: IO[bytes], writer: LogWriter) -> None:
    """Write records until the source ends; an incomplete last record is left out."""
    decoder = msgspec.msgpack.Decoder(LogRecord)
    while len(head := source.read(RECORD_LENGTH.size)) == RECORD_LENGTH.size:
        (length,) = RECORD_LENGTH.unpack(head)
        body = source.read(length)
        if len(body) < length:
            return
        writer.write(decoder.decode(body))


def main() -> int:
    """Write the log named by the first argument; prints ``ready``, or why it cannot, in one line."""
    # These signals may reach the whole process group, but the log must last until the bridge closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)
    path, start_ns = sys.argv[1], int(sys.argv[2])
    try:
        with open(path, "xb") as file:
            writer = LogWriter(file, start_ns)
            print(READY, flush=True)
            copy_records(sys.stdin.buffer, writer)
            writer.finish()
    except OSError as error:
        print(f"{path}: {error.strerror}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
