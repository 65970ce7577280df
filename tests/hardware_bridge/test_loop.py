from collections import deque

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.emulation.faults import FaultSpec
from wpg.hardware_bridge.errors import LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import RobotState, RobotStatus, StopMode

DT = 0.005
FAULTS = ("drop", "corrupt", "truncate", "duplicate", "garbage", "delay")


class LateLink(Link):
    """Every answer is as late as the others; many are on their way at once."""

    def __init__(self, inner, clock) -> None:
        super().__init__(inner.url)
        self._inner, self._clock = inner, clock
        self._on_the_way = deque()
        self.lag_s = 0.0

    def send(self, data):
        self._inner.send(data)
        self._on_the_way.append((self._clock.now() + self.lag_s, self._inner.receive(0.0)))
        return True

    def receive(self, timeout_s):
        deadline_s = self._clock.now() + timeout_s
        while self._on_the_way and self._on_the_way[0][0] <= deadline_s:
            due_s, data = self._on_the_way.popleft()
            self._clock.sleep_until(due_s)
            if data:
                return data
        self._clock.sleep_until(deadline_s)
        return b""

    def close(self):
        pass


@pytest.fixture
def late_line(bench):
    link = LateLink(bench.link, bench.clock)
    bench.robot = NativeRobot(bench.description, lambda: link, clock=bench.clock)
    return link


class TestGoodRun:
    def test_reaches_every_goal(self, run, bench, trace):
        report = run(LoopConfig(goals=3, seed=5))
        assert (report.goals, report.successes, report.end_reason) == (3, 3, "goals_done")
        assert report.completed
        assert report.final_phase == "parked"
        assert report.rate_hz == pytest.approx(200.0)
        assert report.missed_deadlines == 0
        assert report.safety_events == {}
        assert bench.arm.status is RobotStatus.HOLDING
        assert trace.names == ["connected", "checked", "armed", "running", "stopping", "parked"]

    def test_success_is_where_the_engine_says_the_tool_is(self, run, bench, trace):
        report = run(LoopConfig(goals=1))
        result = report.goal_results[0]
        where = bench.simulated.tool_position()
        assert np.linalg.norm(where - result.goal) == pytest.approx(result.error_m, abs=1e-3)

    def test_each_goal_gets_its_horizon(self, run, trace, make_policy):
        policy = make_policy(horizon_steps=7)
        run(LoopConfig(goals=4), policy=policy)
        assert policy.num_calls == 28
        goals = [tuple(record["goal"]) for record in trace.decisions]
        assert [goals.count(goal) for goal in dict.fromkeys(goals)] == [7] * 4

    def test_goals_depend_on_the_seed_alone(self, make_bench, make_policy, trace):
        def goals(seed):
            bench = make_bench()
            loop = ControlLoop(
                bench.robot, make_policy(horizon_steps=3), LoopConfig(goals=3, seed=seed), clock=bench.clock
            )
            return [result.goal for result in loop.run().goal_results]

        assert goals(1) == goals(1) != goals(2)

    def test_policy_decides_every_tenth_tick(self, run, trace):
        run(LoopConfig(duration_s=2.0))
        times = np.array([record["time_s"] for record in trace.decisions])
        np.testing.assert_allclose(np.diff(times), 0.05, atol=1e-9)

    def test_fixed_goal_as_often_as_asked(self, run, make_policy):
        report = run(LoopConfig(goal=(0.45, 0.1, 0.4), goals=3), policy=make_policy(horizon_steps=5))
        assert report.goals == 3

    def test_fixed_goal(self, run, bench):
        goal = (0.45, 0.1, 0.4)
        report = run(LoopConfig(goal=goal))
        assert report.successes == report.goals == 1
        np.testing.assert_allclose(bench.simulated.tool_position(), goal, atol=0.01)

    def test_goes_home_where_training_did_not_start_from(self, run, bench, trace, reach_policy, description):
        goal = msgspec.structs.replace(reach_policy.interface.goal, start_spread_rad=0.05)
        reach_policy.interface = msgspec.structs.replace(reach_policy.interface, goal=goal)
        home = description.limits("home_rad")
        bench.simulated.place(home + 0.3)
        report = run(LoopConfig(goals=3, seed=2))
        assert report.successes == report.goals == 3
        assert report.homings >= 2
        assert trace.names[2:5] == ["armed", "homing", "running"]
        first = trace.decisions[0]["obs"][:7]
        np.testing.assert_allclose(first, home, atol=5e-3)
        assert all(record["command"] is not None for record in trace.ticks)

    def test_duration(self, run):
        report = run(LoopConfig(duration_s=1.5))
        assert report.end_reason == "duration"
        assert 1.5 <= report.duration_s < 2.0
        assert report.completed

    def test_commands_never_step(self, run, trace, description):
        run(LoopConfig(goals=3))
        velocity = np.diff(trace.commands(), axis=0) / DT
        assert (
            np.abs(np.diff(velocity, axis=0) / DT).max() < description.limits("acceleration_max_rad_s2").max()
        )

    def test_starts_softly_from_where_the_arm_stands(self, run, bench, trace, description):
        start = description.limits("home_rad") + 0.2
        bench.simulated.place(start)
        run(LoopConfig(duration_s=0.3))
        commands = trace.commands()
        np.testing.assert_allclose(commands[:19], np.tile(start, (19, 1)), atol=1e-6)
        share = 0.35 * description.motion_fraction * description.limits("velocity_max_rad_s")
        assert (np.abs(np.diff(commands[:60], axis=0)) / DT <= share).all()

    @pytest.mark.parametrize("mode", StopMode)
    def test_leaves_the_arm_as_configured(self, run, bench, mode):
        run(LoopConfig(duration_s=0.5, final_stop=mode))
        assert list(bench.witness.stops) == list(dict.fromkeys(["hold", mode.name.lower()]))

    def test_comes_to_rest_before_it_parks(self, run, bench, trace):
        run(LoopConfig(duration_s=0.7))
        moving = np.abs(np.diff(trace.commands(), axis=0)).max(axis=1) / DT
        assert moving[:-10].max() > 0.1
        assert moving[-1] < 1e-3

    def test_stop_request(self, run, trace):
        report = run(LoopConfig(), should_stop=lambda: "SIGTERM" if len(trace.ticks) > 100 else "")
        assert (report.end_reason, report.message) == ("stopped", "SIGTERM")
        assert report.completed

    def test_report_has_the_keys_that_scripts_rely_on(self, run):
        report = msgspec.json.decode(msgspec.json.encode(run(LoopConfig(goals=1))))
        assert {
            "rate_hz",
            "ticks",
            "missed_deadlines",
            "lateness_us",
            "policy_us",
            "sense_to_act_us",
            "safety_events",
            "limit_violations",
            "goals",
            "successes",
            "end_reason",
        } <= report.keys()
        assert report["lateness_us"].keys() == {"p50", "p99", "p999", "max"}


