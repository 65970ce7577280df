"""What is left of a run: the figures that ``wpg run --json`` writes."""

import msgspec

from wpg.hardware_bridge.control.approach import Approach
from wpg.hardware_bridge.control.deciding import Decider
from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.control.metronome import Metronome
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.sensing import Sensor
from wpg.hardware_bridge.control.timing import LatencyHistogram, LatencySummary
from wpg.hardware_bridge.sources.source import SourceReport

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
    """Time from asking for the state to having sent the command."""
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
    """What would make the loop more punctual, or the robot safer, and how to grant it."""
    log_dropped: int = 0
    """Records that the run log could not take."""
    log_error: str = ""
    """Why the log ended before the run; empty when it did not."""

    @property
    def completed(self) -> bool:
        """The run did what it was asked, and the robot has confirmed that it stopped."""
        return self.end_reason in COMPLETED and self.final_phase == "parked"


def report_run(
    beat: Metronome,
    sensor: Sensor,
    decider: Decider,
    approach: Approach,
    motion: Motion,
    *,
    events: dict[str, int],
    sense_to_act: LatencyHistogram,
    sources: list[SourceReport],
    end_reason: str,
    message: str,
    final_phase: str,
) -> RunReport:
    """Figures of a run that is over, from the parts of its loop."""
    stale = {"stale_read": sensor.stale_reads} if sensor.stale_reads else {}
    return RunReport(
        rate_hz=round(beat.beats / beat.active_s, 3) if beat.beats else 0.0,
        ticks=beat.beats,
        duration_s=beat.active_s,
        missed_deadlines=beat.missed,
        lateness_us=beat.lateness.summary(),
        policy_us=decider.policy_time.summary(),
        sense_to_act_us=sense_to_act.summary(),
        lateness_bars=beat.lateness.bars(),
        safety_events=events | stale,
        homings=approach.homings,
        put_backs=approach.put_backs,
        sources=sources,
        limit_violations=motion.limit_violations,
        goals=len(decider.results),
        successes=sum(result.reached for result in decider.results),
        goal_results=decider.results,
        end_reason=end_reason,
        message=message,
        final_phase=final_phase,
    )
