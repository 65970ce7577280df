"""A Franka arm's states behind the native frames, each of them on a fake interface."""

import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.errors import BridgeError, LinkError, ProtocolError
from wpg.hardware_bridge.franka.connection import FciConnection
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, StopMode

REST = np.zeros(7)
COMMUNICATION = 'motion aborted by reflex! ["communication_constraints_violation"]'
COLLISION = 'motion aborted by reflex! ["joint_reflex"]'


class TestConnect:
    def test_reports_the_arm_without_moving_it(self, bench):
        bench.robot.connect()
        state = bench.robot.read()
        np.testing.assert_allclose(state.joint_pos, bench.description.limits("home_rad"), atol=1e-6)
        assert state.status is RobotStatus.IDLE
        assert bench.fci.sent == []

    @pytest.mark.parametrize("flange_error_m", [0.01, float("nan")])
    def test_another_arm(self, make_bench, flange_error_m):
        with pytest.raises(ProtocolError, match="flange of panda is expected at"):
            make_bench(flange_error_m=flange_error_m)

    def test_nothing_answers(self, make_bench):
        with pytest.raises(LinkError, match="link fci://fake: UDP receive: Timeout"):
            make_bench(dead=True)

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pylibfranka", None)
        with pytest.raises(LinkError, match=r"pip install 'wpg\[franka\]'"):
            FciConnection("fake")


class TestMotion:
    def test_goes_where_it_is_told(self, bench):
        bench.arm_robot()
        target = bench.drive(100)
        for _ in range(20):
            bench.robot.write(JointCommand(joint_pos=target, joint_vel=REST))
            bench.clock.advance(0.005)
        np.testing.assert_allclose(bench.fci.q, target, atol=1e-5)

    def test_what_lost_packets_have_added_is_taken_back(self, bench):
        bench.arm_robot()
        home = bench.fci.q.copy()
        bench.fci.q = home + 0.001
        for _ in range(300):
            bench.robot.write(JointCommand(joint_pos=home, joint_vel=REST))
            bench.clock.advance(0.005)
        np.testing.assert_allclose(bench.fci.q, home, atol=1e-5)

    def test_command_outside_the_limits_is_refused(self, bench):
        robot = bench.arm_robot()
        far = bench.description.limits("home_rad") + 0.5
        robot.write(JointCommand(joint_pos=far, joint_vel=REST))
        bench.clock.advance(0.02)
        assert bench.arm.witness.commands_refused == {"velocity_limit": 1}
        assert np.abs(bench.sent).max() < 1e-6


class TestPunctuality:
    def test_states_that_were_missed_move_the_setpoints_on(self, bench):
        bench.arm_robot()
        bench.drive(60)
        before = bench.fci.q[0]
        bench.fci.cycles += 3
        bench.arm.cycle(bench.clock.now())
        # One command was sent, at the speed of the motion; its place is that of four.
        assert bench.fci.q[0] - before == pytest.approx(0.2e-3, rel=0.01)
        assert bench.connection._streaming._heading[0] - before == pytest.approx(0.8e-3, rel=0.1)

    def test_state_that_is_no_longer_the_newest_is_not_answered(self, bench):
        bench.arm_robot()
        bench.drive(20)
        sent, seen = len(bench.fci.sent), bench.fci.cycles
        # The process is woken two milliseconds after the state that wakes it.
        bench.arm.cycle(bench.clock.now())
        bench.clock._now_s += 0.002
        bench.arm.cycle(bench.clock.now())
        assert bench.fci.cycles == seen + 3
        assert len(bench.fci.sent) == sent + 2

    def test_late_answer_is_kept_back(self, bench):
        bench.arm_robot()
        bench.drive(20)
        sent = len(bench.fci.sent)
        step = bench.arm._stream.step

        def slow_step():
            bench.clock._now_s += 0.0009
            return step()

        bench.arm._stream.step = slow_step
        bench.arm.cycle(bench.clock.now())
        assert len(bench.fci.sent) == sent
        assert bench.arm.late_answers == 1


