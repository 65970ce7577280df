"""Where the loop leaves what happened; the run log is one, and a test may be another."""

from typing import Protocol, TypedDict, Unpack

from wpg.hardware_bridge.policy import Decision, Floats
from wpg.hardware_bridge.robot import JointCommand, RobotState, Vector


class Tick(TypedDict):
    """One servo period."""

    time_s: float
    phase: str
    state: RobotState | None
    """None where none came in time."""
    command: JointCommand
    lateness_s: float
    sense_to_act_s: float


class Step(TypedDict):
    """One policy step."""

    time_s: float
    obs: Floats
    decision: Decision
    goal: Vector | None
    """None where the policy has none."""
    target: Vector
    """Where the joints had been told to go by then, (num_joints,) rad."""
    tool: Vector
    achieved: Vector
    """What is compared with the goal: the tool, or an object."""
    policy_s: float


class Recorder(Protocol):
    """Takes records in the control loop's thread: must neither block nor raise."""

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
