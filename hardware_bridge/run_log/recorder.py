"""Recorders: what the control loop reports to, and the base of those that keep it as log records."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Protocol, TypedDict, Unpack

import numpy as np

from wpg.hardware_bridge.phase import Phase
from wpg.hardware_bridge.policy import Decision, Floats
from wpg.hardware_bridge.robot import JointCommand, RobotState, Vector
from wpg.hardware_bridge.run_log.schema import (
    DecisionRecord,
    EventRecord,
    RunRecord,
    SourceRecord,
    StateRecord,
    TickRecord,
)


class Tick(TypedDict):
    """One servo period."""

    time_s: float
    phase: str
    state: RobotState | None
    """None if none came in time."""
    command: JointCommand
    lateness_s: float
    sense_to_act_s: float


class Step(TypedDict):
    """One policy step."""

    time_s: float
    obs: Floats
    decision: Decision
    goal: Vector | None
    """None for a policy without goals."""
    target: Vector
    """Joint target before this step, (num_joints,) rad."""
    tool: Vector
    achieved: Vector
    """Position that is compared with the goal, of the tool or of an object, (3,) m."""
    policy_s: float


class Recorder(Protocol):
    """Takes reports in the control loop's thread; its methods must neither block nor raise."""

    def tick(self, **tick: Unpack[Tick]) -> None:
        """One servo period."""
        ...

    def decision(self, **step: Unpack[Step]) -> None:
        """One policy step."""
        ...

    def source(self, *, time_s: float, name: str, value: Vector, age_s: float) -> None:
        """A reading of an observation term from outside the robot."""
        ...

    def event(self, *, time_s: float, name: str, detail: str) -> None:
        """A change of phase, or something that went wrong."""
        ...


class NoRecorder:
    """Keeps nothing."""

    def tick(self, **_: object) -> None:
        """Ignored."""

    def decision(self, **_: object) -> None:
        """Ignored."""

    def source(self, **_: object) -> None:
        """Ignored."""

    def event(self, **_: object) -> None:
        """Ignored."""


class BaseRecorder(ABC):
    """Turns what the control loop reports into log records; subclasses keep the records."""

    def __init__(self) -> None:
        self._num_decisions = 0
        self.armed = False
        """Whether the run has armed the arm."""
        self._num_readings: Counter[str] = Counter()

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
        number = self._num_readings[name]
        self._num_readings[name] += 1
        self._put(SourceRecord(name=name, number=number, time_s=time_s, age_s=age_s, value=value.tobytes()))

    def event(self, *, time_s: float, name: str, detail: str) -> None:
        """A change of phase, or something that went wrong."""
        self.armed = self.armed or name == Phase.ARMED
        self._put(EventRecord(time_s=time_s, name=str(name), detail=detail))

    @abstractmethod
    def _put(self, record: RunRecord) -> None:
        """Keep a record; must neither wait nor raise."""
