"""Joint positions and joint torques in place of velocities."""

import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.franka.limits import (
    ACCELERATION_MAX_RAD_S2,
    JERK_MAX_RAD_S3,
    TORQUE_MAX_NM,
    TORQUE_RATE_MAX_NM_S,
)
from wpg.hardware_bridge.franka.streaming import DAMPING_NM_S_RAD, STIFFNESS_NM_RAD
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.robot import JointCommand, RobotStatus

REST = np.zeros(7)


@pytest.mark.parametrize("streams", ["velocity", "position", "torque"])
class TestEveryMode:
    def test_one_small_move_per_joint(self, make_bench, streams):
        bench = make_bench(streams)
        checks = check_joints(bench.robot, clock=bench.clock)
        assert [check.fault for check in checks] == [""] * 7
        assert max(check.lag_s for check in checks) <= 0.025

    def test_a_whole_run(self, make_bench, reach_policy, streams):
        bench = make_bench(streams)
        report = ControlLoop(bench.robot, reach_policy, LoopConfig(goals=1, seed=3), clock=bench.clock).run()
        assert (report.end_reason, report.final_phase, report.successes) == ("goals_done", "parked", 1)
        assert report.limit_violations == bench.arm.witness.commands_outside_limits == 0

    def test_holds_when_nobody_commands_and_follows_again(self, make_bench, streams):
        bench = make_bench(streams)
        bench.arm_robot()
        bench.drive(60)
        bench.clock.advance(0.3)
        assert bench.robot.read().status is RobotStatus.HOLDING
        assert [message.motion_finished for message in bench.fci.sent].index(True) == len(bench.fci.sent) - 1
        stood = bench.fci.q.copy()
        bench.robot.arm()
        bench.clock.advance(0.01)
        np.testing.assert_allclose(bench.fci.q, stood, atol=1e-6)


class TestPositions:
    def test_go_where_they_are_told_within_the_limits(self, make_bench):
        bench = make_bench("position")
        start = bench.fci.q.copy()
        bench.arm_robot()
        target = bench.drive(100)
        for _ in range(20):
            bench.robot.write(JointCommand(joint_pos=target, joint_vel=REST))
            bench.clock.advance(0.005)
        np.testing.assert_allclose(bench.fci.q, target, atol=1e-5)
        places = np.concatenate([np.repeat(start[None], 3, axis=0), bench.sent])
        acceleration = np.diff(places, 2, axis=0) / 1e-6
        assert np.abs(acceleration).max() <= ACCELERATION_MAX_RAD_S2
        assert np.abs(np.diff(acceleration, axis=0) / 1e-3).max() <= JERK_MAX_RAD_S3

    def test_lost_commands_leave_no_limit_though_states_are_rounded(self, make_bench):
        bench = make_bench("position")
        write, desired, worst = bench.fci.writeOnce, [np.zeros(7), np.zeros(7)], np.zeros(2)
        generator = np.random.default_rng(0)

        def lossy(message):
            velocity, acceleration = desired
            if generator.random() < 0.3 and not message.motion_finished:
                # Lost: the robot keeps its acceleration.
                bench.fci.dq = velocity + 1e-3 * acceleration
                bench.fci.q = bench.fci.q + 1e-3 * bench.fci.dq
            else:
                place = bench.fci.q
                write(message)
                bench.fci.dq = (message.values - place) / 1e-3
                bench.fci.ddq = (bench.fci.dq - velocity) / 1e-3
                jerk = (bench.fci.ddq - acceleration) / 1e-3
                worst[:] = np.maximum(worst, [np.abs(bench.fci.ddq).max(), np.abs(jerk).max()])
            desired[:] = bench.fci.dq, bench.fci.ddq

        bench.fci.writeOnce = lossy
        bench.arm_robot()
        bench.drive(200, speed=0.5)
        assert worst[0] <= ACCELERATION_MAX_RAD_S2
        assert worst[1] <= JERK_MAX_RAD_S3

    def test_robot_that_has_gone_on_by_itself_is_met_where_it_is(self, make_bench):
        bench = make_bench("position")
        bench.arm_robot()
        bench.drive(60)
        # Three commands were lost: the robot has kept its velocity, and so moved on.
        bench.fci.cycles += 3
        bench.fci.q = bench.fci.q + 3e-3 * bench.fci.dq
        before = bench.fci.q.copy()
        bench.arm.cycle(bench.clock.now())
        assert bench.sent[-1][0] - before[0] == pytest.approx(0.2e-3, rel=0.05)


class TestTorques:
    def test_are_a_spring_and_a_damper_around_the_setpoint(self, make_bench):
        bench = make_bench("torque")
        home = bench.fci.q.copy()
        bench.arm_robot()
        bench.fci.q = home + 0.001
        bench.fci.dq = np.full(7, 0.002)
        bench.arm.cycle(bench.clock.now())
        expected = -0.001 * STIFFNESS_NM_RAD - 0.002 * DAMPING_NM_S_RAD
        np.testing.assert_allclose(bench.sent[-1], expected, atol=1e-9)

    def test_stay_within_torques_and_torque_rates(self, make_bench):
        bench = make_bench("torque")
        bench.arm_robot()
        # Somebody has pushed the arm away.
        for _ in range(200):
            bench.fci.q = bench.description.limits("home_rad") + 0.3
            bench.fci.dq = np.zeros(7)
            bench.arm.cycle(bench.clock.now())
        torques = np.concatenate([np.zeros((1, 7)), bench.sent])
        assert np.abs(np.diff(torques, axis=0)).max() <= TORQUE_RATE_MAX_NM_S * 1e-3 + 1e-9
        assert (np.abs(torques) <= TORQUE_MAX_NM).all()
        np.testing.assert_allclose(torques[-1][0], -TORQUE_MAX_NM[0])

    def test_begin_where_the_arm_stands_and_not_where_it_was_held(self, make_bench):
        bench = make_bench("torque")
        held = bench.fci._state

        def sagging():
            state = held()
            state.q_d = (bench.fci.q + 0.01).tolist()
            return state

        bench.fci._state = sagging
        bench.arm_robot()
        bench.clock.advance(0.02)
        np.testing.assert_allclose(bench.sent, 0.0, atol=1e-9)
