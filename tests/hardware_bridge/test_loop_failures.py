"""The loop when policy or robot fail, and what it refuses before torque."""

import dataclasses
import re

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import BridgeError, LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.pipeline import ObservationPipeline
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.robot import RobotStatus, StopMode


class BadPolicy:
    def __init__(self, policy, bad, calls) -> None:
        self._policy = policy
        self._bad = bad
        self._calls = calls
        self.interface = policy.interface
        self.num_calls = 0

    def act(self, obs) -> Decision:
        self.num_calls += 1
        decision = self._policy.act(obs)
        return self._bad if self.num_calls in self._calls else decision

    def reset(self) -> None:
        self._policy.reset()


class TestPolicyFails:
    NAN = Decision(np.full(7, np.nan, np.float32))

    def test_one_bad_action_holds_and_goes_on(self, run, reach_policy):
        report = run(LoopConfig(goals=2), policy=BadPolicy(reach_policy, self.NAN, {20}))
        assert report.safety_events == {"non_finite_action": 1}
        assert report.successes == 2

    def test_bad_actions_without_end_end_the_run(self, run, reach_policy):
        policy = BadPolicy(reach_policy, self.NAN, range(20, 10_000))
        config = LoopConfig(goals=2, safety=SafetyConfig(holds_max=3))
        report = run(config, policy=policy)
        assert report.end_reason == "non_finite_action"
        assert report.message.startswith("held 3 times within 1 s")
        assert report.safety_events == {"non_finite_action": 4}
        assert report.final_phase == "parked"

    def test_wild_actions_stay_inside_the_limits(self, run, reach_policy, bench):
        rng = np.random.default_rng(0)

        class Wild:
            interface = reach_policy.interface

            def act(self, obs):
                return Decision(rng.choice([-1e30, -3, 3, 1e30], 7).astype(np.float32))

            def reset(self):
                pass

        report = run(LoopConfig(duration_s=5.0), policy=Wild())
        assert report.end_reason == "duration"

    def test_an_exception_stops_the_arm_before_it_goes_on_its_way(self, run, reach_policy, bench):
        class Broken:
            interface = reach_policy.interface

            def act(self, obs):
                raise ZeroDivisionError("oops")

            def reset(self):
                pass

        with pytest.raises(ZeroDivisionError):
            run(policy=Broken())
        assert bench.witness.stops == {"hold": 1}
        assert bench.arm.status is RobotStatus.HOLDING


