import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.emulation.faults import FaultSpec
from wpg.hardware_bridge.errors import LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.protocols.native import (
    Arm,
    Command,
    Frame,
    FrameDecoder,
    Identify,
    Poll,
    encode_frame,
)
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotStatus, SimulatedRobot, StopMode

REST = np.zeros(7)


def at(joint_pos) -> JointCommand:
    return JointCommand(joint_pos=np.asarray(joint_pos), joint_vel=REST)


def connected(bench):
    bench.robot.connect()
    bench.robot.arm()
    return bench.robot


def test_interfaces(bench):
    assert isinstance(bench.robot, Robot)
    assert isinstance(bench.simulated, SimulatedRobot)


class TestConnect:
    def test_reports_the_arm_at_home_without_torque(self, bench):
        bench.robot.connect()
        state = bench.robot.read()
        np.testing.assert_allclose(state.joint_pos, bench.description.limits("home_rad"), atol=1e-6)
        assert state.status is RobotStatus.IDLE

    def test_nobody_answers(self, bench):
        bench.link.silent = True
        with pytest.raises(LinkError, match="nobody answers native frames within 4 s"):
            bench.robot.connect()

    def test_a_board_that_restarts_when_its_port_is_opened(self, bench):
        """It hears nothing until its bootloader has ended."""
        feed, running_s = bench.device.feed, bench.clock.now() + 2.5
        bench.device.feed = lambda data, now_s: b"" if now_s < running_s else feed(data, now_s)
        bench.robot.connect()
        assert running_s <= bench.clock.now() < running_s + 0.2
        assert bench.robot.read().status is RobotStatus.IDLE

    def test_garbage_answers(self, bench):
        bench.link.receive = lambda timeout_s: bench.clock.advance(timeout_s) or b"login: \0\xff"
        with pytest.raises(ProtocolError, match=r"expected native frames, found \d+ bytes"):
            bench.robot.connect()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"name": "so101"}, "robot: expected so101, found panda"),
            ({"servo_rate_hz": 100.0}, "servo rate: expected 100 Hz, found 200 Hz"),
            ({"watchdog_s": 0.02}, "watchdog: expected at most 20 ms, found 50 ms"),
        ],
    )
    def test_another_robot(self, bench, change, reason):
        expected = msgspec.structs.replace(bench.description, **change)
        robot = NativeRobot(expected, lambda: bench.link, clock=bench.clock)
        with pytest.raises(ProtocolError, match=reason):
            robot.connect()

    def test_other_joint_order(self, bench):
        joints = bench.description.joints
        expected = msgspec.structs.replace(bench.description, joints=(joints[1], joints[0], *joints[2:]))
        robot = NativeRobot(expected, lambda: bench.link, clock=bench.clock)
        with pytest.raises(ProtocolError, match="joints: expected panda_joint2, panda_joint1"):
            robot.connect()

    def test_before_connecting(self, bench):
        with pytest.raises(LinkError, match="connect"):
            bench.robot.read()

    def test_again(self, bench):
        connected(bench)
        bench.robot.close()
        bench.robot.close()
        bench.robot.connect()
        assert bench.robot.read().joint_pos.shape == (7,)


