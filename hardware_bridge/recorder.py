"""Where the loop leaves what happened; the run log is one, and a test may be another."""

from typing import Protocol

from wpg.hardware_bridge.policy import Decision, Floats
from wpg.hardware_bridge.robot import JointCommand, RobotState, Vector


class Recorder(Protocol):
    """Takes records in the control loop's thread: must neither block nor raise."""

    def tick(
        self,
        *,
        time_s: float,
        phase: str,
        state: RobotState | None,
        command: JointCommand,
        lateness_s: float,
        sense_to_act_s: float,
    ) -> None:
        """One servo period; no state where none came in time."""
        ...

    def decision(
        self,
        *,
        time_s: float,
        obs: Floats,
        decision: Decision,
        goal: Vector | None,
        target: Vector,
        tool: Vector,
        achieved: Vector,
        policy_s: float,
    ) -> None:
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