class TestRobotFails:
    @pytest.fixture
    def sag(self, bench, trace):
        """Leaves the arm to its watchdog, and pushes it aside by one joint."""

        def sag(joint, offset_rad):
            def leave():
                bench.clock.advance(0.2)
                bench.arm.advance_to(bench.clock.now())
                bench.simulated.place(bench.arm.state.joint_pos + offset_rad * np.eye(7)[joint])

            trace.at_tick = {30: leave}

        return sag

    def test_an_arm_that_sags_beyond_a_limit_is_not_armed_anew(self, run, bench, sag):
        sag(3, 2.55)
        report = run(LoopConfig(goals=2))
        assert (report.end_reason, bench.witness.arms) == ("arming_failed", 1)
        assert report.message.startswith("joint panda_joint4 is at 0.1")

    def test_an_arm_that_sags_out_of_its_box_is_not_armed_anew(self, run, bench, sag):
        sag(1, 0.5)
        box = ((0.2, -0.2, 0.45), (0.8, 0.2, 0.8))
        report = run(LoopConfig(goals=2, safety=SafetyConfig(workspace_m=box)))
        assert (report.end_reason, bench.witness.arms) == ("arming_failed", 1)
        assert report.message.startswith("workspace: expected the tool between")

    def test_fault_ends_the_run(self, run, bench, trace):
        def fail():
            bench.simulated._status = RobotStatus.FAULT
            bench.simulated.stop = bench.simulated.arm = lambda *_: None

        trace.at_tick = {150: fail}
        report = run(LoopConfig(goals=2))
        assert (report.end_reason, report.final_phase) == ("device_fault", "fault")
        assert report.safety_events["stop_unconfirmed"] == 1

    @pytest.mark.parametrize("first", [100, 155])
    def test_a_fault_that_passes_ends_the_run_too(self, run, bench, trace, first):
        """While the policy runs, or while the arm is held for something else."""
        read = bench.robot.read

        def fault():
            state = read()
            if first < len(trace.ticks) < first + 20:
                return dataclasses.replace(state, status=RobotStatus.FAULT, fault="overload")
            return state

        bench.robot.read = fault
        trace.at_tick = {150: lambda: bench.clock.advance(0.2)}
        report = run(LoopConfig(goals=2))
        assert (report.end_reason, report.final_phase) == ("device_fault", "parked")
        assert report.message == "the robot reports a fault: overload"
        assert report.safety_events["device_fault"] == 1
        assert "rearmed" not in report.safety_events

    def test_a_measurement_that_is_repeated_grows_old(self, run, bench, trace):
        """The device answers every poll, but its encoders' task has died."""
        observe, frozen = bench.arm._observe, []

        def stuck():
            observe()
            if len(trace.ticks) > 150:
                frozen.append(bench.arm.state)
                bench.arm.state = dataclasses.replace(frozen[0], status=bench.arm.state.status)

        bench.arm._observe = stuck
        report = run(LoopConfig(goals=2))
        assert report.end_reason == "stale_state"
        assert trace.names[3:6] == ["running", "stale_state", "holding"]
        assert report.safety_events == {"stale_state": 1}

    @pytest.mark.parametrize("unknown", [{"joint_vel": np.full(7, np.nan)}, {"age_s": np.nan}])
    def test_states_that_are_not_finite_are_no_states(self, run, bench, trace, unknown):
        real_read = bench.robot.read

        def read():
            state = real_read()
            if 100 < len(trace.ticks) < 103:
                return dataclasses.replace(state, **unknown)
            return state

        bench.robot.read = read
        report = run(LoopConfig(goals=1))
        assert report.safety_events == {"stale_read": 2}
        assert report.successes == 1

    def test_a_driver_that_does_not_know_what_it_sent_changes_no_command(
        self, bench, make_bench, reach_policy, trace
    ):
        def run_on(bench, recorder):
            config = LoopConfig(duration_s=2.0)
            return ControlLoop(bench.robot, reach_policy, config, clock=bench.clock, recorder=recorder).run()

        write = bench.robot.write

        def unknowing(command):
            sent = write(command)
            if len(trace.ticks) == 100:
                return dataclasses.replace(sent, joint_pos=np.full(7, np.nan))
            return sent

        bench.robot.write = unknowing
        report = run_on(bench, trace)
        assert report.limit_violations == 1
        assert (report.end_reason, report.safety_events) == ("duration", {})
        assert bench.witness.commands_outside_limits == 0
        usual = type(trace)()
        run_on(make_bench(), usual)
        np.testing.assert_allclose(trace.commands(), usual.commands(), atol=1e-6)

    def test_unconfirmed_hold_is_damped(self, run, bench):
        real_stop = bench.arm.stop
        bench.arm.stop = lambda mode: real_stop(mode) if mode is StopMode.DAMP else None
        report = run(LoopConfig(duration_s=0.5))
        assert bench.arm.status is RobotStatus.DAMPING
        assert report.final_phase == "parked"
        assert report.safety_events == {"stop_unconfirmed": 1}
        assert report.message.startswith("damped instead of held: stop: expected HOLDING")

    def test_a_stop_that_nothing_confirms_is_the_message(self, run, bench):
        bench.arm.stop = lambda mode: None
        report = run(LoopConfig(goals=1))
        assert (report.end_reason, report.final_phase) == ("goals_done", "fault")
        assert report.message == (
            "the arm was not seen to stop (stop: expected HOLDING, found ARMED): "
            "it should hold by itself, use the hardware stop if it does not"
        )

    def test_a_final_stop_that_does_not_come_about_leaves_the_arm_held(self, run, bench):
        real_stop = bench.arm.stop
        bench.arm.stop = lambda mode: real_stop(mode) if mode is StopMode.HOLD else None
        report = run(LoopConfig(duration_s=0.5, final_stop=StopMode.RELEASE))
        assert bench.witness.stops == {"hold": 2}
        assert (report.end_reason, report.final_phase) == ("duration", "parked")
        assert report.message == "no release: stop: expected RELEASED, found HOLDING"


