"""What a transfer measured; the JSON of these records has stable keys."""

import math

import msgspec

from wpg.cli.transfer.measures import Cause
from wpg.cli.transfer.sequential_test import Verdict
from wpg.controllers.statistics import Interval


class Side(msgspec.Struct, kw_only=True):
    """How often the policy succeeded in one place, and how well."""

    place: str
    success: float
    success_ci95: Interval
    """Wilson's interval, or the anytime interval where the trials ended early."""
    return_mean: float
    return_ci95: Interval
    error_median_m: float


class Agreement(msgspec.Struct, kw_only=True):
    """A simulator against B, trial by trial."""

    simulator: Side
    success_difference: float
    """B minus A."""
    mcnemar_p: float
    """For a fixed number of trials."""
    mcnemar_p_anytime: float
    """However it was decided when to stop."""
    return_difference: float
    """B minus A."""
    return_difference_ci95: Interval
    """Paired bootstrap."""
    error_wilcoxon_p: float
    """Of the distances from the goal at the end."""
    joint_replay_rmse_rad: list[float]
    action_w2: float
    parted_s: float | None
    """When the median trial is half the tolerance away from its pair, for good."""
    causes: list[Cause]

    @property
    def joint_gap_rad(self) -> float:
        """Root mean square over the joints."""
        squares = [value**2 for value in self.joint_replay_rmse_rad]
        return math.sqrt(sum(squares) / len(squares))


class Plan(msgspec.Struct, kw_only=True):
    """The question that was put to B before it moved."""

    predicted: float
    """Success of the simulator before B moved."""
    predicted_trials: int
    low: float
    """``works`` says that success is above this."""
    high: float
    """``fails`` says that success is below this."""
    error: float
    """Largest probability of saying either wrongly."""
    fixed_trials: int
    """A test of fixed size would take so many for the same errors."""
    max_trials: int
    """The sequential test ends here at the latest."""


class PolicyTransfer(msgspec.Struct, kw_only=True):
    """One artifact in two places."""

    file: str
    policy_sha256: str
    trained_delay_s: Interval
    """Shortest and longest delay that the policy was trained with, the mean lag of the joints included."""
    trials: int
    stopped_early: bool
    verdict: Verdict
    decided_after: int | None
    """Trials after which the verdict was clear; None where it never was."""
    sentence: str
    plan: Plan
    to: Side
    agreement: Agreement
    """With the fitted simulator where there are `actuators`, else with the unfitted one."""
    unfitted: Agreement | None
    """With the unfitted simulator, where `agreement` is with the fitted one."""
    safety_events: dict[str, int]


class TransferResult(msgspec.Struct, kw_only=True, rename={"from_": "from"}):
    """Keys of ``wpg transfer --json``; of several policies the means, and each under ``policies``."""

    from_: str
    to: str
    robot: str
    actuators: str | None
    verdict: Verdict
    sentence: str
    trials: int
    success_from: float
    success_from_ci95: Interval
    success_to: float
    success_to_ci95: Interval
    return_from: float
    return_from_ci95: Interval
    return_to: float
    return_to_ci95: Interval
    mcnemar_p: float
    mcnemar_p_anytime: float
    error_wilcoxon_p: float
    pearson_r: float | None
    """Between predicted and measured success of several policies."""
    mmrv: float | None
    joint_replay_rmse_rad: list[float]
    action_w2: float
    unfitted_pearson_r: float | None
    unfitted_mmrv: float | None
    policies: list[PolicyTransfer]
