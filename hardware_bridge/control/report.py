"""The report of a run: the figures that ``wpg run --json`` writes."""

import msgspec

from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.control.homing import Homing
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.policy_runner import PolicyRunner
from wpg.hardware_bridge.control.rate_timer import RateTimer
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.latency import LatencyHistogram, LatencySummary
from wpg.hardware_bridge.sources.source import SourceReport

COMPLETED = ("goals_done", "duration", "stopped")
"""End reasons of a run that did what it was asked."""

MISSED_SHARE_MAX = 0.05
"""A run that misses a larger share of its deadlines gets a warning.

A loop whose ticks take nearly two periods never misses enough deadlines in a row for an ``overrun``. That is
no hazard: every command still keeps to the limits and comes before the device's watchdog runs out, and on
average the arm is slower than planned. Holding the arm would not make the machine faster, and it would stop
runs on machines that are busy only for a moment. But the policy sees a slower arm than it was trained on.

For comparison: without real-time rights, beside a busy core, the share is below 0.01 (``docs/safety.md``).
"""


class RunReport(msgspec.Struct, kw_only=True):
    """Figures of one run; the JSON of this record has stable keys."""

    rate_hz: float
    """Servo ticks divided by the time they took."""
    ticks: int
    duration_s: float
    missed_deadlines: int
    """Servo periods that went by without a command, because the loop woke late or a tick took too long."""
    lateness_us: LatencySummary
    """How late ticks started after their deadline; after missed deadlines, after the first of them."""
    policy_us: LatencySummary
    """Time that the policy took."""
    sense_to_act_us: LatencySummary
    """Time from asking for the state to having sent the command."""
    lateness_bars: list[tuple[float, float, int]]
    """Histogram: lower edge in µs, upper edge in µs, count."""
    safety_events: dict[str, int]
    homings: int
    """How often the arm was homed to where the policy was trained to start from."""
    put_backs: int
    """How often an object was put back while the arm waited there."""
    sources: list[SourceReport]
    """What came from each source outside the robot."""
    limit_violations: int
    """Commands sent outside the published limits; any number but 0 is a fault of the bridge."""
    goals: int
    successes: int
    goal_results: list[GoalResult]
    end_reason: str
    """``goals_done``, ``duration``, ``stopped``, ``emergency_stop``, or what went wrong."""
    message: str
    """What went wrong, in a sentence; empty when nothing did."""
    final_phase: str
    """``parked`` if the robot confirmed that it stopped, else ``fault``."""
    warnings: list[str] = msgspec.field(default_factory=list)
    """What would make the loop more punctual or the robot safer, and how to set it up."""
    log_dropped: int = 0
    """Number of records that the run log could not take."""
    log_error: str = ""
    """Why the log ended before the run; empty if it did not."""

    @property
    def completed(self) -> bool:
        """Whether the run did what it was asked and the robot confirmed that it stopped."""
        return self.end_reason in COMPLETED and self.final_phase == "parked"


def report_run(
    timer: RateTimer,
    reader: StateReader,
    runner: PolicyRunner,
    homing: Homing,
    motion: Motion,
    *,
    events: dict[str, int],
    sense_to_act: LatencyHistogram,
    sources: list[SourceReport],
    end_reason: str,
    message: str,
    final_phase: str,
) -> RunReport:
    """Collect the figures of a run that is over from the parts of its loop."""
    stale = {"stale_read": reader.stale_reads} if reader.stale_reads else {}
    return RunReport(
        rate_hz=round(timer.ticks / timer.active_s, 3) if timer.ticks else 0.0,
        ticks=timer.ticks,
        duration_s=timer.active_s,
        missed_deadlines=timer.missed,
        lateness_us=timer.lateness.summary(),
        policy_us=runner.policy_time.summary(),
        sense_to_act_us=sense_to_act.summary(),
        lateness_bars=timer.lateness.bars(),
        safety_events=events | stale,
        homings=homing.homings,
        put_backs=homing.put_backs,
        sources=sources,
        limit_violations=motion.limit_violations,
        goals=len(runner.results),
        successes=sum(result.reached for result in runner.results),
        goal_results=runner.results,
        end_reason=end_reason,
        message=message,
        final_phase=final_phase,
        warnings=_lateness_warnings(timer),
    )


def _lateness_warnings(timer: RateTimer) -> list[str]:
    share = timer.missed / max(1, timer.missed + timer.ticks)
    if share <= MISSED_SHARE_MAX:
        return []
    told = "the arm was slower than the policy was trained for; this machine is too busy, see `wpg doctor`"
    return [f"{100 * share:.0f} % of the deadlines were missed: {told}"]