class TestStopping:
    def test_holds_when_nobody_commands(self, bench):
        robot = bench.arm_robot()
        bench.drive(60)
        bench.clock.advance(0.3)
        assert robot.read().status is RobotStatus.HOLDING
        assert bench.arm.witness.holds == 1
        assert bench.arm.witness.hold_delay_ms_max <= 52
        # The robot was left at rest, its motion ended in good order, within its acceleration.
        assert [message.motion_finished for message in bench.fci.sent].index(True) == len(bench.fci.sent) - 1
        assert np.abs(np.diff(bench.sent, axis=0)).max() <= 10e-3
        assert not bench.connection.moving

    def test_held_arm_follows_again_from_where_it_stands(self, bench):
        robot = bench.arm_robot()
        bench.drive(60)
        bench.clock.advance(0.3)
        stood = bench.fci.q.copy()
        robot.arm()
        assert robot.read().status is RobotStatus.ARMED
        before = len(bench.fci.sent)
        bench.clock.advance(0.01)
        np.testing.assert_allclose(bench.sent[before:], 0.0, atol=1e-6)
        np.testing.assert_allclose(bench.fci.q, stood, atol=1e-6)

    def test_stop_is_read_back(self, bench):
        robot = bench.arm_robot()
        bench.drive(60)
        robot.stop(StopMode.HOLD)
        bench.clock.advance(0.3)
        assert robot.read().status is RobotStatus.HOLDING
        assert not bench.connection.moving

    def test_is_not_armed_anew_before_it_rests(self, bench):
        robot = bench.arm_robot()
        bench.drive(100, speed=1.0)
        robot.stop(StopMode.HOLD)
        with pytest.raises(ProtocolError, match="it reports HOLDING"):
            robot.arm()


