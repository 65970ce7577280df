"""The emergency stop: by API, key and signal; believed only when the arm is seen to rest."""

import errno
import io
import itertools
import os
import pty
import signal
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from wpg.hardware_bridge.control.emergency_stop import EmergencyStop, halt
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.errors import BridgeError, ProtocolError, StaleStateError
from wpg.hardware_bridge.keyboard import terminal_keys
from wpg.hardware_bridge.protocols.native import Arm
from wpg.hardware_bridge.robot import RobotStatus, StopMode
from wpg.hardware_bridge.run_log.recorder import NoRecorder
from wpg.hardware_bridge.signals import stop_on_signals


class AtTick(NoRecorder):
    """Does one thing after the other, from a tick on, and keeps what is commanded."""

    def __init__(self, number, *acts):
        self.acts = dict(enumerate(acts, number))
        self.commands, self.events = [], []

    def tick(self, **record):
        self.commands.append(record["command"].joint_pos)
        if act := self.acts.get(len(self.commands)):
            act()

    def event(self, **record):
        self.events.append(record["name"])


@pytest.fixture
def run(bench, reach_policy):
    def run(emergency, *acts, should_stop=lambda: "", **config):
        trace = AtTick(300, *acts)
        loop = ControlLoop(
            bench.robot,
            reach_policy,
            LoopConfig(goals=3, **config),
            clock=bench.clock,
            should_stop=should_stop,
            emergency=emergency,
            recorder=trace,
        )
        return loop.run(), trace

    return run


def test_the_arm_is_held_at_once_and_seen_to_rest(run, bench):
    emergency = EmergencyStop()
    report, trace = run(emergency, lambda: emergency.trigger("the test"))
    assert report.end_reason == "emergency_stop"
    assert not report.completed
    assert report.final_phase == "parked"
    assert report.message.startswith("by the test: at rest")
    assert report.safety_events["emergency_stop"] == 1
    # Not one command more, and the device's own word for it.
    assert len(trace.commands) == 300
    assert bench.witness.stops == {"hold": 1}
    assert bench.arm.status is RobotStatus.HOLDING
    assert trace.events[-3:] == ["emergency_stop", "stopping", "parked"]


def test_the_arm_is_held_even_if_it_was_to_be_released(run, bench):
    emergency = EmergencyStop()
    run(emergency, lambda: emergency.trigger("x"), final_stop=StopMode.RELEASE)
    assert bench.arm.status is RobotStatus.HOLDING


def test_an_emergency_while_the_run_ends_in_good_order(run, bench):
    emergency, stop = EmergencyStop(), bench.robot.stop

    def pressed_meanwhile(mode):
        stop(mode)
        emergency.trigger("the test")

    bench.robot.stop = pressed_meanwhile
    report, _ = run(emergency, duration_s=1.0, final_stop=StopMode.RELEASE)
    assert bench.arm.status is RobotStatus.HOLDING
    assert (report.end_reason, report.completed) == ("emergency_stop", False)


@pytest.mark.parametrize("emergency", [False, True])
def test_a_driver_that_fails_otherwise_is_damped(run, bench, emergency):
    source, stop = EmergencyStop(), bench.robot.stop

    def failing(mode):
        if mode is StopMode.HOLD:
            raise OverflowError("no such goal")
        stop(mode)

    bench.robot.stop = failing
    act = (lambda: source.trigger("the test")) if emergency else (lambda: None)
    report, _ = run(source, act, duration_s=4.0)
    assert bench.arm.status is RobotStatus.DAMPING
    assert "damped instead of held: OverflowError: no such goal" in report.message


def test_before_arming_torque_stays_off(run, bench):
    emergency = EmergencyStop()
    emergency.trigger("the test")
    with pytest.raises(BridgeError, match="emergency stop by the test before the arm was armed"):
        run(emergency)
    assert bench.witness.arms == 0
    assert bench.arm.status is RobotStatus.IDLE


def test_a_stop_before_arming_leaves_torque_off(run, bench):
    with pytest.raises(BridgeError, match="stopped by SIGTERM before the arm was armed"):
        run(EmergencyStop(), should_stop=lambda: "SIGTERM")
    assert bench.witness.arms == 0
    assert bench.arm.status is RobotStatus.IDLE


def test_from_another_thread(run):
    emergency = EmergencyStop()

    def ask():
        thread = threading.Thread(target=emergency.trigger, args=("another thread",))
        thread.start()
        thread.join()

    report, _ = run(emergency, ask)
    assert report.end_reason == "emergency_stop"


