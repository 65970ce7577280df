"""What a transfer measured; the JSON of these records has stable keys."""

import math

import msgspec

from wpg.cli.transfer.measures import Cause
from wpg.cli.transfer.sequential_test import Verdict
from wpg.controllers.statistics import Interval


class Side(msgspec.Struct, kw_only=True):
    """Success and return of the policy in one place."""

    place: str
    success: float
    success_ci95: Interval
    """Wilson's interval, or the anytime interval where the trials ended early."""
    return_mean: float
    return_ci95: Interval
    error_median_m: float


class Agreement(msgspec.Struct, kw_only=True):
    """A simulator compared with B in paired trials."""

    simulator: Side
    success_difference: float
    """B minus A."""
    mcnemar_p: float
    """p-value, valid for a fixed number of trials."""
    mcnemar_p_anytime: float
    """p-value, valid whatever rule ended the trials."""
    return_difference: float
    """B minus A."""
    return_difference_ci95: Interval
    """Interval from a paired bootstrap."""
    error_wilcoxon_p: float
    """Test of the distances from the goal at the end."""
    joint_replay_rmse_rad: list[float]
    action_w2: float
    parted_s: float | None
    """Time from which the median distance between pairs stays above half the tolerance."""
    causes: list[Cause]

    @property
    def joint_gap_rad(self) -> float:
        """Root mean square over the joints."""
        squares = [value**2 for value in self.joint_replay_rmse_rad]
        return math.sqrt(sum(squares) / len(squares))


class Plan(msgspec.Struct, kw_only=True):
    """The question about B, fixed before B moved."""

    predicted: float
    """Success in the simulator, measured before B moved."""
    predicted_trials: int
    low: float
    """The answer ``works`` means that success is above this."""
    high: float
    """The answer ``fails`` means that success is below this."""
    error: float
    """Largest probability of either answer being wrong."""
    fixed_trials: int
    """Number of trials that a test of fixed size would need for the same errors."""
    max_trials: int
    """Number of trials after which the sequential test ends at the latest."""


class PolicyTransfer(msgspec.Struct, kw_only=True):
    """Result of one artifact in the simulators and in place B."""

    file: str
    policy_sha256: str
    trained_delay_s: Interval
    """Shortest and longest delay that the policy was trained with, the mean lag of the joints included."""
    trials: int
    stopped_early: bool
    verdict: Verdict
    decided_after: int | None
    """Number of trials after which the verdict was clear; None if it never was."""
    sentence: str
    plan: Plan
    to: Side
    agreement: Agreement
    """Agreement with the fitted simulator if there are `actuators`, else with the unfitted one."""
    unfitted: Agreement | None
    """Agreement with the unfitted simulator, if `agreement` is with the fitted one."""
    safety_events: dict[str, int]


class TransferResult(msgspec.Struct, kw_only=True, rename={"from_": "from"}):
    """Keys of ``wpg transfer --json``. Of several policies they are means, and ``policies`` has each."""

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
    """Correlation of predicted and measured success over several policies."""
    mmrv: float | None
    joint_replay_rmse_rad: list[float]
    action_w2: float
    unfitted_pearson_r: float | None
    unfitted_mmrv: float | None
    policies: list[PolicyTransfer]
