"""What is left of a run: the figures that ``wpg run --json`` writes."""

import msgspec

from wpg.hardware_bridge.goals import GoalResult
from wpg.hardware_bridge.sources import SourceReport
from wpg.hardware_bridge.timing import LatencySummary

COMPLETED = ("goals_done", "duration", "stopped")
"""End reasons of a run that did what it was asked."""


class RunReport(msgspec.Struct, kw_only=True):
    """Figures of one run; the JSON of this record has stable keys."""

    rate_hz: float
    """Servo ticks over the time they took."""
    ticks: int
    duration_s: float
    missed_deadlines: int
    """Servo periods that went by without a command, because the loop woke late or a tick took too long."""
    lateness_us: LatencySummary
    """Start of a tick after its deadline; after missed deadlines, after the first of them."""
    policy_us: LatencySummary
    """Time that the policy took."""
    sense_to_act_us: LatencySummary
    """From asking for the state to having sent the command."""
    lateness_bars: list[tuple[float, float, int]]
    """Histogram: lower edge in µs, upper edge in µs, count."""
    safety_events: dict[str, int]
    homings: int
    """How often the arm went first to where the policy was trained to start from."""
    put_backs: int
    """How often it waited there for an object to be put back."""
    sources: list[SourceReport]
    """What came from outside the robot."""
    limit_violations: int
    """Commands outside the published limits, as sent; anything but 0 is a fault of the bridge."""
    goals: int
    successes: int
    goal_results: list[GoalResult]
    end_reason: str
    """``goals_done``, ``duration``, ``stopped``, ``emergency_stop``, or what went wrong."""
    message: str
    """What went wrong, in a sentence; empty when nothing did."""
    final_phase: str
    """``parked`` when the robot confirmed that it stopped, else ``fault``."""
    warnings: list[str] = msgspec.field(default_factory=list)
    """What would make the loop more punctual, and how to grant it."""
    log_dropped: int = 0
    """Records that the run log could not take."""
    log_error: str = ""
    """Why the log ended before the run; empty when it did not."""

    @property
    def completed(self) -> bool:
        """The run did what it was asked, and the robot has confirmed that it stopped."""
        return self.end_reason in COMPLETED and self.final_phase == "parked"
