"""What servos let pass by themselves, and how the drivers tell them."""

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import ProtocolError
from wpg.hardware_bridge.protocols.dynamixel import DynamixelProtocol
from wpg.hardware_bridge.protocols.feetech import FeetechDecoder, FeetechProtocol
from wpg.hardware_bridge.protocols.servo import Instruction
from wpg.hardware_bridge.robot import NoticingRobot, RobotStatus, StopMode, notices_of
from wpg.hardware_bridge.servos.calibration import Span
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT, STS3215, XM430_W350

CODECS = {"feetech": FeetechProtocol(), "dynamixel": DynamixelProtocol()}


@pytest.fixture
def feetech(make_bench):
    return make_bench("feetech")


@pytest.fixture
def dynamixel(make_bench):
    return make_bench("dynamixel")


def spans(bench) -> dict[str, Span]:
    """What each joint's servo lets pass."""
    servos = {name: bench.servo(name) for name in bench.description.joint_names}
    return {
        name: Span(servo.get(servo.model.min_position), servo.get(servo.model.max_position))
        for name, servo in servos.items()
    }


def joint_spans(bench) -> dict[str, Span]:
    """The joints' limits in whole counts, about the middle of the turn."""
    low, high = (bench.description.limits(f"position_{end}_rad") / RAD_PER_COUNT for end in ("min", "max"))
    ends = zip(np.ceil(low) + 2048, np.floor(high) + 2048, strict=True)
    return dict(zip(bench.description.joint_names, (Span(int(a), int(b)) for a, b in ends), strict=True))


def send_goal(bench, joint: str, counts: int) -> None:
    """A goal that the driver has not sent."""
    codec, model = CODECS[bench.description.protocol], bench.device.model
    goal = {bench.device.names[joint]: model.goal_position.encode(counts)}
    bench.link.send(codec.encode(codec.sync_write(model.goal_position.address, goal)))


def live(bench, duration_s: float = 1.0) -> np.ndarray:
    """Let the arm follow its goals while it is read; where it stands then."""
    for _ in range(round(duration_s / 0.01)):
        bench.clock.advance(0.01)
        state = bench.robot.read()
    return state.joint_pos


class TestFeetech:
    def test_servos_know_their_joints_limits_while_they_are_driven(self, feetech):
        before = spans(feetech)
        feetech.robot.connect()
        assert spans(feetech) == before
        feetech.robot.arm()
        assert spans(feetech) == joint_spans(feetech)
        assert {servo.get(STS3215.eeprom_lock) for servo in feetech.device.servos.values()} == {1}
        feetech.robot.close()
        assert spans(feetech) == before
        assert feetech.robot.notices == ()

    def test_nothing_is_kept_without_the_supply(self, feetech):
        for servo in feetech.device.servos.values():
            # As LeRobot leaves them.
            servo.set(STS3215.eeprom_lock, 0)
        before = spans(feetech)
        feetech.connected()
        feetech.device.brown_out(feetech.clock.now())
        assert spans(feetech) == before
        feetech.clock.advance(0.5)
        feetech.robot.arm()
        assert spans(feetech) == joint_spans(feetech)

    def test_a_goal_beyond_ends_at_the_limit(self, feetech):
        feetech.connected()
        send_goal(feetech, "elbow_flex", 4095)
        live(feetech)
        limit_rad = feetech.description.joints[2].position_max_rad
        assert limit_rad - RAD_PER_COUNT < feetech.arm.state.joint_pos[2] <= limit_rad
        assert max(feetech.witness.joint_vel_max) <= feetech.description.joints[2].velocity_max_rad_s + 1e-9
        # That it was asked for is not forgotten.
        assert feetech.witness.commands_outside_limits_by["position"] >= 1

    def test_a_packet_that_lost_its_end_and_still_adds_up(self, feetech):
        """What stands behind a cut packet completes it; the sum of eight bits happens to fit."""
        feetech.connected()
        codec, register = CODECS["feetech"], STS3215.goal_position
        question = codec.encode(codec.sync_read(tuple(feetech.device.servos), 56, 6))
        for counts in range(2048, 2048 + 256):
            goals = {servo: register.encode(2048) for servo in feetech.device.servos}
            goals[1] = register.encode(counts)
            joined = codec.encode(codec.sync_write(register.address, goals))[:-2] + question
            packets = FeetechDecoder().feed(joined)
            if packets and packets[0].code == Instruction.SYNC_WRITE:
                break
        _, taken = codec.split_sync_write(packets[0].params)
        assert register.decode(taken[6]) < joint_spans(feetech)["gripper"].low
        feetech.link.send(joined)
        live(feetech)
        limit_rad = feetech.description.joints[5].position_min_rad
        assert limit_rad <= feetech.arm.state.joint_pos[5] < limit_rad + RAD_PER_COUNT

    def test_a_servo_that_counts_turns_is_told_its_limits_too(self, feetech):
        servo = feetech.servo("wrist_roll")
        servo.set(STS3215.max_position, 0)
        feetech.connected()
        assert spans(feetech) == joint_spans(feetech)
        feetech.robot.close()
        assert spans(feetech)["wrist_roll"] == (0, 0)

    def test_one_that_does_not_take_them_is_named(self, feetech):
        feetech.servo("wrist_flex").on_write = lambda address, data: (
            0 if address < STS3215.eeprom_end else None
        )
        feetech.connected()
        assert feetech.robot.notices == (
            "servo 4 (wrist_flex): register 9 does not take 968",
            "servo 4 (wrist_flex): register 11 does not take 3128",
        )

    def test_the_gripper_keeps_what_it_has(self, make_so101):
        bench = make_so101()
        bench.connected()
        gripper = bench.servo("gripper")
        assert (gripper.get(STS3215.min_position), gripper.get(STS3215.max_position)) == (0, 4095)
        assert gripper.get(STS3215.goal_speed) == 0