class TestRead:
    def test_is_stale_after_its_deadline_and_no_later(self, bench):
        bench.robot.connect()
        bench.link.silent = True
        before = bench.clock.now()
        with pytest.raises(StaleStateError, match=r"no state within 2\.5 ms"):
            bench.robot.read()
        assert bench.clock.now() - before == pytest.approx(0.0025)

    def test_ends_although_noise_never_does(self, bench):
        bench.robot.connect()
        bench.link.receive = lambda timeout_s: bench.clock.advance(1e-4) or b"noise"
        before = bench.clock.now()
        with pytest.raises(StaleStateError, match=r"no state within 2\.5 ms"):
            bench.robot.read()
        assert bench.clock.now() - before < 0.01

    def test_repeated_measurement_keeps_its_number(self, bench):
        bench.robot.connect()
        first, again = bench.robot.read(), bench.robot.read()
        assert again.sequence == first.sequence
        bench.clock.advance(0.01)
        later = bench.robot.read()
        assert later.sequence == first.sequence + 1
        assert later.time_s > first.time_s

    def test_dead_link(self, bench):
        bench.robot.connect()
        bench.link.dead = True
        with pytest.raises(LinkError, match="unplugged"):
            bench.robot.read()

    def test_answer_to_an_earlier_poll_does_for_a_state(self, bench):
        bench.robot.connect()
        bench.clock.advance(0.01)
        # The answer to this poll stays on the way, and the next poll's is lost.
        bench.robot._send(Poll())
        late = bench.link._answers
        bench.link.silent, bench.link._answers = True, late
        assert bench.robot.read().time_s == pytest.approx(0.01)

    def test_a_state_is_as_old_as_the_poll_that_it_answers(self, bench):
        bench.robot.connect()
        bench.clock.advance(0.01)
        assert bench.robot.read().age_s == 0.0
        bench.robot._send(Poll())
        bench.clock.advance(0.3)
        # This poll's own answer is lost.
        bench.link.silent = True
        assert bench.robot.read().age_s == pytest.approx(0.3)

    def test_an_answer_to_a_poll_that_was_never_sent_is_no_state(self, bench):
        bench.robot.connect()
        ahead = bench.robot._sequence + 100
        bench.link.send(encode_frame(Frame(bench.robot._session, ahead, 0, Poll())))
        bench.link.silent = True
        with pytest.raises(StaleStateError):
            bench.robot.read()

    def test_states_of_another_session_are_ignored(self, bench):
        bench.robot.connect()
        real = bench.device.feed
        bench.device.feed = lambda data, now_s: b"".join(
            encode_frame(Frame(f.session ^ 1, f.sequence, f.time_us, f.message))
            for f in FrameDecoder().feed(real(data, now_s))
        )
        with pytest.raises(StaleStateError):
            bench.robot.read()

    def test_over_a_bad_line_states_are_right_or_missing(self, make_bench):
        bench = make_bench(FaultSpec(corrupt=0.2, drop=0.1, truncate=0.1, garbage=0.1, duplicate=0.1), seed=3)
        for _ in range(20):
            try:
                bench.robot.connect()
                break
            except (LinkError, ProtocolError):
                continue
        home = bench.description.limits("home_rad")
        good = 0
        for _ in range(500):
            bench.clock.advance(0.005)
            try:
                state = bench.robot.read()
            except StaleStateError:
                continue
            good += 1
            np.testing.assert_allclose(state.joint_pos, home, atol=1e-6)
        assert 100 < good < 500
        assert bench.robot.frames_bad > 0


class TestWrite:
    def test_moves_the_arm(self, bench):
        robot = connected(bench)
        target = bench.description.limits("home_rad") + 0.005
        for _ in range(40):
            robot.write(at(target))
            bench.clock.advance(0.005)
            state = robot.read()
        np.testing.assert_allclose(state.joint_pos, target, atol=1e-4)
        assert bench.witness.commands_outside_limits == 0

    def test_returns_what_was_sent(self, bench):
        robot = connected(bench)
        high = bench.description.limits("position_max_rad")
        sent = robot.write(JointCommand(joint_pos=high + 1, joint_vel=np.full(7, 9.0)))
        assert (sent.joint_pos <= high).all()
        assert (sent.joint_vel <= bench.description.limits("velocity_max_rad_s")).all()
        np.testing.assert_array_equal(sent.joint_pos, sent.joint_pos.astype(np.float32))
        np.testing.assert_allclose(sent.joint_pos, high, rtol=1e-6)

    def test_without_arming_nothing_moves(self, bench):
        bench.robot.connect()
        bench.robot.write(at(bench.description.limits("home_rad") + 0.01))
        bench.clock.advance(0.1)
        assert bench.robot.read().status is RobotStatus.IDLE
        assert bench.witness.commands_ok == 0


