"""Emulated servos, as whoever is on the bus meets them."""

import json
from pathlib import Path

import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.protocols.dynamixel import DynamixelProtocol
from wpg.hardware_bridge.protocols.feetech import FeetechProtocol
from wpg.hardware_bridge.protocols.servo import BROADCAST, Instruction, Packet, Status
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.servos.models import DXL_HARDWARE_ERROR, DXL_WATCHDOG, STS3215, XM430_W350, Register

CAPTURES = json.loads(Path(__file__).with_name("sdk_captures.json").read_text())
CODECS = {"feetech": FeetechProtocol(), "dynamixel": DynamixelProtocol()}
BYTE_S = 10e-6
FOREVER_S = 1.0


class Master:
    """Sends packets to a bench's servos and collects what comes back."""

    def __init__(self, bench):
        self.bench = bench
        self.codec = CODECS[bench.description.protocol]
        self.model = bench.device.model

    def send(self, packet: Packet) -> list[Status]:
        bench = self.bench
        bench.link.send(self.codec.encode(packet))
        data = b""
        while bench.device.next_reply_s < np.inf:
            data += bench.link.receive(FOREVER_S)
        return [self.codec.open_status(found) for found in self.codec.decoder().feed(data)]

    def write(self, servo: int, register: Register, value: int) -> int:
        (status,) = self.send(self.codec.write(servo, register.address, register.encode(value)))
        return status.error

    def read(self, servo: int, register: Register) -> int:
        (status,) = self.send(self.codec.read(servo, register.address, register.size))
        assert status.error == 0
        return register.decode(status.data)


@pytest.fixture
def master(bench) -> Master:
    return Master(bench)


@pytest.fixture
def dynamixel(make_bench) -> Master:
    return Master(make_bench("dynamixel"))


@pytest.fixture
def feetech(make_bench) -> Master:
    return Master(make_bench("feetech"))


@pytest.mark.parametrize("sdk", CAPTURES)
def test_answers_an_sdk_byte_for_byte_as_recorded(sdk, make_bench):
    bench = make_bench(CAPTURES[sdk]["protocol"])
    passed = [(who, bytes.fromhex(part)) for who, part in CAPTURES[sdk]["passed"]]
    wanted, found = b"", b""
    for who, part in passed:
        if who == "reply":
            wanted += part
            continue
        while bench.device.next_reply_s < np.inf:
            found += bench.link.receive(FOREVER_S)
        assert found == wanted
        bench.link.send(part)
    assert len(wanted) > 150


class TestAccess:
    def test_ping(self, master):
        data = {"feetech": b"", "dynamixel": b"\xfc\x03\x2e"}[master.codec.name]
        ping = [Packet(servo, Instruction.PING, b"") for servo in (1, 6, 7, BROADCAST)]
        assert master.send(ping[0]) == [Status(1, 0, data)]
        assert master.send(ping[2]) == []
        assert [status.servo for status in master.send(ping[3])] == [1, 2, 3, 4, 5, 6]

    def test_measurements_are_the_arms(self, master, bench):
        bench.stand_at(np.array([0.5, -0.5, 0.25, 0.0, 1.0, -1.0]))
        for servo, angle in enumerate((0.5, -0.5, 0.25, 0.0, 1.0, -1.0), 1):
            counts = master.read(servo, master.model.present_position)
            assert counts == round(2048 + angle * 2048 / np.pi)

    def test_read_only_keeps_its_value(self, master):
        error = master.write(1, master.model.present_position, 99)
        assert error == {"feetech": 0, "dynamixel": 7}[master.codec.name]
        assert master.read(1, master.model.present_position) == 2048

    def test_reg_write_waits_for_action(self, master):
        led = {"feetech": Register(41, 1), "dynamixel": Register(65, 1)}[master.codec.name]
        packet = master.codec.write(1, led.address, b"\1", Instruction.REG_WRITE)
        assert master.send(packet) == [Status(1, 0, b"")]
        assert master.read(1, led) == 0
        assert master.send(Packet(BROADCAST, Instruction.ACTION, b"")) == []
        assert master.read(1, led) == 1

    def test_outside_the_table(self, master):
        (status,) = master.send(master.codec.read(1, 200 if master.codec.name == "feetech" else 5000, 4))
        assert status.data == b""
        assert status.error == {"feetech": 0, "dynamixel": 7}[master.codec.name]

    def test_unknown_instruction_and_damage_are_not_answered(self, master, bench):
        assert master.send(Packet(1, 0x77, b"")) == []
        damaged = bytearray(master.codec.encode(Packet(1, Instruction.PING, b"")))
        damaged[-1] ^= 0x10
        bench.link.send(bytes(damaged))
        assert bench.device.next_reply_s == np.inf
        bench.clock.advance(0.1)
        assert len(master.send(Packet(1, Instruction.PING, b""))) == 1

    def test_half_a_packet_is_forgotten(self, master, bench):
        whole = master.codec.encode(master.codec.write(1, master.model.torque_enable.address, b"\1"))
        bench.link.send(whole[:-2])
        bench.clock.advance(0.1)
        assert len(master.send(Packet(1, Instruction.PING, b""))) == 1