class TestDynamixel:
    def test_nothing_is_written_unasked(self, dynamixel):
        before = spans(dynamixel)
        dynamixel.connected()
        assert spans(dynamixel) == before
        assert len(dynamixel.robot.notices) == 6
        assert dynamixel.robot.notices[2] == (
            "servo 3 (elbow_flex): takes goals from 0 to 4095, its joint's limits are 947 to 3149: "
            "`wpg check … --set-limits` writes them into a servo without torque; "
            "`wpg check … --stop release` leaves a supported arm so"
        )
        assert notices_of(dynamixel.robot) == dynamixel.robot.notices

    def test_written_for_good_when_asked(self, dynamixel):
        dynamixel.robot.connect()
        changed = dynamixel.robot.keep_limits()
        assert changed[2] == "servo 3 (elbow_flex): took goals from 0 to 4095, now 947 to 3149"
        assert len(changed) == 6
        dynamixel.robot.close()
        dynamixel.device.brown_out(dynamixel.clock.now())
        dynamixel.clock.advance(0.5)
        assert spans(dynamixel) == joint_spans(dynamixel)
        dynamixel.connected()
        assert dynamixel.robot.notices == ()
        assert dynamixel.robot.keep_limits() == []
        send_goal(dynamixel, "elbow_flex", 3150)
        assert live(dynamixel, 0.5)[2] == 0.0

    def test_not_while_the_arm_is_held(self, dynamixel):
        dynamixel.connected()
        with pytest.raises(ProtocolError, match=r"servo 1 \(shoulder_pan\): .* without torque only"):
            dynamixel.robot.keep_limits()
        dynamixel.robot.stop(StopMode.RELEASE)
        assert len(dynamixel.robot.keep_limits()) == 6

    def test_a_mode_without_limits(self, dynamixel):
        dynamixel.servo("elbow_flex").set(XM430_W350.operating_mode, 4)
        dynamixel.connected()
        assert "servo 3 (elbow_flex): heeds no position limits in operating mode 4" in dynamixel.robot.notices
        assert dynamixel.robot.write(dynamixel.at(np.full(6, 9.0))).joint_pos[2] < 1.69

    @pytest.mark.parametrize(
        ("register", "value", "reason"),
        [
            (XM430_W350.speed_limit, 100, "its velocity limit is 100, below its joint's"),
            (XM430_W350.drive_mode, 4, "its profile goes by time, drive mode 4"),
        ],
    )
    def test_without_a_speed_limit_it_is_no_slower(self, dynamixel, register, value, reason):
        dynamixel.servo("elbow_flex").set(register, value)
        dynamixel.connected()
        assert f"servo 3 (elbow_flex): has no speed limit of its own: {reason}" in dynamixel.robot.notices
        assert dynamixel.servo("elbow_flex").get(XM430_W350.goal_speed) == 0
        assert dynamixel.servo("wrist_flex").get(XM430_W350.goal_speed) > 0


