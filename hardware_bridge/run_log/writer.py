"""The process that writes a run log: takes records from its standard input and puts them into an MCAP file.

A process of its own, because a thread would take the interpreter's lock from the control loop, and because a
bridge that is killed leaves a log that is whole.
"""

import os
import signal
import sys
from typing import IO, Any

import msgspec
import numpy as np
from mcap.writer import Writer

from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.run_log.schema import (
    RECORD_LENGTH,
    RUN_METADATA,
    SCHEMAS,
    SOURCE_SCHEMA,
    SOURCE_TOPIC,
    AttachmentRecord,
    DecisionRecord,
    EventRecord,
    LogRecord,
    MetadataRecord,
    SourceRecord,
    TickRecord,
)

READY = "ready"
CHUNK_SIZE = 256 * 1024


class LogWriter:
    """Turns records into messages.

    Args:
        file: open for writing.
        start_ns: what time 0 of the run is, in ns since the epoch.
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
            case TickRecord():
                self._write_tick(record)
            case DecisionRecord():
                self._write_decision(record)
            case EventRecord():
                self._add("/event", record.time_s, name=record.name, detail=record.detail)
            case SourceRecord():
                self._write_source(record)
            case MetadataRecord():
                self._writer.add_metadata(RUN_METADATA, record.fields)
            case AttachmentRecord():
                kind = "application/json" if record.name.endswith(".json") else "application/octet-stream"
                self._writer.add_attachment(self._start_ns, self._start_ns, record.name, kind, record.content)

    def finish(self) -> None:
        """Write what makes the file complete."""
        self._writer.finish()  # type: ignore[no-untyped-call]

    def _channel(self, topic: str, name: str, schema: dict[str, Any]) -> int:
        schema_id = self._writer.register_schema(name, "jsonschema", msgspec.json.encode(schema))
        return self._writer.register_channel(topic, "json", schema_id)

    def _write_source(self, record: SourceRecord) -> None:
        topic = SOURCE_TOPIC + record.name
        if topic not in self._channels:
            self._channels[topic] = self._channel(topic, "wpg.source", SOURCE_SCHEMA)
        value = _floats(record.value)
        self._add(topic, record.time_s, number=record.number, value=value, age_s=record.age_s)

    def _write_tick(self, record: TickRecord) -> None:
        if record.state is not None:
            self._add(
                "/state",
                record.time_s,
                device_time_s=record.state.device_time_s,
                sequence=record.state.sequence,
                status=RobotStatus(record.state.status).name,
                joint_pos_rad=_floats(record.state.joint_pos),
                joint_vel_rad_s=_floats(record.state.joint_vel),
                joint_torque_nm=_floats(record.state.joint_torque),
                gripper_m=_opening(record.state.gripper_m),
            )
        self._add(
            "/command",
            record.time_s,
            joint_pos_rad=_floats(record.joint_pos),
            joint_vel_rad_s=_floats(record.joint_vel),
            gripper_m=_opening(record.gripper_m),
        )
        self._add(
            "/timing",
            record.time_s,
            phase=record.phase,
            lateness_us=record.lateness_s * 1e6,
            sense_to_act_us=record.sense_to_act_s * 1e6,
        )

    def _write_decision(self, record: DecisionRecord) -> None:
        goal_m, achieved_m = _floats(record.goal), _floats(record.achieved)
        self._add(
            "/decision",
            record.time_s,
            number=record.number,
            obs=np.frombuffer(record.obs, np.float32).tolist(),
            action=np.frombuffer(record.action, np.float32).tolist(),
            spread=record.spread,
            fresh=record.fresh,
            goal_m=goal_m,
            joint_target_rad=_floats(record.target),
            tool_m=_floats(record.tool),
            achieved_m=achieved_m,
            goal_error_m=float(np.linalg.norm(np.subtract(goal_m, achieved_m))) if goal_m else 0.0,
            policy_us=record.policy_s * 1e6,
        )

    def _add(self, topic: str, time_s: float, **message: Any) -> None:
        time_ns = self._start_ns + round(time_s * 1e9)
        self._writer.add_message(self._channels[topic], time_ns, msgspec.json.encode(message), time_ns)


def _floats(data: bytes) -> list[float]:
    values: list[float] = np.frombuffer(data, np.float64).tolist()
    return values


def _opening(gripper_m: float | None) -> list[float]:
    return [] if gripper_m is None else [gripper_m]


def copy_records(source: IO[bytes], writer: LogWriter) -> None:
    """Write records until the source ends; one that was cut off by the end is left out."""
    decoder = msgspec.msgpack.Decoder(LogRecord)
    while len(head := source.read(RECORD_LENGTH.size)) == RECORD_LENGTH.size:
        (length,) = RECORD_LENGTH.unpack(head)
        body = source.read(length)
        if len(body) < length:
            return
        writer.write(decoder.decode(body))


def main() -> int:
    """Write the log named by the first argument; says ``ready``, or why it cannot, in one line."""
    # Ctrl-C reaches the whole process group; the log ends when the bridge closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