class TestStop:
    @pytest.mark.parametrize(
        ("mode", "status"),
        [
            (StopMode.HOLD, RobotStatus.HOLDING),
            (StopMode.DAMP, RobotStatus.DAMPING),
            (StopMode.RELEASE, RobotStatus.RELEASED),
        ],
    )
    def test_is_read_back(self, bench, mode, status):
        robot = connected(bench)
        robot.stop(mode)
        assert robot.read().status is status
        assert bench.witness.stops == {mode.name.lower(): 1}

    def test_unanswered(self, bench):
        robot = connected(bench)
        bench.link.silent = True
        with pytest.raises(StaleStateError, match=r"stop not answered within 0\.5 s"):
            robot.stop(StopMode.HOLD)

    def test_ignored_by_the_device(self, bench):
        robot = connected(bench)
        bench.arm.stop = lambda mode: None
        with pytest.raises(ProtocolError, match="expected HOLDING, found ARMED"):
            robot.stop(StopMode.HOLD)


class TestDevice:
    """The emulated device's own safety, whoever talks to it."""

    def test_holds_when_nobody_commands(self, bench):
        robot = connected(bench)
        robot.write(at(bench.description.limits("home_rad")))
        for _ in range(100):
            bench.clock.advance(0.001)
            state = robot.read()
        assert (state.status, state.ordered) == (RobotStatus.HOLDING, False)
        assert bench.witness.holds == 1
        assert 50.0 <= bench.witness.hold_delay_ms_max <= 52.0

    def test_a_held_arm_obeys_after_it_is_armed_again(self, bench):
        robot = connected(bench)
        bench.clock.advance(0.1)
        robot.read()
        target = bench.description.limits("home_rad") + 0.005
        robot.write(at(target))
        assert robot.read().status is RobotStatus.HOLDING
        assert bench.witness.commands_refused == {"not_armed": 1}
        robot.arm()
        robot.write(at(target))
        assert bench.witness.commands_ok == 1

    @pytest.mark.parametrize("mode", StopMode)
    def test_says_that_it_was_ordered_to_stop_until_it_is_armed(self, bench, mode):
        robot = connected(bench)
        robot.stop(mode)
        assert robot.read().ordered
        robot.write(at(bench.description.limits("home_rad")))
        assert robot.read().ordered
        assert bench.witness.commands_refused == {"stopped": 1}
        robot.arm()
        assert not robot.read().ordered

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 99.0])
    def test_refuses_what_is_outside_the_limits(self, bench, bad):
        robot = connected(bench)
        robot._send(Command(1, np.full(7, bad), REST))
        bench.clock.advance(0.01)
        np.testing.assert_allclose(robot.read().joint_pos, bench.description.limits("home_rad"), atol=1e-6)
        assert bench.witness.commands_outside_limits == 1
        assert bench.witness.commands_ok == 0

    def test_a_tick_that_jumps_buys_no_way(self, bench):
        robot = connected(bench)
        home = bench.description.limits("home_rad")
        robot._send(Command(1, home, REST))
        robot._send(Command(1000, home + 0.5, REST))
        assert bench.witness.commands_refused == {"velocity_limit": 1}

    @pytest.mark.parametrize("tick", [0, 4, 5])
    def test_a_tick_that_does_not_count_up_buys_no_way_either(self, bench, tick):
        robot = connected(bench)
        home = bench.description.limits("home_rad")
        robot._send(Command(5, home, REST))
        robot._send(Command(tick, home, REST))
        assert bench.witness.commands_refused == {"velocity_limit": 1}
        robot._send(Command(6, home, REST))
        assert bench.witness.commands_ok == 2

    def test_ticks_may_begin_anew_when_the_arm_is_armed(self, bench):
        robot = connected(bench)
        home = bench.description.limits("home_rad")
        robot._send(Command(9, home, REST))
        robot.stop(StopMode.HOLD)
        robot.arm()
        robot._send(Command(0, home, REST))
        assert bench.witness.commands_ok == 2

    def test_the_first_step_after_arming_is_the_first_commands(self, bench):
        robot = connected(bench)
        for tick, step_rad in enumerate((1e-4, 3e-4)):
            robot._send(Command(tick, bench.description.limits("home_rad") + step_rad, REST))
        assert bench.witness.commands_ok == 2
        assert bench.witness.first_step_rad_max == pytest.approx(1e-4, rel=0.01)

    def test_a_measurement_that_is_not_finite_arms_nothing(self, bench):
        bench.robot.connect()
        bench.simulated._pos[2] = np.nan
        with pytest.raises(ProtocolError, match="it reports IDLE, and measures nothing finite"):
            bench.robot.arm()
        assert bench.arm.status is RobotStatus.IDLE
        assert bench.witness.arms == 0

    def test_nor_does_it_let_commands_pass(self, bench):
        robot = connected(bench)
        bench.simulated._pos[2] = np.nan
        bench.clock.advance(0.01)
        robot.read()
        robot.write(at(bench.description.limits("home_rad")))
        assert bench.witness.commands_refused == {"not_finite": 1}
        with pytest.raises(ProtocolError, match="does not arm anew: it measures nothing finite"):
            robot.arm()

    def test_refused_commands_do_not_feed_the_watchdog(self, bench):
        robot = connected(bench)
        for tick in range(20):
            robot._send(Command(tick, np.full(7, np.nan), REST))
            bench.clock.advance(0.005)
            state = robot.read()
        assert state.status is RobotStatus.HOLDING

    def test_command_of_wrong_size(self, bench):
        robot = connected(bench)
        robot._send(Command(1, np.zeros(3), np.zeros(3)))
        assert bench.witness.commands_refused == {"wrong_size": 1}

    def test_one_commander_at_a_time(self, bench):
        connected(bench)
        other = NativeRobot(bench.description, lambda: bench.link, clock=bench.clock)
        other.connect()
        with pytest.raises(ProtocolError, match="another client commands"):
            other.arm()
        other.write(at(bench.description.limits("home_rad") + 0.001))
        assert bench.witness.commands_ok == 0
        assert bench.witness.frames_foreign == 2
        assert bench.robot.read().status is RobotStatus.ARMED
        # Stopping is anybody's right, and frees the arm for the next.
        other.stop(StopMode.HOLD)
        other.arm()
        assert other.read().status is RobotStatus.ARMED

    def test_repeated_and_old_frames_are_ignored(self, bench):
        robot = connected(bench)
        home = bench.description.limits("home_rad")
        recorded = encode_frame(Frame(robot._session, robot._sequence + 1, 0, Command(1, home, REST)))
        bench.link.send(recorded)
        assert bench.witness.commands_ok == 1
        for _ in range(3):
            bench.link.send(recorded)
        assert bench.witness.commands_ok == 1
        assert bench.witness.frames_foreign == 3

    def test_frames_without_a_session_are_ignored(self, bench):
        bench.link.send(encode_frame(Frame(12345, 1, 0, Arm())))
        assert bench.witness.frames_foreign == 1
        assert bench.arm.status is RobotStatus.IDLE

    def test_many_clients_do_not_push_the_commander_out(self, bench):
        robot = connected(bench)
        for nonce in range(100):
            bench.link.send(encode_frame(Frame(nonce, 1, 0, Identify())))
        assert len(bench.device._sessions) <= 8
        bench.link.receive(0.0)
        assert robot.read().status is RobotStatus.ARMED

    def test_lets_lost_time_go(self, bench):
        bench.robot.connect()
        bench.clock.advance(100.0)
        state = bench.robot.read()
        assert state.time_s < 1.0
        assert bench.witness.late_ms_max > 99_000
