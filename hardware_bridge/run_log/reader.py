"""Reads a run log into arrays."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from mcap.records import Attachment, Channel, Message, Metadata
from mcap.stream_reader import StreamReader
from numpy.typing import ArrayLike, NDArray

from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.schema import RUN_METADATA, SCHEMAS, SOURCE_SCHEMA, SOURCE_TOPIC

TIME_ROUNDING_S = 1e-6
"""Tolerance for times rounded to nanoseconds, because a goal may begin when the last one ends."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Messages of one channel as columns."""

    time_s: Vector
    """(N,) in the run's time."""
    columns: dict[str, NDArray[Any]]
    """(N,) or (N, width) by field, as ``schema`` names them; text as objects."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.time_s)

    def during(self, start_s: float, end_s: float) -> NDArray[np.bool_]:
        """(N,) whether each message lies between ``start_s`` and ``end_s``, the end excluded."""
        return (self.time_s > start_s - TIME_ROUNDING_S) & (self.time_s < end_s - TIME_ROUNDING_S)


@dataclass(frozen=True, kw_only=True)
class RunRecording:
    """A run log in memory."""

    state: Series
    command: Series
    decision: Series
    timing: Series
    event: Series
    sources: dict[str, Series]
    """Observation terms from outside the robot, by name."""
    metadata: dict[str, str]
    attachments: dict[str, bytes]
    complete: bool
    """False when the file ends in the middle."""


@dataclass
class _Collected:
    start_ns: int = 0
    times_ns: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Times by topic, ns since the epoch, one for each message."""
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    metadata: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True


def read_log(path: Path | str) -> RunRecording:
    """Read a run log; one that was cut off is read up to the cut.

    Raises:
        LogError: no such file, or not a run log.
    """
    found = _Collected()
    try:
        with open(path, "rb") as file:
            _collect(StreamReader(file, validate_crcs=True), found)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}") from error
    if not found.metadata:
        raise LogError(f"{path}: expected a run log of wpg, found none")
    times_s = {
        topic: (np.array(times_ns, dtype=np.int64) - found.start_ns).astype(np.float64) / 1e9
        for topic, times_ns in found.times_ns.items()
    }
    try:
        return as_recording(
            times_s,
            found.messages,
            metadata=found.metadata,
            attachments=found.attachments,
            complete=found.complete,
        )
    except KeyError as error:
        raise LogError(
            f"{path}: messages without {error.args[0]}: written by another version of wpg"
        ) from error


def as_recording(
    times_s: Mapping[str, ArrayLike],
    messages: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    metadata: dict[str, str],
    attachments: dict[str, bytes],
    complete: bool,
) -> RunRecording:
    """A recording of messages, both they and their times by topic.

    Raises:
        KeyError: a message lacks a field of its schema.
    """

    def series(schema: dict[str, Any], topic: str) -> Series:
        return _series(schema, times_s.get(topic, ()), messages.get(topic, ()))

    sources = {
        topic.removeprefix(SOURCE_TOPIC): series(SOURCE_SCHEMA, topic)
        for topic in messages
        if topic.startswith(SOURCE_TOPIC)
    }
    return RunRecording(
        **{name: series(schema, f"/{name}") for name, schema in SCHEMAS.items()},
        sources=sources,
        metadata=metadata,
        attachments=attachments,
        complete=complete,
    )


def _collect(reader: StreamReader, found: _Collected) -> None:
    topics: dict[int, str] = {}
    try:
        for record in reader.records:
            match record:
                case Channel():
                    topics[record.id] = record.topic
                case Message():
                    topic = topics[record.channel_id]
                    found.times_ns[topic].append(record.log_time)
                    found.messages[topic].append(msgspec.json.decode(record.data))
                case Metadata() if record.name == RUN_METADATA:
                    found.metadata.update(record.metadata)
                case Attachment():
                    found.start_ns = record.log_time
                    found.attachments[record.name] = record.data
    except OSError:
        raise
    except Exception:  # the exceptions of the MCAP reader for a damaged file have no common base
        found.complete = False


def _series(schema: dict[str, Any], times_s: ArrayLike, messages: Sequence[Mapping[str, Any]]) -> Series:
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in schema["properties"].items():
        values = [
            message.get(name, kind["default"]) if "default" in kind else message[name] for message in messages
        ]
        columns[name] = np.array(values, dtype=object if kind["type"] == "string" else None)
    return Series(time_s=np.array(times_s, dtype=np.float64), columns=columns)