class TestBoth:
    def test_speed_limits_are_the_joints_and_a_little_more(self, bench):
        bench.connected()
        for joint in bench.description.joints:
            speed = bench.servo(joint.name).speed_rad_s
            assert joint.velocity_max_rad_s < speed < 1.11 * joint.velocity_max_rad_s

    def test_setpoints_are_followed_no_slower(self, make_bench, protocol):
        told, free = make_bench(protocol), make_bench(protocol)
        for bench in (told, free):
            bench.connected()
        for servo in free.device.servos.values():
            servo.set(servo.model.goal_speed, 0)
        step = told.description.limits("velocity_max_rad_s") * told.description.servo_dt_s
        for tick in range(25):
            for bench in (told, free):
                bench.robot.write(bench.at((tick + 1) * step))
                bench.clock.advance(0.01)
            np.testing.assert_array_equal(told.robot.read().joint_pos, free.robot.read().joint_pos)

    def test_a_slower_joint_has_a_slower_servo(self, bench):
        joints = tuple(msgspec.structs.replace(it, velocity_max_rad_s=0.5) for it in bench.description.joints)
        slow = type(bench)(msgspec.structs.replace(bench.description, joints=joints))
        slow.connected()
        send_goal(slow, "elbow_flex", 3000)
        live(slow, 0.2)
        assert 0.05 < slow.arm.state.joint_pos[2] < 0.11

    def test_narrower_servos_bound_the_setpoints(self, bench):
        servo = bench.servo("elbow_flex")
        servo.set(servo.model.max_position, 2100)
        bench.connected()
        assert bench.robot.notices[-1 if bench.description.protocol == "feetech" else 2] == (
            "servo 3 (elbow_flex): takes goals from 0 to 2100 only, its joint's limits are 947 to 3149: "
            "setpoints stop there"
        )
        sent = bench.robot.write(bench.at(np.full(6, 0.5)))
        assert sent.joint_pos[2] == pytest.approx(52 * RAD_PER_COUNT)
        assert sent.joint_pos[1] == pytest.approx(0.5)

    def test_are_the_descriptions_while_connected(self, bench):
        described = bench.robot.description
        servo = bench.servo("elbow_flex")
        servo.set(servo.model.max_position, 2100)
        bench.robot.connect()
        found = bench.robot.description.limits("position_max_rad")
        assert found[2] == pytest.approx(52 * RAD_PER_COUNT)
        np.testing.assert_array_equal(np.delete(found, 2), np.delete(described.limits("position_max_rad"), 2))
        servo.set(servo.model.max_position, 4095)
        bench.robot.connect()
        assert bench.robot.description == described

    def test_an_arm_that_cannot_get_home_is_not_armed(self, bench):
        servo = bench.servo("elbow_flex")
        servo.set(servo.model.max_position, 2046)
        bench.robot.connect()
        with pytest.raises(ProtocolError, match=r"elbow_flex: home_rad 0 lies outside -1.\d+ to -0.0031 rad"):
            bench.robot.arm()
        assert not any(servo.torque for servo in bench.device.servos.values())
        servo.set(servo.model.max_position, 2047)
        bench.connected()

    def test_nothing_in_common(self, bench):
        servo = bench.servo("elbow_flex")
        servo.set(servo.model.min_position, 4000)
        with pytest.raises(ProtocolError, match=r"elbow_flex\): takes goals from 4000 to 4095, no two of"):
            bench.robot.connect()

    def test_an_arm_that_stands_outside_is_not_armed(self, bench):
        bench.stand_at(np.array([0, 0, 1.9, 0, 0, 0.0]))
        bench.robot.connect()
        with pytest.raises(ProtocolError, match=r"\(elbow_flex\): is at 3287, outside its limits"):
            bench.robot.arm()
        assert not any(servo.torque for servo in bench.device.servos.values())

    def test_one_that_stands_a_little_outside_is_held_at_its_limit(self, bench):
        bench.stand_at(np.array([0, 0, 1.72, 0, 0, 0.0]))
        bench.connected()
        assert live(bench, 0.2)[2] == pytest.approx(1.69, abs=RAD_PER_COUNT)
        assert bench.robot.read().status is RobotStatus.ARMED


def test_limits_that_a_killed_driver_has_left_are_no_other_calibration(make_so101):
    from wpg.hardware_bridge.servos.calibration import MotorCalibration, calibration_of

    so101 = load_description("so101")
    servos = dict(zip(so101.joint_names, so101.bus.servos, strict=True)) | so101.bus.others
    motors = {
        name: MotorCalibration(id=servo, drive_mode=0, homing_offset=0, range_min=500, range_max=3500)
        for name, servo in servos.items()
    }
    bench = make_so101(calibration=calibration_of(motors, so101, "test"))
    for name in servos:
        servo = bench.servo(name)
        servo.set(STS3215.min_position, 500)
        servo.set(STS3215.max_position, 3500)
    bench.connected()
    told = spans(bench)
    assert told != dict.fromkeys(so101.joint_names, (500, 3500))
    bench.robot._limits = None  # killed: nothing is put back
    bench.connected()
    assert spans(bench) == told


def test_not_every_robot_notices_anything(make_so101):
    bench = make_so101()
    assert isinstance(bench.robot, NoticingRobot)
    assert notices_of(bench.simulated) == ()
