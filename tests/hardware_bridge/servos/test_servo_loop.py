"""The control loop on emulated servos, and what stands around it."""

import threading

import msgspec
import numpy as np
import pytest

from wpg.export.interface import ObservationTerm
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import Emulator, make_device
from wpg.hardware_bridge.emulation.faults import FaultyDevice, parse_faults
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import (
    BridgeError,
    LinkError,
    LinkUrlError,
    StaleStateError,
)
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.robot import JointCommand, StopMode
from wpg.hardware_bridge.servos.calibration import MotorCalibration, calibration_of
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.servos.robot import ServoRobotConfig
from wpg.hardware_bridge.session import open_robot

OBSERVATION = (ObservationTerm(name="joint_pos", size=5, source="joint_pos"),)
HALF_COUNT_RAD = RAD_PER_COUNT / 2 + 1e-9


class TestLoop:
    @pytest.fixture
    def reach(self, make_reach_policy):
        def run(bench, **options):
            policy = make_reach_policy(bench.description)
            return ControlLoop(bench.robot, policy, LoopConfig(goals=2, **options), clock=bench.clock).run()

        return run

    def test_reaches_goals_and_the_witness_agrees(self, shipped, reach):
        report = reach(shipped)
        assert (report.end_reason, report.final_phase) == ("goals_done", "parked")
        assert report.successes == 2
        assert report.limit_violations == 0
        assert shipped.witness.commands_outside_limits_by == {}
        assert shipped.witness.commands_ok > 100
        assert shipped.witness.frames_bad == 0

    def test_a_dead_servo_ends_the_run_by_name(self, shipped, reach):
        shipped.robot.connect()
        name = shipped.description.joint_names[2]
        count = 0
        read = shipped.robot.read

        def dying():
            nonlocal count
            count += 1
            shipped.servo(name).is_dead = count > 100
            return read()

        shipped.robot.read = dying
        report = reach(shipped)
        assert (report.end_reason, report.final_phase) == ("stale_state", "fault")
        assert report.limit_violations == 0

    def test_servos_that_were_released_where_arming_failed_stay_so(self, shipped, reach, monkeypatch):
        def silent():
            raise StaleStateError("no answer from servo 4")

        monkeypatch.setattr(shipped.robot, "_after_torque", silent)
        report = reach(shipped)
        assert (report.end_reason, report.message) == ("arming_failed", "no answer from servo 4")
        servos = shipped.device.servos.values()
        assert not any(servo.get(servo.model.torque_enable) for servo in servos)

    def test_one_flaky_servo_does_not_stop_it(self, shipped, reach):
        name = shipped.description.joint_names[1]
        rng = np.random.default_rng(0)
        read = shipped.robot.read

        def flaky():
            shipped.servo(name).is_dead = rng.random() < 0.2
            try:
                return read()
            finally:
                shipped.servo(name).is_dead = False

        shipped.robot.read = flaky
        report = reach(shipped)
        assert (report.end_reason, report.successes) == ("goals_done", 2)
        assert shipped.robot.misses[name] > 20

    @pytest.mark.parametrize("calibrated", [True, False])
    def test_brakes_before_the_ends_of_its_servos_range(self, make_so101, policy_class, trace, calibrated):
        so101, half = load_description("so101"), 650
        servos = dict(zip(so101.joint_names, so101.bus.servos, strict=True)) | so101.bus.others
        motors = {
            name: MotorCalibration(
                id=servo, drive_mode=0, homing_offset=0, range_min=2048 - half, range_max=2048 + half
            )
            for name, servo in servos.items()
        }
        bench = make_so101(calibration=calibration_of(motors, so101, "test") if calibrated else None)
        for name in servos:
            servo = bench.servo(name)
            servo.set(servo.model.min_position, 2048 - half)
            servo.set(servo.model.max_position, 2048 + half)
        policy = policy_class(so101)
        policy.interface = msgspec.structs.replace(policy.interface, goal=None, observation=OBSERVATION)
        # The pan leaves the range at full speed.
        policy.act = lambda obs: Decision(np.array([1.0, 0, 0, 0, 0], np.float32), 0.0)
        config = LoopConfig(duration_s=4.0)
        report = ControlLoop(bench.robot, policy, config, clock=bench.clock, recorder=trace).run()
        assert (report.limit_violations, bench.witness.commands_outside_limits) == (0, 0)
        pan = trace.commands()[:, 0]
        assert pan.max() == pytest.approx(half * RAD_PER_COUNT)
        acceleration = np.abs(np.diff(pan, 2)).max() / so101.servo_dt_s**2
        assert acceleration <= so101.joints[0].acceleration_max_rad_s2 * 1.001

    def test_joint_check(self, shipped):
        found = check_joints(shipped.robot, clock=shipped.clock)
        assert [check.joint for check in found] == list(shipped.description.joint_names)
        assert all(check.ok for check in found), found


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_over_a_real_pty(robot):
    description = load_description(robot)
    emulator = Emulator(KinematicRobot(description), "pty:", protocol=description.protocol)
    assert emulator.hello()["protocol"] == description.protocol
    stop = threading.Event()
    thread = threading.Thread(target=emulator.serve, args=(stop.is_set,))
    thread.start()
    try:
        driver = type(open_robot(description, emulator.url))
        arm = driver(description, emulator.url, ServoRobotConfig(margin_s=2.0))
        arm.connect()
        arm.arm()
        home = description.limits("home_rad")
        sent = arm.write(JointCommand(joint_pos=home, joint_vel=0 * home))
        np.testing.assert_allclose(sent.joint_pos, home, atol=1e-9)
        np.testing.assert_allclose(arm.read().joint_pos, home, atol=2 * RAD_PER_COUNT)
        arm.stop(StopMode.RELEASE)
        arm.close()
    finally:
        stop.set()
        thread.join()
        emulator.close()
    assert emulator.witness.arms >= 1
    assert emulator.witness.frames_bad == 0


def test_is_not_served_to_other_machines_since_nothing_is_authenticated():
    description = load_description("so101")
    with pytest.raises(LinkError, match="protocol feetech knows no key: only this machine"):
        Emulator(KinematicRobot(description), "udp://0.0.0.0:0", protocol="feetech", key=b"secret")


def test_is_served_at_the_described_baudrate_alone():
    description = load_description("so101")
    with pytest.raises(LinkUrlError, match="baudrate = 1000000, the link 57600"):
        Emulator(KinematicRobot(description), "serial:///dev/nonesuch?baudrate=57600", protocol="feetech")


class TestDeadServoFault:
    def device(self, spec: str, robot: str = "so101") -> FaultyDevice:
        description = load_description(robot)
        arm = EmulatedArm(KinematicRobot(description), 0.0)
        return FaultyDevice(make_device(description.protocol, arm), parse_faults(spec), 0.0)

    def test_dies_at_its_time(self):
        device = self.device("dead_servo=3,dead_after_s=5")
        assert not any(servo.is_dead for servo in device.servos.values())
        device.due(5.0)
        assert [number for number, servo in device.servos.items() if servo.is_dead] == [3]

    def test_no_such_servo(self):
        with pytest.raises(BridgeError, match="dead_servo: expected one of 1, 2, 3, 4, 5, 6, found 9"):
            self.device("dead_servo=9,dead_after_s=5")

    def test_arms_without_a_bus_have_none(self):
        with pytest.raises(BridgeError, match="dead_servo: this arm has no servos on a bus, found 3"):
            self.device("dead_servo=3", "panda")
