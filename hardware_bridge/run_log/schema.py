"""What a run log holds.

Channels with JSON schemas, as Foxglove and PlotJuggler read them, and the records that the control loop hands
to the process that writes them.
"""

import struct
from typing import Any, TypeAlias

import msgspec

_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_STRING = {"type": "string"}
_NUMBERS = {"type": "array", "items": _NUMBER}
_OPENING = {**_NUMBERS, "maxItems": 1, "default": []}
"""Empty where there is no gripper; older logs lack it."""


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    required = sorted(name for name, kind in properties.items() if "default" not in kind)
    return {"type": "object", "properties": properties, "required": required}


SCHEMAS: dict[str, dict[str, Any]] = {
    "state": _schema(
        device_time_s=_NUMBER,
        sequence=_INTEGER,
        status=_STRING,
        joint_pos_rad=_NUMBERS,
        joint_vel_rad_s=_NUMBERS,
        joint_torque_nm=_NUMBERS,
        gripper_m=_OPENING,
    ),
    "command": _schema(joint_pos_rad=_NUMBERS, joint_vel_rad_s=_NUMBERS, gripper_m=_OPENING),
    "decision": _schema(
        number=_INTEGER,
        obs=_NUMBERS,
        action=_NUMBERS,
        spread=_NUMBER,
        fresh={"type": "boolean"},
        goal_m=_NUMBERS,
        joint_target_rad=_NUMBERS,
        tool_m=_NUMBERS,
        achieved_m=_NUMBERS,
        goal_error_m=_NUMBER,
        policy_us=_NUMBER,
    ),
    "timing": _schema(phase=_STRING, lateness_us=_NUMBER, sense_to_act_us=_NUMBER),
    "event": _schema(name=_STRING, detail=_STRING),
}
"""What a message of each channel holds; the channel's topic is ``/`` and its name."""

SOURCE_SCHEMA = _schema(number=_INTEGER, value=_NUMBERS, age_s=_NUMBER)
"""What a message of an observation term from outside holds; its topic is ``/source/`` and the term's name."""
SOURCE_TOPIC = "/source/"

RUN_METADATA = "wpg.run"
"""Name of the metadata record with ``robot``, ``noise_seed``, ``policy_sha256`` and the like."""

POLICY_FILE = "policy.onnx"
"""Attachment: the artifact that decided."""

RECORD_LENGTH = struct.Struct("<I")
"""Goes before every record on its way to the writer."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Encoded as MessagePack; arrays travel as their bytes, float64 unless said otherwise."""


class StateRecord(_Record, frozen=True, kw_only=True):
    """What the robot reported."""

    device_time_s: float
    sequence: int
    status: int
    joint_pos: bytes
    joint_vel: bytes
    joint_torque: bytes
    gripper_m: float | None


class TickRecord(_Record, frozen=True, kw_only=True):
    """One servo period."""

    time_s: float
    phase: str
    lateness_s: float
    sense_to_act_s: float
    state: StateRecord | None
    joint_pos: bytes
    """Commanded positions."""
    joint_vel: bytes
    gripper_m: float | None


class DecisionRecord(_Record, frozen=True, kw_only=True):
    """One policy step."""

    number: int
    """Counts policy steps, those included that the log could not take."""
    time_s: float
    policy_s: float
    spread: float
    fresh: bool
    obs: bytes
    """float32."""
    action: bytes
    """float32."""
    goal: bytes
    """Empty where the policy has none."""
    target: bytes
    """Where the joints had been told to go by then."""
    tool: bytes
    achieved: bytes
    """What is compared with the goal: the tool, or an object."""


class SourceRecord(_Record, frozen=True, kw_only=True):
    """A reading of an observation term from outside the robot."""

    name: str
    number: int
    """Counts the term's readings, those included that the log could not take."""
    time_s: float
    """When it was taken in; from then on the policy sees it."""
    age_s: float
    """How old it was then."""
    value: bytes


class EventRecord(_Record, frozen=True, kw_only=True):
    """A change of phase, or something that went wrong."""

    time_s: float
    name: str
    detail: str


class MetadataRecord(_Record, frozen=True, kw_only=True):
    """Short facts about the run."""

    fields: dict[str, str]


class AttachmentRecord(_Record, frozen=True, kw_only=True):
    """A file: a JSON document, or the artifact."""

    name: str
    content: bytes


RunRecord: TypeAlias = TickRecord | DecisionRecord | SourceRecord | EventRecord
"""What happened at some time of the run."""
LogRecord: TypeAlias = RunRecord | MetadataRecord | AttachmentRecord