class TestTiming:
    def test_answers_leave_when_the_wire_has_carried_them(self, master, bench):
        packet = master.codec.sync_read((1, 2, 3), master.model.present_position.address, 4)
        sent_s, request = bench.clock.now(), len(master.codec.encode(packet))
        bench.link.send(master.codec.encode(packet))
        answer = master.codec.status_size + 4
        for index in range(1, 4):
            due_s = sent_s + (request + index * answer) * BYTE_S
            assert bench.device.next_reply_s == pytest.approx(due_s, abs=1e-9)
            assert bench.device.due(due_s - 1e-6) == b""
            assert len(bench.device.due(due_s + 1e-9)) == answer
        assert bench.device.next_reply_s == np.inf

    def test_return_delay(self, master, bench):
        assert master.write(2, master.model.return_delay, 250) == 0
        sent_s = bench.clock.now()
        ping = master.codec.encode(Packet(2, Instruction.PING, b""))
        bench.link.send(ping)
        size = len(ping) + master.codec.status_size + master.codec.ping_size
        assert bench.device.next_reply_s == pytest.approx(sent_s + size * BYTE_S + 500e-6, abs=1e-9)

    def test_a_dead_servo_leaves_a_gap(self, master, bench):
        bench.device.servos[2].is_dead = True
        packet = master.codec.sync_read((1, 2, 3), master.model.present_position.address, 4)
        begin_s = bench.clock.now()
        assert [status.servo for status in master.send(packet)] == [1, 3]
        size = len(master.codec.encode(packet)) + 3 * (master.codec.status_size + 4)
        assert bench.clock.now() == pytest.approx(begin_s + size * BYTE_S, abs=1e-9)


class TestMotion:
    def test_a_goal_without_torque_moves_nothing(self, master, bench):
        master.write(1, master.model.goal_position, 2148)
        bench.clock.advance(0.2)
        assert master.read(1, master.model.present_position) == 2048
        assert bench.arm.status is RobotStatus.IDLE

    def test_goes_there_no_faster_than_it_can(self, master, bench):
        master.write(1, master.model.torque_enable, 1)
        master.write(1, master.model.goal_position, 3048)
        bench.clock.advance(0.01)
        speed = bench.description.joints[0].velocity_max_rad_s
        assert 0 < master.read(1, master.model.present_position) - 2048 < 1.5 * speed * 0.05 * 2048 / np.pi
        for _ in range(100):
            bench.clock.advance(0.01)
            bench.link.receive(0.0)
        assert master.read(1, master.model.present_position) == 3048
        # A witness tells that such a jump was asked for.
        assert bench.witness.commands_outside_limits_by["velocity"] >= 1
        assert max(bench.witness.joint_vel_max) <= 1.01 * speed

    def test_only_the_servo_with_torque_moves(self, master, bench):
        master.write(1, master.model.torque_enable, 1)
        master.send(
            master.codec.sync_write(
                master.model.goal_position.address,
                {servo: master.model.goal_position.encode(2100) for servo in (1, 2)},
            )
        )
        for _ in range(50):
            bench.clock.advance(0.01)
            bench.link.receive(0.0)
        assert master.read(1, master.model.present_position) == 2100
        assert master.read(2, master.model.present_position) == 2048

    def test_the_arm_is_released_with_the_last_servo(self, master, bench):
        for servo in (1, 2):
            master.write(servo, master.model.torque_enable, 1)
        master.write(1, master.model.torque_enable, 0)
        assert bench.arm.status is RobotStatus.ARMED
        master.write(2, master.model.torque_enable, 0)
        assert bench.arm.status is RobotStatus.RELEASED


class TestFeetech:
    def test_state_is_in_every_answer(self, feetech):
        feetech.bench.device.servos[3].error = 0x20
        (status,) = feetech.send(Packet(3, Instruction.PING, b""))
        assert status.error == 0x20

    def test_without_commands_it_stands_at_its_goal(self, feetech):
        feetech.write(1, STS3215.torque_enable, 1)
        feetech.write(1, STS3215.goal_position, 2060)
        for _ in range(300):
            feetech.bench.clock.advance(0.01)
            feetech.bench.link.receive(0.0)
        assert feetech.bench.arm.status is RobotStatus.ARMED
        assert feetech.read(1, STS3215.present_position) == 2060
        assert feetech.bench.witness.holds == 0


