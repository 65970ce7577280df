"""A run log that stays in memory: for runs that are looked at by the process that made them."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.reader import RunRecording, Series
from wpg.hardware_bridge.run_log.recorder import Step, Tick
from wpg.hardware_bridge.run_log.schema import SCHEMAS, SOURCE_SCHEMA

Row = tuple[float, Sequence[object]]
"""Time, and values in the order of the schema."""


class MemoryLog:
    """Takes what the control loop records, and gives it as a log file that was read would."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
        self._sources: dict[str, list[Row]] = {}

    def tick(self, **tick: Unpack[Tick]) -> None:
        """One servo period."""
        time_s, state, command = tick["time_s"], tick["state"], tick["command"]
        if state is not None:
            measured = (state.joint_pos.copy(), state.joint_vel.copy(), state.joint_torque.copy())
            about = (state.time_s, state.sequence, state.status.name)
            self._add("state", time_s, *about, *measured, _opening(state.gripper_m))
        sent = (command.joint_pos.copy(), command.joint_vel.copy(), _opening(command.gripper_m))
        self._add("command", time_s, *sent)
        delays = (tick["lateness_s"] * 1e6, tick["sense_to_act_s"] * 1e6)
        self._add("timing", time_s, str(tick["phase"]), *delays)

    def decision(self, **step: Unpack[Step]) -> None:
        """One policy step."""
        decision, goal, achieved = step["decision"], step["goal"], step["achieved"]
        goal_m = np.zeros(0) if goal is None else goal.copy()
        error_m = 0.0 if goal is None else float(np.linalg.norm(goal - achieved))
        chosen = (step["obs"].copy(), decision.action.copy(), decision.spread, decision.fresh)
        places = (goal_m, step["target"].copy(), step["tool"].copy(), achieved.copy())
        number = len(self._rows["decision"])
        self._add("decision", step["time_s"], number, *chosen, *places, error_m, step["policy_s"] * 1e6)

    def source(self, *, time_s: float, name: str, value: Vector, age_s: float) -> None:
        """A reading of an observation term from outside the robot."""
        rows = self._sources.setdefault(name, [])
        rows.append((time_s, (len(rows), value.copy(), age_s)))

    def event(self, *, time_s: float, name: str, detail: str) -> None:
        """A change of phase, or something that went wrong."""
        self._add("event", time_s, str(name), detail)

    def recording(self) -> RunRecording:
        """What has been taken so far."""
        series = {name: _series(schema, self._rows[name]) for name, schema in SCHEMAS.items()}
        sources = {name: _series(SOURCE_SCHEMA, rows) for name, rows in self._sources.items()}
        return RunRecording(**series, sources=sources, metadata={}, attachments={}, complete=True)

    def _add(self, channel: str, time_s: float, *values: object) -> None:
        """Values in the order of the channel's schema."""
        self._rows[channel].append((time_s, values))


def _opening(gripper_m: float | None) -> Vector:
    return np.zeros(0) if gripper_m is None else np.array([gripper_m])


def _series(schema: dict[str, Any], rows: list[Row]) -> Series:
    columns = {}
    for place, (name, kind) in enumerate(schema["properties"].items()):
        dtype = object if kind["type"] == "string" else None
        columns[name] = np.array([values[place] for _, values in rows], dtype=dtype)
    return Series(time_s=np.array([time_s for time_s, _ in rows]), columns=columns)