class TestBadLine:
    @pytest.mark.parametrize("seed", range(5))
    def test_faults_cost_neither_safety_nor_the_goal(self, make_bench, run, seed):
        bench = make_bench()
        loop_ready = FaultSpec(drop=0.05, corrupt=0.05, duplicate=0.02, truncate=0.02, garbage=0.02)
        bench = make_bench(loop_ready, seed=seed)
        report = run(LoopConfig(goals=2), on=bench)
        assert report.successes == 2
        assert report.safety_events["stale_read"] > 10

    @pytest.mark.parametrize("seed", range(12))
    def test_whatever_fails_the_arm_is_safe(self, make_bench, make_policy, trace, seed):
        rng = np.random.default_rng(seed)
        shares = {field: float(rng.choice([0, 0.02, 0.1, 0.3])) for field in FAULTS}
        bench = make_bench(FaultSpec(**shares, delay_ms=float(rng.choice([3, 8, 30, 100]))), seed=seed)
        unplug, stall = rng.integers(50, 600, 2)
        trace.at_tick = {
            int(unplug): lambda: setattr(bench.link, "dead", True),
            int(stall): lambda: bench.clock.advance(0.2),
        }
        loop = ControlLoop(bench.robot, make_policy(), LoopConfig(goals=2), clock=bench.clock, recorder=trace)
        try:
            report = loop.run()
        except (LinkError, ProtocolError, StaleStateError):
            assert "armed" not in trace.names
        else:
            assert report.end_reason
            assert report.limit_violations == 0
        bench.arm.advance_to(bench.clock.now() + 0.05)
        assert bench.arm.status is not RobotStatus.ARMED
        assert bench.witness.commands_outside_limits == 0

    def test_short_silence_holds_and_goes_on_without_a_jump(self, run, bench, trace, description):
        def silence(on):
            return lambda: setattr(bench.link, "silent", on)

        trace.at_tick = {150: silence(True), 158: silence(False)}
        report = run(LoopConfig(goals=2))
        assert report.safety_events["stale_state"] == 1
        assert report.successes == 2
        assert bench.witness.holds == 0
        assert trace.names[3:6] == ["running", "stale_state", "holding"]
        assert trace.names[6] == "running"

    def test_lasting_silence_ends_the_run(self, run, bench, trace):
        trace.at_tick = {150: lambda: setattr(bench.link, "silent", True)}
        report = run(LoopConfig(goals=2))
        assert report.end_reason == "stale_state"
        assert report.message.startswith("held for 2 s: the last state is ")
        assert report.final_phase == "fault"
        assert not report.completed

    @pytest.mark.parametrize(("lag_s", "phase"), [(0.08, "parked"), (0.3, "fault"), (1.0, "fault")])
    def test_a_line_that_is_late_all_the_time_is_no_line(self, run, trace, late_line, lag_s, phase):
        trace.at_tick = {150: lambda: setattr(late_line, "lag_s", lag_s)}
        report = run(LoopConfig(duration_s=10.0))
        assert (report.end_reason, report.final_phase) == ("stale_state", phase)
        assert report.message.startswith("held for 2 s: the last state is ")
        assert report.safety_events["stale_state"] == 1
        assert trace.names[3:6] == ["running", "stale_state", "holding"]

    def test_an_answer_that_comes_with_the_next_poll_is_soon_enough(self, run, trace, late_line):
        trace.at_tick = {150: lambda: setattr(late_line, "lag_s", 0.75 * DT)}
        report = run(LoopConfig(goals=2))
        assert report.successes == 2
        assert report.safety_events == {"stale_read": 1}

    def test_dead_link_ends_the_run(self, run, bench, trace):
        trace.at_tick = {150: lambda: setattr(bench.link, "dead", True)}
        report = run(LoopConfig(goals=2))
        assert (report.end_reason, report.final_phase) == ("link_dead", "fault")
        assert report.message.count("unplugged") == 1
        assert report.message.endswith(
            "; the arm was not seen to stop: it should hold by itself, use the hardware stop if it does not"
        )
        bench.arm.advance_to(bench.clock.now() + 0.1)
        assert bench.arm.status is RobotStatus.HOLDING


