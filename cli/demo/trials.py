"""Results of the demo's training and trials, as its report shows them."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wpg.cli.demo.files import DemoFiles
from wpg.controllers.statistics import Interval, wilson_interval
from wpg.hardware_bridge.run_log.reader import RunRecording, read_log

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainingCurve:
    """Evaluated success over a training run, (N,) each."""

    steps: Array
    seconds: Array
    success: Array
    wall_s: float
    """Duration of the training, evaluations included."""


@dataclass(frozen=True, kw_only=True)
class SuccessRow:
    """Success of the policy in one place."""

    label: str
    successes: int
    trials: int
    deployed: bool
    """Whether the policy ran through the real-time loop."""

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.trials

    @property
    def ci95(self) -> Interval:
        """Wilson interval of the rate."""
        return wilson_interval(self.successes, self.trials)


@dataclass(frozen=True, kw_only=True)
class GoalError:
    """Distance from tool to goal while one goal was pursued, (N,) each."""

    time_s: Array
    distance_m: Array


@dataclass(frozen=True, kw_only=True)
class LinkTrial:
    """A run of the real-time loop over one link, as bridge and emulator report it."""

    label: str
    report: dict[str, Any]
    """Output of `wpg run --json`."""
    witness: dict[str, Any]
    """Output of `wpg emulate --json`."""
    time_s: Array
    """(T,) of the ticks."""
    joint_pos: Array
    """(T, num_joints) rad, measured."""
    lateness_us: Array
    """(T,)."""
    goal_errors: tuple[GoalError, ...]

    @property
    def success(self) -> SuccessRow:
        """Goals reached through the loop."""
        return SuccessRow(
            label=self.label, successes=self.report["successes"], trials=self.report["goals"], deployed=True
        )

    @property
    def limit_violations(self) -> int:
        """Commands outside the robot's limits, as counted by bridge and emulator."""
        return int(self.report["limit_violations"] + self.witness["commands_outside_limits"])


def read_trial(label: str, files: DemoFiles, link: str) -> LinkTrial:
    """Read a trial from the files that its two processes wrote."""
    report = json.loads(files.result(link).read_text())
    recording = read_log(files.log(link))
    return LinkTrial(
        label=label,
        report=report,
        witness=json.loads(files.witness(link).read_text()),
        time_s=recording.state.time_s,
        joint_pos=recording.state["joint_pos_rad"],
        lateness_us=recording.timing["lateness_us"],
        goal_errors=tuple(_goal_error(recording, result) for result in report["goal_results"]),
    )


def _goal_error(recording: RunRecording, result: dict[str, Any]) -> GoalError:
    decision = recording.decision
    during = decision.during(result["start_s"], result["end_s"])
    return GoalError(
        time_s=decision.time_s[during] - result["start_s"], distance_m=decision["goal_error_m"][during]
    )