class Deceiver:
    """A robot that takes every order, says so, and does what it likes."""

    def __init__(
        self, clock, *, status=RobotStatus.HOLDING, speed=0.0, refuses=(), numbers=None, blind_until_s=0.0
    ):
        self.clock, self.status, self.speed, self.refuses = clock, status, speed, refuses
        self.numbers, self.blind_until_s = numbers or itertools.count(), blind_until_s
        self.stops = []

    def stop(self, mode):
        self.stops.append(mode)
        if mode in self.refuses:
            raise ProtocolError("no")

    def read(self):
        from wpg.hardware_bridge.robot import RobotState

        place = np.full(3, self.speed * self.clock.now())
        if self.clock.now() < self.blind_until_s:
            place[0] = np.nan
        return RobotState(
            joint_pos=place,
            joint_vel=np.zeros(3),
            joint_torque=np.zeros(3),
            time_s=0.0,
            sequence=next(self.numbers),
            status=self.status,
        )


class TestReadBack:
    def test_an_arm_that_goes_on_moving_is_no_success(self, bench):
        robot = Deceiver(bench.clock, speed=0.5)
        stopped = halt(robot, bench.clock)
        assert robot.stops == [StopMode.HOLD, StopMode.DAMP]
        assert not stopped.confirmed
        assert "cut the power: the joints are not seen to rest within 1 s" in stopped.trouble

    @pytest.mark.parametrize("speed", [0.0, 0.5])
    def test_a_joint_that_cannot_be_measured_is_no_rest(self, bench, speed):
        robot = Deceiver(bench.clock, speed=speed, blind_until_s=np.inf)
        stopped = halt(robot, bench.clock)
        assert robot.stops == [StopMode.HOLD, StopMode.DAMP]
        assert not stopped.confirmed
        assert "cut the power: the joints are not seen to rest within 1 s" in stopped.trouble

    def test_a_joint_that_is_measured_again_may_rest(self, bench):
        stopped = halt(Deceiver(bench.clock, blind_until_s=0.5), bench.clock)
        assert (stopped.confirmed, stopped.trouble) == (True, "")
        assert stopped.detail == "at rest 500 ms later"

    def test_a_measurement_that_is_repeated_is_no_rest(self, bench):
        stopped = halt(Deceiver(bench.clock, numbers=itertools.repeat(42)), bench.clock)
        assert not stopped.confirmed
        assert "cut the power: the joints are not seen to rest within 1 s" in stopped.trouble

    def test_an_arm_that_still_follows_commands_is_no_success(self, bench):
        robot = Deceiver(bench.clock, status=RobotStatus.ARMED, refuses=(StopMode.DAMP,))
        stopped = halt(robot, bench.clock)
        assert not stopped.confirmed
        assert stopped.trouble == "not confirmed, cut the power: the robot still follows commands"

    def test_an_arm_that_swings_does_not_rest_where_it_turns(self, bench):
        robot = Deceiver(bench.clock)
        read = robot.read
        robot.read = lambda: replace(
            read(), joint_pos=np.full(3, 0.1 * np.cos(4 * np.pi * bench.clock.now()))
        )
        assert not halt(robot, bench.clock).confirmed

    def test_a_state_that_is_lost_on_the_way_is_waited_for(self, bench):
        robot = Deceiver(bench.clock)
        read, lost = robot.read, iter((True, False, True))

        def sometimes():
            if next(lost, False):
                raise StaleStateError("no answer")
            return read()

        robot.read = sometimes
        assert halt(robot, bench.clock).confirmed
        assert robot.stops == [StopMode.HOLD]

    def test_an_arm_that_does_not_hold_is_damped(self, bench):
        robot = Deceiver(bench.clock, refuses=(StopMode.HOLD,))
        stopped = halt(robot, bench.clock)
        assert robot.stops == [StopMode.HOLD, StopMode.DAMP]
        assert stopped.confirmed
        assert stopped.trouble == "damped instead of held: no"


class TestKey:
    @pytest.fixture
    def terminal(self, monkeypatch):
        master, slave = pty.openpty()
        # As if this process were the terminal's foreground job.
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        yield master, slave
        os.close(master)
        os.close(slave)

    def test_the_space_bar_and_no_other(self, terminal, run):
        import termios

        master, slave = terminal
        before = termios.tcgetattr(slave)
        with terminal_keys(slave) as keys:
            assert keys.emergency() == ""
            os.write(master, b"q\nx")
            assert keys.emergency() == ""
            assert (keys.enter(), keys.enter()) == (True, False)
            report, _ = run(EmergencyStop(keys.emergency), lambda: os.write(master, b" "))
        assert report.end_reason == "emergency_stop"
        assert report.message.startswith("by the space bar")
        assert termios.tcgetattr(slave) == before

    def test_a_terminal_of_another_job_is_left_alone(self, monkeypatch):
        master, slave = pty.openpty()
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
        with terminal_keys(slave) as keys:
            assert keys is None
        os.close(master)
        os.close(slave)

    def test_a_terminal_that_does_not_rule_this_session_is_left_alone(self, terminal, monkeypatch):
        def refuse(descriptor):
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

        monkeypatch.setattr(os, "tcgetpgrp", refuse)
        with terminal_keys(terminal[1]) as keys:
            assert keys is None

    def test_a_terminal_that_is_closed_meanwhile(self, monkeypatch):
        master, slave = pty.openpty()
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        with terminal_keys(slave) as keys:
            os.close(master)
            assert keys.emergency() == ""
        os.close(slave)

    def test_without_a_terminal(self):
        read, write = os.pipe()
        with terminal_keys(read) as keys:
            assert keys is None
        os.close(read)
        os.close(write)

    @pytest.mark.parametrize("standard_input", [None, io.StringIO()])
    def test_without_standard_input(self, standard_input, monkeypatch):
        monkeypatch.setattr("sys.stdin", standard_input)
        with terminal_keys() as keys:
            assert keys is None


