"""The loop's small parts, each alone."""

import math
import re
import signal
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.clock import RealClock
from wpg.hardware_bridge.control.checks import check_interface, check_stance
from wpg.hardware_bridge.control.goals import GoalSequence
from wpg.hardware_bridge.control.lifecycle import NEXT_PHASES, Lifecycle, Phase
from wpg.hardware_bridge.control.rate_timer import RateTimer
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.faults import FaultSpecError, parse_faults
from wpg.hardware_bridge.errors import BridgeError, DescriptionError, LifecycleError
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.robot import RobotState
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.hardware_bridge.signals import stop_on_signals
from wpg.hardware_bridge.testing.clocks import ManualClock

SAFETY = Path(__file__).parents[2] / "docs" / "safety.md"


class TestHistogram:
    def test_percentiles_against_sorting(self):
        rng = np.random.default_rng(0)
        durations = rng.lognormal(-9, 1, 20_000)
        histogram = LatencyHistogram()
        for duration in durations:
            histogram.record(duration)
        for share in (0.5, 0.99, 0.999):
            exact = np.quantile(durations, share, method="inverted_cdf") * 1e6
            assert exact <= histogram.percentile_us(share) <= 1.024 * exact
        assert histogram.summary().max == pytest.approx(durations.max() * 1e6, abs=0.1)
        assert sum(n for _, _, n in histogram.bars()) == 20_000

    def test_empty_and_extreme(self):
        histogram = LatencyHistogram()
        assert histogram.summary().p99 == 0.0
        for duration in (-1.0, 0.0, 1e-12, 100.0):
            histogram.record(duration)
        assert histogram.count == 4
        assert histogram.percentile_us(1.0) <= 1e8


class TestRateTimer:
    def test_keeps_its_grid_through_lateness(self):
        clock = ManualClock(10.0)
        timer = RateTimer(0.01, clock)
        times = []
        for work in (0.001, 0.009, 0.014, 0.001, 0.032, 0.0):
            timer.wait()
            times.append(round(clock.now() - 10.0, 6))
            clock.advance(work)
        assert times == [0.01, 0.02, 0.03, 0.044, 0.05, 0.082]
        assert timer.missed == 2
        assert timer.lateness.max_us == pytest.approx(22_000)

    def test_numbers_count_missed_beats(self):
        clock = ManualClock()
        timer = RateTimer(0.01, clock)
        assert timer.wait() == 0
        clock.advance(0.055)
        assert timer.wait() == 5
        assert timer.missed_in_a_row == 4
        assert timer.wait() == 6
        assert timer.missed_in_a_row == 0

    def test_a_pause_is_no_miss(self):
        clock = ManualClock()
        timer = RateTimer(0.01, clock)
        timer.wait()
        clock.advance(1.0)
        timer.restart()
        assert timer.wait() == 1
        assert timer.missed == 0
        assert timer.active_s == pytest.approx(0.02)


def test_real_clock_never_returns_early():
    clock = RealClock()
    for spin_s in (0.0, 0.0005):
        clock = RealClock(spin_s)
        deadline = clock.now() + 0.002
        clock.sleep_until(deadline)
        assert clock.now() >= deadline
    clock.sleep_until(clock.now() - 1.0)


class TestLifecycle:
    @pytest.fixture
    def clock(self):
        return ManualClock(7.0)

    @pytest.fixture
    def changes(self):
        return []

    @pytest.fixture
    def lifecycle(self, clock, changes):
        return Lifecycle(clock, lambda phase, reason: changes.append((phase, reason)))

    def test_transitions_are_those_that_are_drawn(self):
        diagram = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", SAFETY.read_text(), re.DOTALL)[1]
        drawn = {phase: set() for phase in Phase}
        for start, end in re.findall(r"^ *(\w+) --> (\w+)", diagram, re.MULTILINE):
            drawn[Phase(start)].add(Phase(end))
        assert drawn == NEXT_PHASES
        ends = re.findall(r"(\w+) --> \[\*\]", diagram)
        assert set(ends) == {phase for phase in Phase if not NEXT_PHASES[phase]}

    def test_a_transition_that_is_drawn(self, lifecycle, clock, changes):
        clock.advance(0.5)
        assert lifecycle.age_s == 0.5
        lifecycle.enter(Phase.CONNECTED, "why")
        assert changes == [(Phase.CONNECTED, "why")]
        assert lifecycle.age_s == 0.0

    def test_a_transition_that_is_not(self, lifecycle, changes):
        with pytest.raises(LifecycleError, match="from phase unconfigured to armed: possible are connected"):
            lifecycle.enter(Phase.ARMED)
        assert (lifecycle.phase, changes) == (Phase.UNCONFIGURED, [])


