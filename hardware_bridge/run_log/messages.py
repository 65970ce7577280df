"""The messages of a run log, from the records that the control loop leaves."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.run_log.schema import (
    SOURCE_TOPIC,
    DecisionRecord,
    EventRecord,
    RunRecord,
    SourceRecord,
    TickRecord,
)


class LogMessage(NamedTuple):
    """One message of a channel."""

    topic: str
    time_s: float
    """Seconds since the run's start."""
    fields: dict[str, Any]
    """Values by the names of the channel's schema."""


def messages(record: RunRecord) -> Iterator[LogMessage]:
    """The messages that a record is logged as."""
    match record:
        case TickRecord():
            yield from _of_tick(record)
        case DecisionRecord():
            yield LogMessage("/decision", record.time_s, _decision(record))
        case EventRecord():
            yield LogMessage("/event", record.time_s, {"name": record.name, "detail": record.detail})
        case SourceRecord():
            fields = {"number": record.number, "value": _floats(record.value), "age_s": record.age_s}
            yield LogMessage(SOURCE_TOPIC + record.name, record.time_s, fields)


def _of_tick(record: TickRecord) -> Iterator[LogMessage]:
    state = record.state
    if state is not None:
        yield LogMessage(
            "/state",
            record.time_s,
            {
                "device_time_s": state.device_time_s,
                "sequence": state.sequence,
                "status": RobotStatus(state.status).name,
                "joint_pos_rad": _floats(state.joint_pos),
                "joint_vel_rad_s": _floats(state.joint_vel),
                "joint_torque_nm": _floats(state.joint_torque),
                "gripper_m": _opening(state.gripper_m),
            },
        )
    yield LogMessage(
        "/command",
        record.time_s,
        {
            "joint_pos_rad": _floats(record.joint_pos),
            "joint_vel_rad_s": _floats(record.joint_vel),
            "gripper_m": _opening(record.gripper_m),
        },
    )
    yield LogMessage(
        "/timing",
        record.time_s,
        {
            "phase": record.phase,
            "lateness_us": record.lateness_s * 1e6,
            "sense_to_act_us": record.sense_to_act_s * 1e6,
        },
    )


def _decision(record: DecisionRecord) -> dict[str, Any]:
    goal_m, achieved_m = _floats(record.goal), _floats(record.achieved)
    return {
        "number": record.number,
        "obs": np.frombuffer(record.obs, np.float32).tolist(),
        "action": np.frombuffer(record.action, np.float32).tolist(),
        "spread": record.spread,
        "fresh": record.fresh,
        "goal_m": goal_m,
        "joint_target_rad": _floats(record.target),
        "tool_m": _floats(record.tool),
        "achieved_m": achieved_m,
        "goal_error_m": float(np.linalg.norm(np.subtract(goal_m, achieved_m))) if goal_m else 0.0,
        "policy_us": record.policy_s * 1e6,
    }


def _floats(data: bytes) -> list[float]:
    values: list[float] = np.frombuffer(data, np.float64).tolist()
    return values


def _opening(gripper_m: float | None) -> list[float]:
    return [] if gripper_m is None else [gripper_m]
