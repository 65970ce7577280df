"""The verdict in one sentence: will the policy work on B, and what limits it?"""

from collections.abc import Sequence

from wpg.cli.transfer.measures import Cause
from wpg.cli.transfer.result import PolicyTransfer
from wpg.cli.transfer.trials import Trial
from wpg.controllers.statistics import Interval

NEAR_S = 0.01
"""A delay this close to those in training counts as trained for."""
ANSWERS = {
    "works": "It works on {place}",
    "fails": "It does not work on {place} as it should",
    "undecided": "Whether it works on {place} is not decided",
}


def sentence(result: PolicyTransfer, tried: Sequence[Trial], unfitted: Sequence[Trial]) -> str:
    """The answer, the prediction, and what limits the policy.

    Args:
        result: all measurements.
        tried: trials on B.
        unfitted: the paired trials in the unfitted simulator.
    """
    reached = sum(trial.success for trial in tried)
    answer = ANSWERS[result.verdict].format(place=result.to.place)
    return (
        f"{answer}: {reached} of {len(tried)} goals reached, {_asked(result)}, {_foreseen(result)}; "
        f"{_limit(result, tried, unfitted)}."
    )


def _asked(result: PolicyTransfer) -> str:
    match result.verdict:
        case "works":
            return f"so success is above {result.plan.low:.0%}"
        case "fails":
            return f"so success is below {result.plan.high:.0%}"
    return f"too few to tell {result.plan.low:.0%} from {result.plan.high:.0%}"


def _foreseen(result: PolicyTransfer) -> str:
    own = result.agreement.simulator.success
    if result.unfitted is None:
        return f"where the simulator reaches {own:.0%} from the same starts"
    unfitted = result.unfitted.simulator.success
    both = f"the fitted simulator reaches {own:.0%} and the unfitted one {unfitted:.0%}"
    return f"where {both} from the same starts"


def _limit(result: PolicyTransfer, tried: Sequence[Trial], unfitted: Sequence[Trial]) -> str:
    missed = [not pair.success for trial, pair in zip(tried, unfitted, strict=True) if not trial.success]
    causes = (result.unfitted or result.agreement).causes
    cause = describe(causes[0]) + _trained(causes[0], result.trained_delay_s) if causes else ""
    if not missed:
        seen = f"though {cause}" if cause else "and the joints go where simulation has them"
        return f"nothing limited it in these trials, {seen}"
    if 2 * sum(missed) >= len(missed):
        return (
            "what limits it is the policy: of the missed goals, simulation misses "
            f"{sum(missed)} of {len(missed)} too"
        )
    if cause:
        return f"what limits it: {cause}"
    return "what limits it is not the arm: under the same commands the joints go where simulation has them"


def _trained(cause: Cause, delay_s: Interval) -> str:
    """Whether the policy was trained for a delay like this one."""
    if cause.name != "delay":
        return ""
    low, high = delay_s
    if low - NEAR_S <= cause.size <= high + NEAR_S:
        return ", which the policy was trained for"
    found = f"{1000 * low:.0f} ms" if low == high else f"{1000 * low:.0f} to {1000 * high:.0f} ms"
    return f", where the policy was trained for {found}"


def describe(cause: Cause) -> str:
    """A cause as text."""
    share = f"{cause.share:.0%} of the joints' squared gap"
    match cause.name:
        case "delay":
            return f"the arm answers {1000 * cause.size:.0f} ms later than simulated ({share})"
        case "offset":
            return (
                f"{cause.joint} comes to rest {1000 * cause.size:.0f} mrad beside where simulation has it, "
                f"as under load or friction ({share})"
            )
    return f"the joints move otherwise than simulated by {1000 * cause.size:.0f} mrad ({share})"
