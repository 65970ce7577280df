"""The device's side of a servo bus: tables of registers that move a simulated arm."""

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from wpg.hardware_bridge.axes import GRIPPER
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulated_servo import EmulatedServo
from wpg.hardware_bridge.protocols.servo import (
    BITS_PER_BYTE,
    BROADCAST,
    Instruction,
    Packet,
    ServoProtocol,
    Status,
)
from wpg.hardware_bridge.robot import RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.servos.calibration import default_calibration
from wpg.hardware_bridge.servos.models import servo_bus

SILENCE_S = 0.02
"""An incomplete packet is dropped after this silence."""
BOOT_S = 0.25
"""A servo that restarts hears nothing for this long."""


class ServoDevice:
    """Servos on one bus. Answers leave no earlier than the wire and the servos' return delays allow.

    A servo whose torque is off stands still until torque is off everywhere; then the arm is released. A servo
    without a joint jumps to its goal, except the gripper's if the simulated arm moves a gripper.

    Args:
        arm: the arm that the servos move.
        protocol: protocol on the wire.
    """

    def __init__(self, arm: EmulatedArm, protocol: ServoProtocol) -> None:
        bus, self.model = servo_bus(arm.description, protocol.name)
        self.protocol = protocol.name
        self._arm = arm
        self._codec = protocol
        self._decoder = protocol.decoder()
        self._byte_s = BITS_PER_BYTE / bus.baudrate
        self._calibration = default_calibration(arm.description)
        names = (*arm.description.joint_names, *bus.others)
        self.servos = {
            servo: EmulatedServo(self.model, servo, index if index < arm.description.num_joints else None)
            for index, servo in enumerate((*bus.servos, *bus.others.values()))
        }
        self.names = dict(zip(names, self.servos, strict=True))
        """Servo of each joint."""
        self._free_s = self._heard_s = self._deaf_until_s = -math.inf
        self._commanded = False
        self._replies: deque[tuple[float, bytes]] = deque()
        self._instructions: dict[int, Callable[[Packet, float], None]] = {
            Instruction.PING: self._ping,
            Instruction.READ: self._read,
            Instruction.WRITE: self._write,
            Instruction.REG_WRITE: self._reg_write,
            Instruction.ACTION: self._action,
            Instruction.SYNC_READ: self._sync_read,
            Instruction.SYNC_WRITE: self._sync_write,
        }
        self._joints = [servo for servo in self.servos.values() if servo.joint is not None]
        self._gripper = None
        if self._calibration.gripper is not None and arm.state.gripper_m is not None:
            self._gripper = self.servos[self.names[GRIPPER]]
        self._loose = [
            servo for servo in self.servos.values() if servo.joint is None and servo is not self._gripper
        ]
        share_nm = arm.description.limits("torque_max_nm") / 1000
        self._effort_unit_nm = self.model.effort_unit_nm or share_nm
        self._state: RobotState | None = None
        self._measure()
        for servo in self.servos.values():
            servo.set(self.model.goal_position, servo.get(self.model.present_position))

    def brown_out(self, now_s: float) -> None:
        """Restart every servo, without torque."""
        self._deaf_until_s = now_s + BOOT_S
        self._replies.clear()
        for servo in self.servos.values():
            servo.restart()
        self._commanded = True
        self._follow(now_s)

    @property
    def next_reply_s(self) -> float:
        """When :meth:`due` will have something; infinite while nothing waits."""
        return self._replies[0][0] if self._replies else math.inf

    def due(self, now_s: float) -> bytes:
        """Answers that the wire has carried by now."""
        due = []
        while self._replies and self._replies[0][0] <= now_s:
            due.append(self._replies.popleft()[1])
        return b"".join(due)

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Take bytes from the master; :meth:`due` returns the answers."""
        if now_s - self._heard_s > SILENCE_S:
            self._decoder.reset()
        self._heard_s = now_s
        if now_s < self._deaf_until_s:
            return b""
        self._free_s = max(now_s, self._free_s) + len(data) * self._byte_s
        for packet in self._decoder.feed(data):
            self._before(now_s)
            if (handle := self._instructions.get(packet.code)) is not None:
                handle(packet, now_s)
        witness = self._arm.witness
        witness.frames_ok, witness.frames_bad = self._decoder.packets_ok, self._decoder.packets_bad
        return b""

    def _before(self, now_s: float) -> None:
        """Update the tables before an instruction."""
        self._measure()

    def _measure(self) -> None:
        """Write the arm's state into the tables, if it has changed."""
        for servo in self._loose:
            if servo.torque:
                servo.set(self.model.present_position, servo.get(self.model.goal_position))
        state, model = self._arm.state, self.model
        if state is self._state:
            return
        self._state = state
        counts = np.rint(self._calibration.to_counts(state.joint_pos)).astype(int).tolist()
        speed = np.rint(self._calibration.sign * state.joint_vel / model.velocity_unit_rad_s)
        effort = np.rint(self._calibration.sign * state.joint_torque / self._effort_unit_nm)
        for servo, *values in zip(
            self._joints, counts, speed.astype(int).tolist(), effort.astype(int).tolist(), strict=True
        ):
            servo.set(model.present_position, values[0])
            servo.set(model.present_velocity, values[1])
            servo.set(model.present_effort, values[2])
        gripper = self._calibration.gripper
        if self._gripper is not None and gripper is not None and state.gripper_m is not None:
            self._gripper.set(model.present_position, gripper.to_counts(state.gripper_m))

    def _addressed(self, packet: Packet) -> list[EmulatedServo]:
        chosen = self.servos if packet.servo == BROADCAST else (packet.servo,)
        return [servo for number in chosen if (servo := self._alive(number)) is not None]

    def _alive(self, number: int) -> EmulatedServo | None:
        servo = self.servos.get(number)
        return None if servo is None or servo.is_dead else servo

    def _reply(self, servo: EmulatedServo, data: bytes = b"", error: int = 0) -> None:
        status = Status(servo.identifier, error | servo.error, data)
        self._send(servo, self._codec.encode(self._codec.status(status)))

    def _send(self, servo: EmulatedServo, data: bytes, *, waits: bool = True) -> None:
        delay_s = servo.get(self.model.return_delay) * 2e-6 if waits else 0.0
        self._free_s += delay_s + len(data) * self._byte_s
        self._replies.append((self._free_s, data))

    def _ping(self, packet: Packet, now_s: float) -> None:
        for servo in self._addressed(packet):
            self._reply(servo, self._ping_data(servo))

    def _ping_data(self, servo: EmulatedServo) -> bytes:
        return b""

    def _registers(self, servo: EmulatedServo, address: int, size: int) -> bytes | None:
        """Contents of registers; None if they are outside the table."""
        if address + size > self.model.table_size:
            return None
        return bytes(servo.table[address : address + size])

    def _told(self, servo: EmulatedServo, address: int, size: int) -> bytes | None:
        """What a servo says of its registers; None if they are outside the table."""
        data = self._registers(servo, address, size)
        return None if data is None else servo.on_read(address, data)

    def _read(self, packet: Packet, now_s: float) -> None:
        address, size, _ = self._codec.split_read(packet.params)
        if packet.servo != BROADCAST:
            for servo in self._addressed(packet):
                self._answer_read(servo, address, size)

    def _answer_read(self, servo: EmulatedServo, address: int, size: int) -> None:
        data = self._told(servo, address, size)
        if data is None:
            self._reply(servo, error=self._refused_range())
        else:
            self._reply(servo, data)

    def _refused_range(self) -> int:
        """Error of an access outside the table."""
        return 0

    def _sync_read(self, packet: Packet, now_s: float) -> None:
        address, size, servos = self._codec.split_read(packet.params)
        for number in servos:
            servo = self._alive(number)
            if servo is not None:
                self._answer_read(servo, address, size)
            else:
                # The servos after it wait for as long as its answer would have taken.
                self._free_s += (self._codec.status_size + size) * self._byte_s

    def _write(self, packet: Packet, now_s: float) -> None:
        address, data = self._codec.split_write(packet.params)
        for servo in self._addressed(packet):
            error = self._write_to(servo, address, data)
            if packet.servo != BROADCAST:
                self._reply(servo, error=error)
        self._follow(now_s)

    def _reg_write(self, packet: Packet, now_s: float) -> None:
        for servo in self._addressed(packet):
            servo.pending = self._codec.split_write(packet.params)
            if packet.servo != BROADCAST:
                self._reply(servo)

    def _action(self, packet: Packet, now_s: float) -> None:
        for servo in self._addressed(packet):
            if servo.pending is not None:
                self._write_to(servo, *servo.pending)
                servo.pending = None
            if packet.servo != BROADCAST:
                self._reply(servo)
        self._follow(now_s)

    def _sync_write(self, packet: Packet, now_s: float) -> None:
        address, data = self._codec.split_sync_write(packet.params)
        for number, value in data.items():
            if (servo := self._alive(number)) is not None:
                self._write_to(servo, address, value)
        self._follow(now_s)

    def _write_to(self, servo: EmulatedServo, address: int, data: bytes) -> int:
        """Let a servo write registers. Returns the error to answer with."""
        refused = servo.on_write(address, data)
        return self._store(servo, address, data) if refused is None else refused

    def _store(self, servo: EmulatedServo, address: int, data: bytes) -> int:
        """Write registers, except read-only ones. Returns the error to answer with."""
        if address + len(data) > self.model.table_size:
            return self._refused_range()
        servo.write(address, data)
        self._commanded |= any(
            register.address < address + len(data) and address < register.address + register.size
            for register in (self.model.torque_enable, self.model.goal_position)
        )
        return 0

    def _follow(self, now_s: float) -> None:
        """Make the arm do what the tables say."""
        if not self._commanded:
            return
        self._commanded = False
        enabled = [servo for servo in self._joints if servo.torque]
        status = self._arm.status
        if not enabled:
            if status in (RobotStatus.ARMED, RobotStatus.HOLDING):
                self._arm.stop(StopMode.RELEASE)
            return
        if status is not RobotStatus.ARMED:
            self._arm.arm(now_s)
        self._arm.head_for(
            self._goals([servo.get(self.model.goal_position) for servo in self._joints]),
            now_s,
            target=self._goals([servo.target for servo in self._joints]),
            speed_rad_s=np.array([servo.speed_rad_s for servo in self._joints]),
            gripper_m=self._opening_goal_m(),
        )

    def _goals(self, counts: list[int]) -> Vector:
        """Angles of goals, (num_joints,) rad; for a servo without torque, the angle of its joint."""
        angles = self._calibration.to_rad(np.array(counts, dtype=np.float64))
        return np.where([servo.torque for servo in self._joints], angles, self._arm.state.joint_pos)

    def _opening_goal_m(self) -> float | None:
        """Target opening of the gripper; None if its servo has no torque or moves none."""
        gripper = self._calibration.gripper
        if self._gripper is None or gripper is None or not self._gripper.torque:
            return None
        return gripper.to_m(self._gripper.get(self.model.goal_position))


class FeetechDevice(ServoDevice):
    """Feetech servos, which have no watchdog: without commands they hold their last goals.

    A goal outside the position limits stays in its register; the servo heads for the nearer limit
    (huggingface/lerobot#3585). EEPROM registers that are written while the lock is 1 are lost with the supply
    (Feetech, memory table of the magnetic encoding STS servo).
    """

    def __init__(self, arm: EmulatedArm, protocol: ServoProtocol) -> None:
        super().__init__(arm, protocol)
        arm.watchdog_s = math.inf
