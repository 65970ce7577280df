"""A gripper that moves: its setpoint, its axis in native frames, and the loop that opens and closes it."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.export.interface import ObservationTerm
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.errors import ProtocolError
from wpg.hardware_bridge.gripper import GripperSetpoint
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.protocols.native import Command, Refusal
from wpg.hardware_bridge.replay import rebuilt_observations
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, StopMode
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import as_recording, read_log
from wpg.hardware_bridge.testing.memory_log import MemoryLog

DT_S = 0.005


@pytest.fixture
def gripper(description):
    return description.gripper


@pytest.fixture
def bench(make_bench):
    return make_bench(gripper=True)


@pytest.fixture
def armed(bench):
    bench.robot.connect()
    bench.robot.arm()
    return bench.robot


class GraspingPolicy:
    """Reaches, and wants the gripper as far open as it is told to."""

    def __init__(self, reach_policy) -> None:
        self._reach = reach_policy
        interface = reach_policy.interface
        action = interface.action
        self.interface = msgspec.structs.replace(
            interface,
            observation=(
                ObservationTerm(name="gripper", size=1, source="gripper", unit="m"),
                *interface.observation,
            ),
            action=msgspec.structs.replace(
                action,
                size=action.size + 1,
                unit="rad, gripper: m",
                scale=(*action.scale, 0.04),
                offset=(*action.offset, 0.04),
            ),
        )
        self.opening_m = 0.05
        self.seen_m = []

    def act(self, obs) -> Decision:
        self.seen_m.append(float(obs[0]))
        reached = self._reach.act(obs[1:]).action
        return Decision(np.append(reached, np.float32(self.opening_m)), 0.01)

    def reset(self) -> None:
        pass


@pytest.fixture
def grasping(reach_policy) -> GraspingPolicy:
    return GraspingPolicy(reach_policy)


def openings(trace):
    return np.array([record["command"].gripper_m for record in trace.ticks])


class TestSetpoint:
    def test_goes_at_its_speed_and_stays_in_its_range(self, gripper):
        setpoint = GripperSetpoint(gripper, 0.0)
        setpoint.set_target(0.02)
        way = [setpoint.step(DT_S) for _ in range(60)]
        np.testing.assert_allclose(np.diff(way[:30]), 0.1 * DT_S, atol=2e-8)
        assert (np.abs(np.diff(np.float32(way).astype(float))) <= 0.1 * DT_S).all()
        assert way[-1] == 0.02
        assert setpoint.is_there
        for asked, expected in ((1.0, 0.08), (np.inf, 0.08), (-0.01, 0.0)):
            setpoint.set_target(asked)
            assert setpoint.target_m == expected

    def test_may_stand_a_little_outside(self, gripper):
        assert GripperSetpoint(gripper, -0.001).opening_m == 0.0


class TestNativeAxis:
    def test_is_reported_and_moves(self, armed, bench):
        assert armed.read().gripper_m == 0.0
        home = armed.read().joint_pos
        for tick in range(1, 101):
            command = JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=0.0004 * tick)
            sent = armed.write(command)
            bench.clock.advance(DT_S)
        assert sent.gripper_m == np.float32(0.04)
        assert armed.read().gripper_m == pytest.approx(0.04, abs=1e-6)
        assert bench.witness.commands_outside_limits == 0

    def test_stays_where_nothing_is_said_of_it(self, armed, bench):
        home = armed.read().joint_pos
        armed.write(JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=0.0004))
        bench.clock.advance(DT_S)
        sent = armed.write(JointCommand(joint_pos=home, joint_vel=0 * home))
        assert sent.gripper_m == np.float32(0.0004)
        assert bench.witness.commands_refused == {}

    @pytest.mark.parametrize(("asked", "sent"), [(-0.5, 0.0), (0.5, 0.08)])
    def test_driver_clips_to_the_range(self, armed, asked, sent):
        home = armed.read().joint_pos
        found = armed.write(JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=asked))
        assert sent - 1e-8 <= found.gripper_m <= sent + 1e-8
        assert 0.0 <= found.gripper_m <= 0.08

    @pytest.mark.parametrize(
        ("opening", "refusal"),
        [
            (-1e-4, Refusal.POSITION_LIMIT),
            (0.081, Refusal.POSITION_LIMIT),
            (0.001, Refusal.VELOCITY_LIMIT),
            (np.nan, Refusal.NOT_FINITE),
        ],
    )
    def test_device_refuses_what_leaves_its_limits(self, armed, bench, opening, refusal):
        row = np.append(armed.read().joint_pos, opening)
        armed._send(Command(1, row, np.zeros(8)))
        assert bench.arm.refusal is refusal
        armed._send(Command(2, row[:7], np.zeros(7)))
        assert bench.arm.refusal is Refusal.WRONG_SIZE

    def test_device_without_the_axis_is_driven_all_the_same(self, make_bench):
        old = make_bench(gripper=False)
        old.robot.connect()
        old.robot.arm()
        home = old.robot.read().joint_pos
        sent = old.robot.write(JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=0.04))
        assert sent.gripper_m is None
        assert old.robot.read().gripper_m is None
        assert old.witness.commands_ok == 1

    def test_axis_that_is_not_described_is_refused(self, bench, description):
        bare = msgspec.structs.replace(description, gripper=None)
        robot = NativeRobot(bare, lambda: bench.link, clock=bench.clock)
        with pytest.raises(ProtocolError, match=r"expected .* panda_joint7, found .* panda_joint7, gripper"):
            robot.connect()

    def test_stop_and_watchdog_leave_it_as_it_is(self, armed, bench):
        home = armed.read().joint_pos
        for tick in range(1, 21):
            armed.write(JointCommand(joint_pos=home, joint_vel=0 * home, gripper_m=0.0004 * tick))
            bench.clock.advance(DT_S)
        bench.clock.advance(0.1)
        assert armed.read().status is RobotStatus.HOLDING
        armed.stop(StopMode.HOLD)
        assert armed.read().gripper_m == pytest.approx(0.008, abs=1e-6)


class TestLoop:
    def test_the_policys_opening_is_commanded_at_the_grippers_speed(
        self, run, grasping, bench, trace, gripper
    ):
        report = run(LoopConfig(goals=2), policy=grasping)
        assert report.successes == 2
        sent = openings(trace)
        assert sent[0] == 0.0
        assert (sent >= 0.0).all()
        assert sent.max() == np.float32(0.05)
        steps = np.abs(np.diff(sent)) / DT_S
        assert steps.max() <= gripper.speed_max_m_s
        running = [record["phase"] for record in trace.ticks].index("running")
        # Slow at first, then as fast as it goes.
        assert steps[running : running + 10].max() < 0.5 * gripper.speed_max_m_s
        assert steps.max() > 0.9 * gripper.speed_max_m_s
        np.testing.assert_allclose(grasping.seen_m[-1], 0.05, atol=1e-6)
        assert bench.arm.state.gripper_m == pytest.approx(0.05, abs=1e-6)

    @pytest.mark.parametrize(("asked", "sent"), [(3.0, 0.08), (-3.0, 0.0)])
    def test_never_outside_its_range(self, run, grasping, trace, asked, sent):
        grasping.opening_m = asked
        run(LoopConfig(goals=1), policy=grasping)
        assert openings(trace)[-1] == pytest.approx(sent, abs=1e-8)
        assert openings(trace).max() <= 0.08
        assert openings(trace).min() >= 0.0

    def test_a_hold_holds_it(self, run, grasping, bench, trace):
        def opens(width):
            return lambda: setattr(grasping, "opening_m", width)

        def late():
            bench.clock.advance(0.045)

        trace.at_tick = {150: opens(0.0), 160: late}
        report = run(LoopConfig(duration_s=3.0), policy=grasping)
        assert report.safety_events["overrun"] == 1
        phases = np.array([record["phase"] for record in trace.ticks])
        held = openings(trace)[phases == "holding"]
        assert 0.0 < held[0] < 0.05
        assert np.ptp(held) == 0.0
        assert openings(trace)[-1] == 0.0

    def test_is_left_as_it_is_by_a_policy_that_moves_none(self, run, bench, trace):
        bench.simulated.place(bench.arm.state.joint_pos, 0.03)
        bench.arm.begin(bench.clock.now())
        report = run(LoopConfig(goals=1))
        assert report.successes == 1
        np.testing.assert_allclose(openings(trace), 0.03, atol=1e-8)

    def test_old_firmware_is_refused_before_torque(self, run, grasping, make_bench):
        old = make_bench(gripper=False)
        with pytest.raises(
            ContractError, match="gripper: the policy needs one, found none that moves on this panda"
        ):
            run(policy=grasping, on=old)
        assert old.witness.arms == 0

    def test_a_state_that_is_not_finite_is_stale(self, run, grasping, bench, trace):
        real_read = bench.robot.read

        def read():
            state = real_read()
            broken = 300 <= len(trace.ticks) < 310
            return replace(state, gripper_m=np.nan) if broken else state

        bench.robot.read = read
        report = run(LoopConfig(duration_s=3.0), policy=grasping)
        assert report.safety_events["stale_read"] == 10

    def test_joint_check_does_not_move_it(self, bench):
        bench.simulated.place(bench.arm.state.joint_pos, 0.03)
        bench.arm.begin(bench.clock.now())
        assert all(check.ok for check in check_joints(bench.robot, clock=bench.clock))
        assert bench.arm.state.gripper_m == pytest.approx(0.03, abs=1e-8)


class TestLog:
    def test_what_the_policy_saw_comes_out_bit_for_bit(self, bench, grasping, tmp_path):
        real_act, seen = grasping.act, []

        def act(obs):
            seen.append(obs.copy())
            grasping.opening_m = 0.01 * (len(seen) % 8)
            return real_act(obs)

        grasping.act = act
        log = RunLog(tmp_path / "run.mcap", {"servo_rate_hz": repr(bench.description.servo_rate_hz)}, {})
        ControlLoop(bench.robot, grasping, LoopConfig(duration_s=2.0), clock=bench.clock, recorder=log).run()
        log.close()
        recording = read_log(tmp_path / "run.mcap")
        np.testing.assert_array_equal(
            list(rebuilt_observations(recording, grasping.interface)), seen, strict=True
        )
        sent, measured = recording.command["gripper_m"], recording.state["gripper_m"]
        assert sent.shape == (len(recording.command), 1)
        assert np.ptp(sent) > 0.02
        assert np.abs(sent[:-1] - measured[1:]).max() < 1e-3

    def test_without_a_gripper_there_is_none(self, run, make_bench):
        log = MemoryLog()
        run(LoopConfig(duration_s=0.5), on=make_bench(gripper=False), recorder=log)
        recording = log.recording()
        assert recording.command["gripper_m"].shape == (len(recording.command), 0)
        assert recording.state["gripper_m"].shape == (len(recording.state), 0)

    def test_an_older_log_has_none(self):
        message = {"joint_pos_rad": [0.0], "joint_vel_rad_s": [0.0]}
        recording = as_recording(
            {"/command": [0.0]}, {"/command": [message]}, metadata={}, attachments={}, complete=True
        )
        assert recording.command["gripper_m"].shape == (1, 0)
