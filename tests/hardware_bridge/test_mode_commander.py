"""What a run orders besides setpoints: holds where the arm stands, and what it leaves alone."""

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import STATUS_AFTER_STOP, RobotStatus, StopMode


class Pushing:
    """Moves a joint on and on."""

    def __init__(self, interface) -> None:
        action = msgspec.structs.replace(interface.action, delta_from="target")
        self.interface = msgspec.structs.replace(interface, action=action)

        self.fails = False

    def act(self, obs) -> Decision:
        return Decision(np.array([np.nan if self.fails else 0.1, 0, 0, 0, 0, 0, 0], np.float32))

    def reset(self) -> None:
        pass


@pytest.fixture
def pushing(make_interface):
    return Pushing(make_interface(horizon_steps=10_000))


@pytest.fixture
def push(run, pushing):
    """Runs it for this long."""
    return lambda duration_s, **safety: run(
        LoopConfig(duration_s=duration_s, safety=SafetyConfig(**safety)), policy=pushing
    )


class TestBlocked:
    def test_is_held_where_it_stands_and_goes_on_from_there(self, push, bench, trace, block):
        writes, write, tick, ahead_rad = [], bench.robot.write, trace.tick, []

        def written(command):
            writes.append(len(trace.ticks))
            return write(command)

        def watched(**record):
            tick(**record)
            if record["phase"] == "holding":
                ahead_rad.append(bench.simulated._target[0] - bench.simulated._pos[0])

        bench.robot.write, trace.tick = written, watched
        advance = bench.simulated.advance
        trace.at_tick = {100: block, 230: lambda: setattr(bench.simulated, "advance", advance)}
        report = push(2.5)
        assert report.end_reason == "duration"
        assert report.safety_events == {"tracking_error": 1, "rearmed": 1}
        np.testing.assert_allclose(ahead_rad, 0.0, atol=1e-9)
        held = [index for index, record in enumerate(trace.ticks) if record["phase"] == "holding"]
        assert not set(held) & set(writes), "servos on a bus follow goals also while they hold"
        armed = next(i for i, record in enumerate(trace.ticks) if i > held[-1] and record["phase"] == "armed")
        record = trace.ticks[armed]
        np.testing.assert_allclose(record["command"].joint_pos, record["state"].joint_pos, atol=1e-6)

    def test_that_stays_blocked_ends_the_run(self, push, trace, block):
        trace.at_tick = {80: block}
        report = push(20.0, holds_max=1)
        assert (report.end_reason, report.final_phase) == ("tracking_error", "parked")
        assert report.safety_events == {"tracking_error": 2, "rearmed": 1}

    def test_a_hold_that_is_not_confirmed_ends_the_run(self, push, bench, trace, block):
        def fail():
            block()
            bench.arm.stop = lambda mode: None

        trace.at_tick = {100: fail}
        report = push(5.0)
        assert (report.end_reason, report.final_phase) == ("tracking_error", "fault")
        assert report.message.startswith("a joint is 0.5")
        assert "stop: expected HOLDING, found ARMED; the arm was not seen to stop: it" in report.message

    @pytest.mark.parametrize("phase", ["holding", "stopping"])
    def test_is_not_pressed_on_while_it_brakes(self, push, bench, trace, phase, request):
        """Something comes into the way of an arm that is braked for another reason."""
        block, pushing = map(request.getfixturevalue, ("block", "pushing"))

        def displace():
            bench.simulated._pos[0] += 0.8
            block()

        trace.at_tick = {149: lambda: setattr(pushing, "fails", True), 162: displace}
        if phase == "stopping":
            del trace.at_tick[149]
        report = push(1.2 if phase == "holding" else 161 * 0.005)
        assert report.safety_events["tracking_error"] == 1
        assert bench.witness.stops["hold"] == 2
        at = trace.names.index("tracking_error")
        assert phase in trace.names[:at]
        assert trace.names[at - 1] == phase