@pytest.mark.parametrize("signals", [(signal.SIGQUIT,), (signal.SIGINT, signal.SIGINT)])
def test_by_signal(signals, run):
    emergency = EmergencyStop()
    acts = [partial(signal.raise_signal, number) for number in signals]
    before = signal.getsignal(signal.SIGQUIT)
    with stop_on_signals(emergency) as stopped:
        report, _ = run(emergency, *acts, should_stop=stopped)
    assert report.end_reason == "emergency_stop"
    assert not report.completed
    assert report.message.startswith(f"by {signals[0].name}: at rest")
    assert stopped() == signals[0].name
    assert signal.getsignal(signal.SIGQUIT) is before


def test_while_the_arm_brakes_for_another_reason_and_does_not_answer(run, bench):
    emergency, asked = EmergencyStop(), []

    def cut_off():
        bench.link.silent = True
        asked.append("SIGTERM")

    report, trace = run(
        emergency, cut_off, lambda: emergency.trigger("x"), should_stop=lambda: "".join(asked)
    )
    assert trace.events[-4:] == ["stopping", "emergency_stop", "stop_unconfirmed", "fault"]
    assert report.end_reason == "emergency_stop"
    assert report.message.startswith("by x: not confirmed, cut the power: ")


def test_while_the_arm_is_rearmed_arming_is_not_ordered_again(run, bench):
    emergency, orders, ask = EmergencyStop(), [], bench.robot._ask

    def asking(message, *rest, **options):
        if not isinstance(message, Arm):
            return ask(message, *rest, **options)
        orders.append(message)
        bench.link.silent = len(orders) > 1
        if bench.link.silent:
            emergency.trigger("the test")
        try:
            return ask(message, *rest, **options)
        finally:
            bench.link.silent = False

    bench.robot._ask = asking
    report, trace = run(emergency, lambda: bench.clock.advance(0.2))
    assert len(orders) == 2
    assert (report.end_reason, report.final_phase) == ("emergency_stop", "parked")
    assert "rearmed" not in trace.events
    assert bench.arm.status is RobotStatus.HOLDING


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGINT, "SIGINT"),
        (signal.SIGTSTP, "SIGTSTP, a stop in good order: a run that moves an arm cannot be suspended"),
    ],
    ids=["Ctrl-C", "Ctrl-Z"],
)
def test_one_ctrl_c_or_ctrl_z_is_a_stop_in_good_order(run, number, told):
    emergency, before = EmergencyStop(), signal.getsignal(number)
    with stop_on_signals(emergency) as stopped:
        report, _ = run(emergency, lambda: signal.raise_signal(number), should_stop=stopped)
    assert emergency.source == ""
    assert (report.end_reason, report.message) == ("stopped", told)
    assert signal.getsignal(number) is before


def test_rearmed_after_an_emergency_stop_without_a_jump(bench, reach_policy):
    emergency = EmergencyStop()
    trace = AtTick(300, lambda: emergency.trigger("x"))
    config = LoopConfig(goals=3)
    ControlLoop(
        bench.robot, reach_policy, config, clock=bench.clock, emergency=emergency, recorder=trace
    ).run()
    stands = bench.arm.state.joint_pos
    again = AtTick(0)
    report = ControlLoop(bench.robot, reach_policy, config, clock=bench.clock, recorder=again).run()
    assert report.completed
    np.testing.assert_allclose(again.commands[0], stands, atol=1e-6)
    assert bench.witness.first_step_rad_max < 1e-6
    assert bench.witness.commands_outside_limits == 0


def test_a_poll_that_fails_is_a_request():
    def poll():
        raise OSError(errno.EIO, "Input/output error")

    emergency = EmergencyStop(poll)
    assert "Input/output error" in emergency.source