class TestReflexes:
    def test_collision_stays_until_somebody_has_looked(self, bench, modes):
        robot = bench.arm_robot()
        bench.drive(20)
        bench.fci.reflex = COLLISION
        bench.clock.advance(0.01)
        assert robot.read().status is RobotStatus.FAULT
        assert "joint_reflex" in bench.arm.fault
        bench.fci.mode = modes.Idle
        bench.clock.advance(0.1)
        assert robot.read().status is RobotStatus.FAULT
        with pytest.raises(ProtocolError, match="it reports FAULT"):
            robot.arm()
        assert bench.fci.recoveries == 0

    def test_late_packets_are_recovered_from(self, bench):
        robot = bench.arm_robot()
        bench.drive(20)
        bench.fci.reflex = COMMUNICATION
        bench.clock.advance(0.01)
        assert robot.read().status is RobotStatus.HOLDING
        assert bench.fci.recoveries == 1
        robot.arm()
        target = bench.drive(20)
        bench.clock.advance(0.04)
        assert abs(bench.fci.q[0] - target[0]) < 0.01

    def test_recovery_that_is_refused(self, bench):
        robot = bench.arm_robot()
        bench.fci.refuses_recovery = True
        bench.fci.reflex = COMMUNICATION
        bench.clock.advance(0.01)
        assert robot.read().status is RobotStatus.FAULT
        assert bench.arm.fault == "command rejected: user stop pressed"

    def test_user_stop_at_rest_passes(self, bench, modes):
        bench.robot.connect()
        bench.fci.mode = modes.UserStopped
        bench.clock.advance(0.01)
        assert bench.arm.fault == "its user stop is pressed"
        bench.fci.mode = modes.Idle
        bench.clock.advance(0.01)
        assert bench.robot.read().status is RobotStatus.IDLE

    def test_user_stop_in_motion_stays(self, bench, modes):
        robot = bench.arm_robot()
        bench.drive(20)
        bench.fci.mode = modes.UserStopped

        def stopped():
            bench.fci.readOnce = type(bench.fci).readOnce.__get__(bench.fci)
            bench.fci.stop_by("motion aborted by user stop", modes.UserStopped)

        bench.fci.readOnce = stopped
        bench.clock.advance(0.01)
        bench.fci.mode = modes.Idle
        bench.clock.advance(0.01)
        assert robot.read().status is RobotStatus.FAULT

    def test_reflex_at_the_start_is_left_when_asked_to(self, make_bench, modes):
        bench = make_bench(mode=modes.Reflex)
        assert bench.arm.status is RobotStatus.FAULT
        assert "recover=yes" in bench.arm.fault
        bench.arm.recover()
        assert bench.arm.status is RobotStatus.IDLE

    def test_start_that_is_refused_stays_a_fault_until_the_next(self, bench):
        bench.robot.connect()
        bench.fci.refusal = "brakes are closed"
        with pytest.raises(ProtocolError, match="it reports FAULT"):
            bench.robot.arm()
        bench.clock.advance(0.01)
        assert bench.robot.read().status is RobotStatus.FAULT
        assert bench.arm.fault == "Move command rejected: brakes are closed"
        bench.fci.refusal = ""
        bench.robot.arm()
        assert (bench.arm.status, bench.arm.fault) == (RobotStatus.ARMED, "")

    def test_start_is_not_tried_where_the_mode_forbids_it(self, bench, modes):
        bench.robot.connect()
        bench.fci.refusal = "brakes are closed"
        with pytest.raises(ProtocolError, match="it reports FAULT"):
            bench.robot.arm()
        bench.fci.mode = modes.UserStopped
        bench.clock.advance(0.01)
        bench.fci.start_joint_velocity_control = None
        with pytest.raises(ProtocolError, match="it reports FAULT"):
            bench.robot.arm()
        assert bench.arm.fault == "Move command rejected: brakes are closed; its user stop is pressed"

    def test_robot_dies(self, bench):
        bench.arm_robot()
        bench.fci.dead = True
        with pytest.raises(LinkError, match="Timeout"):
            bench.clock.advance(0.01)


class TestLoop:
    """The whole control loop over the interface."""

    def loop(self, bench, policy, **config):
        return ControlLoop(bench.robot, policy, LoopConfig(goals=1, seed=3, **config), clock=bench.clock)

    def test_reaches_its_goal(self, bench, reach_policy):
        report = self.loop(bench, reach_policy).run()
        assert (report.end_reason, report.final_phase) == ("goals_done", "parked")
        assert report.successes == 1
        assert report.limit_violations == bench.arm.witness.commands_outside_limits == 0
        assert bench.arm.late_setpoints == 0
        bench.clock.advance(0.5)
        assert not bench.connection.moving

    def test_goes_on_after_late_packets(self, bench, make_policy):
        policy = make_policy(horizon_steps=120)
        self.reflex_after(bench, policy, COMMUNICATION)
        report = self.loop(bench, policy).run()
        assert report.end_reason == "goals_done"
        assert report.safety_events["rearmed"] == 1
        assert report.successes == 1

    def test_ends_by_a_collision_and_says_so(self, bench, reach_policy):
        self.reflex_after(bench, reach_policy, COLLISION)
        report = self.loop(bench, reach_policy).run()
        assert (report.end_reason, report.final_phase) == ("device_fault", "fault")

    def test_does_not_arm_a_robot_that_stands_in_a_reflex(self, make_bench, modes, reach_policy):
        bench = make_bench(mode=modes.Reflex)
        with pytest.raises(BridgeError, match="reports a fault"):
            self.loop(bench, reach_policy).run()
        assert bench.fci.sent == []

    @staticmethod
    def reflex_after(bench, policy, reason):
        act = policy.act

        def acting(obs):
            if policy.num_calls == 10:
                bench.fci.reflex = reason
            return act(obs)

        policy.act = acting