class TestStoppedBySomebodyElse:
    @pytest.fixture
    def other(self, bench):
        other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
        bench.robot.connect()
        other.connect()
        return other

    @pytest.mark.parametrize("mode", StopMode)
    def test_ends_the_run_which_leaves_it_so(self, run, bench, trace, other, mode):
        trace.at_tick = {150: lambda: other.stop(mode)}
        report = run(LoopConfig(goals=2, final_stop=StopMode.RELEASE))
        status = STATUS_AFTER_STOP[mode]
        assert (report.end_reason, report.final_phase) == ("device_stop", "parked")
        assert report.message == f"somebody else has stopped the robot: it reports {status.name}"
        assert not report.completed
        assert bench.witness.stops == {mode.name.lower(): 1}
        assert bench.witness.arms == 1
        assert bench.arm.status is status
        assert len(trace.ticks) == 151

    @pytest.mark.parametrize("mode", StopMode)
    def test_after_the_watchdog_has_held(self, run, bench, trace, other, mode):
        trace.at_tick = {150: lambda: bench.clock.advance(0.2), 160: lambda: other.stop(mode)}
        report = run(LoopConfig(goals=2))
        assert report.end_reason == "device_stop"
        assert bench.witness.arms == 1
        assert bench.arm.status is STATUS_AFTER_STOP[mode]

    @pytest.mark.parametrize("mode", [StopMode.DAMP, StopMode.RELEASE])
    def test_while_the_run_holds_or_ends(self, run, bench, trace, other, mode):
        asked = []
        trace.at_tick = {150: lambda: asked.append("the test"), 152: lambda: other.stop(mode)}
        report = run(LoopConfig(goals=2), should_stop=lambda: "".join(asked))
        assert report.end_reason == "stopped"
        assert report.safety_events["device_stop"] == 1
        assert bench.arm.status is STATUS_AFTER_STOP[mode]

    def test_released_while_the_run_lets_the_device_hold(self, push, bench, trace, other, block):
        trace.at_tick = {100: block}
        tick = trace.tick

        def watched(**record):
            tick(**record)
            if record["phase"] == "holding" and not bench.witness.stops["release"]:
                other.stop(StopMode.RELEASE)

        trace.tick = watched
        report = push(3.0)
        assert report.end_reason == "device_stop"
        assert bench.arm.status is RobotStatus.RELEASED


class TestCommandedBySomebodyElse:
    def test_an_arm_that_another_has_armed_is_left_to_him(self, run, bench, trace):
        other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
        bench.robot.connect()
        other.connect()

        def takes_over():
            bench.clock.advance(0.2)
            bench.arm.advance_to(bench.clock.now())
            other.arm()

        trace.at_tick = {150: takes_over}
        report = run(LoopConfig(goals=2))
        assert report.end_reason == "device_stop"
        assert report.message == "somebody else has stopped the robot: another client commands it"
        assert not bench.witness.stops
        assert bench.witness.arms == 2


def test_what_the_device_refuses_is_said(run, bench, monkeypatch):
    gate = bench.arm._gate
    lets_pass = gate.lets_pass

    def narrower(*command, **state):
        if bench.witness.commands_ok > 20 and state["armed"]:
            return gate.refuse(Refusal.POSITION_LIMIT)
        return lets_pass(*command, **state)

    monkeypatch.setattr(gate, "lets_pass", narrower)
    report = run(LoopConfig(duration_s=5.0, safety=SafetyConfig(holds_max=1)))
    assert report.end_reason == "device_hold"
    assert report.message.endswith("it refused a command: outside its position limits")


class TestArmingFails:
    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, LinkError])
    @pytest.mark.parametrize("final", [StopMode.HOLD, StopMode.RELEASE])
    def test_with_torque_on_it_is_parked(self, run, bench, error, final):
        """Also where a driver raises something else than it should."""
        arm = bench.robot.arm

        def failing():
            arm()
            raise error("read-back failed")

        bench.robot.arm = failing
        if error is LinkError:
            assert run(LoopConfig(final_stop=final)).end_reason == "link_dead"
        else:
            with pytest.raises(error, match="read-back failed"):
                run(LoopConfig(final_stop=final))
        assert bench.arm.status is STATUS_AFTER_STOP[final]

    def test_an_arm_that_is_seen_without_torque_gets_none(self, run, bench):
        def failing():
            raise StaleStateError("no answer from servo 4")

        bench.robot.arm = failing
        report = run()
        assert (report.end_reason, report.message) == ("arming_failed", "no answer from servo 4")
        assert bench.witness.stops == {}
        assert bench.arm.status is RobotStatus.IDLE

    def test_an_arm_that_is_not_seen_is_held(self, run, bench):
        def failing():
            bench.robot.read = lost
            raise StaleStateError("no answer")

        def lost():
            raise StaleStateError("nothing")

        bench.robot.arm = failing
        assert run().end_reason == "arming_failed"
        assert bench.witness.stops == {"hold": 1}

    def test_a_refusal_is_raised_and_the_robot_left_alone(self, run, bench):
        def refused():
            raise ProtocolError("no")

        bench.robot.arm = refused
        with pytest.raises(ProtocolError, match=r"^no$"):
            run()
        assert bench.witness.stops == {}