class TestDynamixel:
    def test_watchdog_holds_and_refuses_goals_until_cleared(self, dynamixel):
        bench = dynamixel.bench
        dynamixel.write(1, XM430_W350.torque_enable, 1)
        dynamixel.write(1, DXL_WATCHDOG, 5)
        for _ in range(11):
            bench.clock.advance(0.01)
            bench.link.receive(0.0)
        assert bench.arm.status is RobotStatus.HOLDING
        assert 100.0 <= bench.witness.hold_delay_ms_max <= 112.0
        assert dynamixel.read(1, DXL_WATCHDOG) == -1
        assert dynamixel.write(1, XM430_W350.goal_position, 2050) == 4
        assert dynamixel.write(1, DXL_WATCHDOG, 0) == 0
        assert dynamixel.write(1, XM430_W350.goal_position, 2050) == 0
        assert bench.arm.status is RobotStatus.ARMED

    def test_any_instruction_keeps_the_watchdog_quiet(self, dynamixel):
        dynamixel.write(1, XM430_W350.torque_enable, 1)
        dynamixel.write(1, DXL_WATCHDOG, 5)
        for _ in range(50):
            dynamixel.bench.clock.advance(0.05)
            dynamixel.send(Packet(2, Instruction.PING, b""))
        assert dynamixel.bench.arm.status is RobotStatus.ARMED

    def test_enabling_torque_sets_the_goal_to_where_it_stands(self, dynamixel):
        dynamixel.write(1, XM430_W350.goal_position, 3000)
        dynamixel.write(1, XM430_W350.torque_enable, 1)
        assert dynamixel.read(1, XM430_W350.goal_position) == 2048

    def test_refusals(self, dynamixel):
        assert dynamixel.write(1, XM430_W350.goal_position, 5000) == 4
        assert dynamixel.write(1, XM430_W350.operating_mode, 4) == 0
        assert dynamixel.write(1, XM430_W350.goal_position, 5000) == 0
        dynamixel.write(1, XM430_W350.torque_enable, 1)
        assert dynamixel.write(1, XM430_W350.operating_mode, 3) == 7

    def test_alert_comes_with_every_answer_until_reboot(self, dynamixel):
        dynamixel.bench.device.servos[2].set(DXL_HARDWARE_ERROR, 0x20)
        (status,) = dynamixel.send(Packet(2, Instruction.PING, b""))
        assert status.error == 0x80
        dynamixel.send(Packet(2, Instruction.REBOOT, b""))
        (status,) = dynamixel.send(Packet(2, Instruction.PING, b""))
        assert status.error == 0

    def test_indirect_addresses_read_and_write_through(self, dynamixel):
        dynamixel.write(1, Register(168, 2), 65)
        assert dynamixel.write(1, Register(224, 1), 1) == 0
        assert dynamixel.read(1, Register(65, 1)) == 1
        assert dynamixel.read(1, Register(224, 1)) == 1

    def test_fast_sync_read_ends_at_a_missing_servo(self, dynamixel):
        bench, codec = dynamixel.bench, dynamixel.codec
        packet = codec.sync_read((1, 2, 3), 132, 4, Instruction.FAST_SYNC_READ)
        bench.device.servos[2].is_dead = True
        bench.link.send(codec.encode(packet))
        decoder = codec.decoder()
        decoder.expect(4)
        assert [found.servo for found in decoder.feed(bench.link.receive(FOREVER_S))] == [1]
        assert bench.link.receive(FOREVER_S) == b""

    def test_fast_sync_read_comes_as_the_wire_carries_it(self, dynamixel):
        bench, codec = dynamixel.bench, dynamixel.codec
        request = codec.encode(codec.sync_read((1, 2, 3), 132, 4, Instruction.FAST_SYNC_READ))
        sent_s = bench.clock.now()
        bench.link.send(request)
        carried = len(request)
        for size in (8 + 8, 8, 8):
            assert len(bench.link.receive(FOREVER_S)) == size
            carried += size
            assert bench.clock.now() - sent_s == pytest.approx(carried * BYTE_S)

    def test_bulk(self, dynamixel):
        answers = dynamixel.send(
            Packet(BROADCAST, Instruction.BULK_READ, b"\x01\x84\x00\x04\x00" + b"\x02\x40\x00\x01\x00")
        )
        assert [(status.servo, len(status.data)) for status in answers] == [(1, 4), (2, 1)]
        led, goal = b"\x01\x41\x00\x01\x00\x01", b"\x02\x74\x00\x04\x00\x01\x08\x00\x00"
        dynamixel.send(Packet(BROADCAST, Instruction.BULK_WRITE, led + goal))
        assert dynamixel.read(1, Register(65, 1)) == 1
        assert dynamixel.read(2, XM430_W350.goal_position) == 2049


@pytest.mark.parametrize(
    ("robot", "protocol", "reason"),
    [
        ("panda", "feetech", r"robot panda: protocol feetech needs a \[bus\] table"),
        ("so101", "dynamixel", "robot so101: its sts3215 servos speak feetech, not dynamixel"),
    ],
)
def test_an_arm_without_such_servos(robot, protocol, reason):
    with pytest.raises(DescriptionError, match=reason):
        make_device(protocol, EmulatedArm(KinematicRobot(load_description(robot)), 0.0))