class TestGoals:
    def test_draws_fill_the_box(self, reach_policy):
        spec = reach_policy.interface.goal
        goals = GoalSequence(spec, count=500, seed=1)
        points = []
        while not goals.finished:
            for _ in range(spec.horizon_steps):
                assert not goals.judge(np.zeros(3), 0.0)
                points.append(goals.begin_step(np.zeros(3), 0.0))
            assert goals.judge(np.zeros(3), 0.0)
        points = np.array(points)
        assert (points >= np.float32(spec.low)).all()
        assert (points <= np.float32(spec.high)).all()
        np.testing.assert_allclose(points.mean(axis=0), np.mean([spec.low, spec.high], axis=0), atol=0.01)

    def test_is_judged_after_the_last_step(self, reach_policy):
        spec = msgspec.structs.replace(reach_policy.interface.goal, horizon_steps=2)
        goals = GoalSequence(spec, count=1, seed=0, fixed=(0.4, 0.0, 0.4))
        at_goal, near, far = np.array([(0.4, 0.0, 0.4), (0.4, 0.0, 0.4199), (0.4, 0.0, 0.4201)])
        goals.begin_step(far, 0.0)
        assert not goals.judge(at_goal, 0.05)
        goals.begin_step(near, 0.1)
        assert goals.judge(near, 0.2)
        (result,) = goals.results
        assert result.reached
        assert result.error_m == pytest.approx(0.0199)
        assert (result.start_s, result.end_s) == (0.0, 0.2)
        for time_s in (0.3, 0.4):
            goals.begin_step(far, time_s)
        assert goals.judge(far, 0.5)
        assert not goals.results[1].reached
        assert goals.results[1].start_s == 0.3

    def test_begin_as_far_away_as_the_contract_says(self, reach_policy):
        spec = msgspec.structs.replace(reach_policy.interface.goal, horizon_steps=1, distance_min_m=0.12)
        middle = np.mean([spec.low, spec.high], axis=0)
        goals = GoalSequence(spec, count=None, seed=0)
        for _ in range(200):
            assert np.linalg.norm(goals.begin_step(middle, 0.0) - middle) >= 0.12
            goals.judge(middle, 0.0)


class TestCheckInterface:
    def test_fits(self, reach_policy, description):
        assert check_interface(reach_policy.interface, description).ticks_per_step == 10

    def test_policy_for_no_robot(self, reach_policy, description):
        interface = msgspec.structs.replace(reach_policy.interface, robot=None)
        with pytest.raises(ContractError, match="stands for no robot"):
            check_interface(interface, description)

    def test_other_robot(self, reach_policy, description):
        other = msgspec.structs.replace(description, name="ur5e")
        with pytest.raises(ContractError, match="trained for panda, found ur5e"):
            check_interface(reach_policy.interface, other)

    def test_joint_order(self, reach_policy, description):
        joints = description.joints
        other = msgspec.structs.replace(description, joints=(joints[1], joints[0], *joints[2:]))
        with pytest.raises(ContractError, match=r"expects panda_joint1, panda_joint2.*found panda_joint2"):
            check_interface(reach_policy.interface, other)

    @pytest.mark.parametrize(("field", "value"), [("sign", -1), ("zero_rad", 0.1)])
    def test_joint_sign_and_zero(self, reach_policy, description, field, value):
        spec = reach_policy.interface.robot
        joint = msgspec.structs.replace(spec.joints[2], **{field: value})
        robot = msgspec.structs.replace(spec, joints=(*spec.joints[:2], joint, *spec.joints[3:]))
        interface = msgspec.structs.replace(reach_policy.interface, robot=robot)
        with pytest.raises(ContractError, match=f"joint panda_joint3: the policy expects.*{value}"):
            check_interface(interface, description)

    def test_kinematics(self, reach_policy, description):
        tool = msgspec.structs.replace(description.tool, xyz_m=(0.0, 0.0, 0.107))
        other = msgspec.structs.replace(description, tool=tool)
        with pytest.raises(ContractError, match="kinematics: the policy was trained on another chain"):
            check_interface(reach_policy.interface, other)

    @pytest.mark.parametrize("control_dt_s", [0.051, 0.002])
    def test_rates(self, reach_policy, description, control_dt_s):
        interface = msgspec.structs.replace(reach_policy.interface, control_dt_s=control_dt_s)
        with pytest.raises(ContractError, match="no multiple of the servo period"):
            check_interface(interface, description)

    def test_action_mode(self, reach_policy, description):
        action = msgspec.structs.replace(reach_policy.interface.action, mode="joint_torque")
        interface = msgspec.structs.replace(reach_policy.interface, action=action)
        with pytest.raises(ContractError, match="joint_torque"):
            check_interface(interface, description)

    def test_observation_without_a_source(self, reach_policy, description):
        terms = reach_policy.interface.observation
        blind = msgspec.structs.replace(terms[0], source="environment")
        interface = msgspec.structs.replace(reach_policy.interface, observation=(blind, *terms[1:]))
        with pytest.raises(ContractError, match="no source on the robot"):
            check_interface(interface, description)