class TestBeforeTorque:
    def test_nobody_there(self, run, bench):
        bench.link.silent = True
        with pytest.raises(LinkError):
            run()
        assert bench.witness.arms == 0

    def test_joint_outside_its_limits(self, run, bench, description):
        bench.simulated.place(description.limits("position_max_rad") + 0.1)
        bench.arm.advance_to(0.01)
        with pytest.raises(BridgeError, match=r"panda_joint1 is at 2\.9973 rad, expected"):
            run()
        assert bench.witness.arms == 0

    def test_a_stop_that_the_robot_cannot_do(self, run, bench):
        bench.robot.stop_modes = frozenset({StopMode.RELEASE, StopMode.HOLD})
        with pytest.raises(BridgeError, match="stop: this robot can hold or release, not damp"):
            run(LoopConfig(duration_s=0.5, final_stop=StopMode.DAMP))
        assert bench.witness.arms == 0
        assert run(LoopConfig(duration_s=0.5, final_stop=StopMode.RELEASE)).completed

    def test_other_client_commands(self, run, bench, make_bench):
        from wpg.hardware_bridge.native.robot import NativeRobot

        other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
        other.connect()
        other.arm()
        with pytest.raises(ProtocolError, match="another client"):
            run()
        assert bench.witness.stops == {}
        assert bench.arm.status is RobotStatus.ARMED

    def test_arming_unanswered_still_stops(self, run, bench, reach_policy):
        real_arm = bench.robot.arm

        def arm():
            real_arm()
            raise StaleStateError("no answer")

        bench.robot.arm = arm
        report = run()
        assert report.end_reason == "arming_failed"
        assert bench.arm.status is RobotStatus.HOLDING

    def test_goal_outside_the_box(self, run):
        with pytest.raises(ContractError, match="goal: expected a point from"):
            run(LoopConfig(goal=(2.0, 0.0, 0.0)))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"joint_pos": {"unit": "deg"}},
                "term 'joint_pos': expected unit rad from source joint_pos, found deg",
            ),
            ({"tool_pos": {"unit": "mm"}}, "term 'tool_pos': expected unit m from source tool_pos, found mm"),
            ({"goal": {"unit": "mm"}}, "term 'goal': expected unit m from source goal, found mm"),
            ({"goal": {"size": 2}}, "term 'goal': expected size 3 from source goal, found 2"),
            ({"action": {"unit": "deg"}}, "action unit: expected 'rad', found 'deg'"),
            ({"spec": None}, "term 'goal': expected a goal in the contract, found none"),
        ],
    )
    def test_another_unit_or_goal(self, run, bench, reach_policy, changes, message):
        replace, interface = msgspec.structs.replace, reach_policy.interface
        spec = changes.get("spec", {})
        reach_policy.interface = replace(
            interface,
            observation=tuple(replace(term, **changes.get(term.name, {})) for term in interface.observation),
            action=replace(interface.action, **changes.get("action", {})),
            goal=None if spec is None else replace(interface.goal, **spec),
        )
        with pytest.raises(ContractError, match=re.escape(message)):
            run()
        assert bench.witness.arms == 0

    def test_a_goal_for_an_object_that_is_no_point(self, reach_policy):
        replace, interface = msgspec.structs.replace, reach_policy.interface
        *others, goal = interface.observation
        flat = replace(
            interface,
            observation=(*others, replace(goal, source="external", size=2)),
            goal=replace(interface.goal, achieved=goal.name, low=(0.3, -0.1), high=(0.5, 0.1)),
        )
        with pytest.raises(ContractError, match="goal box: expected 3 coordinates, found 2"):
            ObservationPipeline(flat)

    def test_goals_for_a_policy_without(self, run, reach_policy):
        interface = reach_policy.interface
        terms = tuple(term for term in interface.observation if term.source != "goal")

        class Goalless:
            pass

        policy = Goalless()
        policy.interface = msgspec.structs.replace(interface, observation=terms, goal=None)
        policy.act = lambda obs: Decision(np.zeros(7, np.float32))
        policy.reset = lambda: None
        with pytest.raises(ContractError, match="trained without goals"):
            run(LoopConfig(goals=2), policy=policy)
        report = run(LoopConfig(duration_s=0.5), policy=policy)
        assert report.goals == 0
        assert report.completed