class TestLateness:
    def test_is_counted_and_the_grid_stays(self, run, bench, trace):
        trace.at_tick = {100: lambda: bench.clock.advance(0.017), 200: lambda: bench.clock.advance(0.004)}
        report = run(LoopConfig(duration_s=2.0))
        assert (report.missed_deadlines, report.warnings) == (2, [])
        assert report.safety_events == {}
        assert report.lateness_us.max == pytest.approx(12_000, rel=0.05)
        times = np.array([record["time_s"] for record in trace.ticks]) / DT
        on_grid = np.abs(times - np.round(times)) < 1e-6
        assert on_grid.sum() >= len(times) - 1

    def test_long_stall_is_held_by_the_device_and_overcome(self, run, bench, trace, description):
        trace.at_tick = {150: lambda: bench.clock.advance(0.2)}
        report = run(LoopConfig(goals=2))
        assert bench.witness.holds == 1
        assert bench.witness.arms == 2
        assert report.safety_events["rearmed"] == 1
        assert report.successes == 2
        commands, states = trace.commands(), [record["state"] for record in trace.ticks]
        armed_again = [r["phase"] for r in trace.ticks].index("armed", 160)
        np.testing.assert_allclose(commands[armed_again], states[armed_again].joint_pos, atol=1e-5)

    def test_ticks_of_nearly_two_periods_are_warned_of(self, run, bench):
        """They never miss enough deadlines in a row to be an overrun."""
        read = bench.robot.read
        bench.robot.read = lambda: bench.clock.advance(1.85 * DT) or read()
        report = run(LoopConfig(duration_s=3.0))
        assert (report.end_reason, report.safety_events) == ("duration", {})
        assert report.warnings == [
            "46 % of the deadlines were missed: the arm was slower than the policy was trained for; "
            "this machine is too busy, see `wpg doctor`"
        ]

    @pytest.mark.parametrize("config", [LoopConfig(goals=2), LoopConfig(duration_s=2.0)])
    def test_a_run_that_was_suspended_does_not_move_again(self, run, bench, trace, config):
        write, written = bench.robot.write, []
        bench.robot.write = lambda command: written.append(command) or write(command)
        trace.at_tick = {150: lambda: bench.clock.advance(2.1)}
        report = run(config)
        assert len(written) == 150
        assert report.safety_events["suspended"] == 1
        assert report.end_reason == ("suspended" if config.goals else "duration")
        assert bench.witness.arms == 1
        assert bench.arm.status is RobotStatus.HOLDING

    def test_a_hold_that_was_suspended_is_not_recovered_from(self, run, bench, trace):
        trace.at_tick = {150: lambda: bench.clock.advance(0.2), 160: lambda: bench.clock.advance(2.1)}
        report = run(LoopConfig(goals=2))
        assert trace.names[3:] == ["running", "overrun", "holding", "suspended", "stopping", "parked"]
        told = "this process was suspended for 2.1 s: it does not move the arm again by itself"
        assert report.message == told

    def test_stalls_without_end_end_the_run(self, run, bench, trace):
        real_read = bench.robot.read

        def slow_read():
            state = real_read()
            if len(trace.ticks) > 100:
                bench.clock.advance(0.03)
            return state

        bench.robot.read = slow_read
        report = run(LoopConfig(goals=2))
        assert report.end_reason == "overrun"
        assert report.missed_deadlines > 10


@pytest.mark.parametrize(
    "wrong", [{"goals": 0}, {"duration_s": 0.0}, {"duration_s": float("nan")}, {"soft_start_pace": 0.0}]
)
def test_configuration_is_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopConfig(**wrong)


def test_in_process_robot_needs_no_link(description, reach_policy):
    """A simulator behind the same interface, advanced by the clock it is read with."""
    from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
    from wpg.hardware_bridge.testing.clocks import ManualClock

    clock = ManualClock()

    class Live(KinematicRobot):
        def read(self) -> RobotState:
            if clock.now() > self._time_s:
                self.advance(clock.now() - self._time_s)
            return super().read()

    loop = ControlLoop(Live(description), reach_policy, LoopConfig(goals=2), clock=clock)
    report = loop.run()
    assert (report.successes, report.limit_violations) == (2, 0)