class TestCheckStance:
    @pytest.mark.parametrize(("side", "limit"), [(-1, "position_min_rad"), (1, "position_max_rad")])
    def test_half_a_period_outside_a_limit_is_not_too_far(self, description, side, limit):
        def check(periods):
            way_rad = periods * description.servo_dt_s * description.limits("velocity_max_rad_s")
            joint_pos = description.limits("home_rad")
            joint_pos[5] = (description.limits(limit) + side * way_rad)[5]
            zero = np.zeros(7)
            state = RobotState(joint_pos=joint_pos, joint_vel=zero, joint_torque=zero, time_s=0.0, sequence=0)
            check_stance(state, description)

        check(0.49)
        with pytest.raises(BridgeError, match=r"joint panda_joint6 is at .*: move it back by hand"):
            check(0.51)


class TestFaultSpec:
    def test_reads(self):
        spec = parse_faults("drop=0.05,delay=0.01,delay_ms=30")
        assert (spec.drop, spec.delay, spec.delay_ms, spec.corrupt) == (0.05, 0.01, 30.0, 0.0)
        assert parse_faults("") == parse_faults("drop=0")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("explode=1", "fault 'explode': expected one of after_s, drop, corrupt"),
            ("drop=often", "drop: expected a number, found 'often'"),
            ("drop=2", "drop: expected a probability, found 2.0"),
            ("drop=nan", "drop: expected a probability"),
        ],
    )
    def test_refused(self, text, reason):
        with pytest.raises(FaultSpecError, match=reason):
            parse_faults(text)


def test_setpoint_pace_slows_and_never_jumps(description):
    setpoints = SetpointGenerator(description, description.servo_dt_s)
    home = description.limits("home_rad")
    limit = description.motion_fraction * description.limits("velocity_max_rad_s")
    setpoints.set_pace(0.2)
    setpoints.set_target(home + 0.5)
    slow = np.array([setpoints.step().joint_vel for _ in range(60)])
    assert (np.abs(slow) <= 0.2 * limit + 1e-9).all()
    setpoints.set_pace(1.0)
    fast = np.array([setpoints.step().joint_vel for _ in range(60)])
    assert np.abs(fast).max() > 0.5 * limit.max()
    assert np.abs(fast[0] - slow[-1]).max() < 0.1


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as received:
            signal.raise_signal(signal.SIGHUP)
            assert received() == ""
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_kept_and_handlers_restored():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as received:
        assert received() == ""
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert received() == "SIGTERM"
        # What moves no arm, such as the emulator, may be suspended.
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("position_max_rad", "joint panda_joint1: position_max_rad"),
        ("acceleration_max_rad_s2", "joint panda_joint1: acceleration_max_rad_s2"),
        ("watchdog_s", "watchdog_s"),
    ],
)
def test_infinite_limits_are_refused(tmp_path, line, field):
    text = (resources.files("wpg.hardware_bridge") / "robots" / "panda.toml").read_text()
    path = tmp_path / "endless.toml"
    path.write_text(re.sub(rf"^{line} = .*$", f"{line} = inf", text, count=1, flags=re.MULTILINE))
    with pytest.raises(DescriptionError, match=rf"{field}: expected finite numbers, found inf"):
        load_description(path)


@pytest.mark.parametrize(
    ("table", "field", "value", "reason"),
    [
        (("tool",), "xyz_m", [math.nan, 0.0, 0.0], r"tool\.xyz_m: expected finite numbers"),
        (("joints", 0, "frame"), "xyz_m", [0.0, math.inf, 0.0], r"frame\.xyz_m: expected finite numbers"),
        (("joints", 0), "axis", [0.0, 0.0, 2.0], "axis must have unit length"),
        (("joints", 0), "axis", [math.nan, 0.0, 1.0], "axis: expected finite numbers"),
        ((), "approach", [0.0, 0.0, 0.0], "must have unit length"),
        ((), "servo_rate_hz", 1e-300, "Expected `float` >= 1.0"),
    ],
)
def test_a_description_that_describes_no_arm(table, field, value, reason):
    described = msgspec.to_builtins(load_description("panda"))
    part = described
    for key in table:
        part = part[key]
    part[field] = value
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert(described, RobotDescription)


def test_holds_that_no_run_can_count():
    with pytest.raises(ValueError, match="holds_max: expected 0 to 1000000, found"):
        SafetyConfig(holds_max=2**63 - 1)
