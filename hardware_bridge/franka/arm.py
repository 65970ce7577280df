"""The arm that the gateway commands: a Franka that follows setpoints, and holds when none come."""

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import ProtocolError
from wpg.hardware_bridge.franka.connection import FciConnection, FciReflexError
from wpg.hardware_bridge.franka.limits import flange_position
from wpg.hardware_bridge.franka.sample import FciSample
from wpg.hardware_bridge.franka.stream import CommandStream
from wpg.hardware_bridge.franka.streaming import TICK_S
from wpg.hardware_bridge.native.command_gate import CommandGate
from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.witness import Witness

FLANGE_TOLERANCE_M = 0.002
CATCH_UP_MAX = 20
"""The robot stops by itself after this many missing commands."""
_AT_FAULT = {
    "Reflex": "it is in a reflex; free it, then give the link ?recover=yes",
    "UserStopped": "its user stop is pressed",
    "Guiding": "somebody guides it by hand",
    "Other": "it is in no mode that can be commanded; is FCI active in Desk?",
}


class FciArm:
    """One robot, whose states are read and answered every millisecond.

    Setpoints are followed while the arm is armed. If they stop for ``watchdog_s``, or a stop is ordered, the
    arm comes to rest within its limits, and the robot holds it by itself. The robot also stops if commands
    reach it too late; the arm recovers from that reflex at once. Any other reflex stays until a person has
    looked at the arm.

    Args:
        connection: connection to the robot.
        description: the expected robot, with limits that the interface accepts.

    Raises:
        ProtocolError: the robot's flange is not where the description has it.
        LinkError: the robot is gone.
    """

    def __init__(self, connection: FciConnection, description: RobotDescription, now_s: float) -> None:
        self._connection = connection
        self._description = description
        self._stream = CommandStream(description)
        self.witness = Witness(robot=description.name)
        self._gate = CommandGate(description, self.witness)
        self._status = RobotStatus.IDLE
        self._last_command_s = now_s
        self.cycles = 0
        """Number of states that the robot has sent."""
        self.fault = ""
        """Why the robot cannot be commanded; empty if it can."""
        self.reflexes: list[str] = []
        """Reasons for which the robot has stopped by itself."""
        self.success_rate_min = 1.0
        """Lowest success rate of commands that the robot reported after its first hundred commands."""
        self._moving_cycles = 0
        self._latched = False
        self._refusal = ""
        self._answered_s = 0.0
        self._observe(connection.read())
        self._check_flange()

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, rates."""
        return self._description

    @property
    def status(self) -> RobotStatus:
        """Status of the arm."""
        return RobotStatus.FAULT if self.fault else self._status

    @property
    def state(self) -> RobotState:
        """Last measurement."""
        sample = self._sample
        return RobotState(
            joint_pos=sample.joint_pos,
            joint_vel=sample.joint_vel,
            joint_torque=sample.joint_torque,
            time_s=sample.time_s,
            sequence=self.cycles,
            status=self.status,
        )

    @property
    def tick(self) -> int:
        """Number of the servo period of the last command that was followed."""
        return self._gate.tick

    @property
    def refusal(self) -> Refusal:
        """Why the last command was not followed."""
        return self._gate.refusal

    @property
    def late_setpoints(self) -> int:
        """Number of times that the arm was braked because a setpoint was late."""
        return self._stream.dry

    @property
    def late_answers(self) -> int:
        """Number of commands that were not sent, because the robot's millisecond was over."""
        return self._connection.late_answers

    @property
    def moving(self) -> bool:
        """Whether commands are being streamed to the robot."""
        return self._connection.moving

    def arm(self, now_s: float) -> None:
        """Follow setpoints from where the robot holds; without effect while it cannot be commanded.

        If the robot refuses, its reason is the arm's fault until arming is tried again.

        Raises:
            LinkError: the robot is gone.
        """
        if self.fault != self._refusal or (self._connection.moving and self._status is RobotStatus.HOLDING):
            # The arm is still coming to rest: the bridge repeats the order.
            return
        self.fault = self._refusal = ""
        if not self._gate.start(self._sample.joint_pos):
            return
        if not self._connection.moving:
            try:
                self._stream.start(self._connection.start(self._sample))
            except FciReflexError as error:
                self.fault = self._refusal = str(error)
                return
            self._moving_cycles = 0
            self._answered_s = self._sample.time_s
        self._status = RobotStatus.ARMED
        self._last_command_s = now_s
        self.witness.arms += 1

    def stop(self, mode: StopMode) -> None:
        """Come to rest and hold, in every mode, because the interface knows no other."""
        self.witness.stops[mode.name.lower()] += 1
        self._hold()

    def command(self, position: Vector, velocity: Vector, tick: int, now_s: float) -> None:
        """Follow a setpoint, or refuse it: not armed, not finite, outside the limits."""
        armed = self.status is RobotStatus.ARMED
        if self._gate.lets_pass(position, velocity, tick, measured=self._sample.joint_pos, armed=armed):
            self._stream.push(JointCommand(joint_pos=position, joint_vel=velocity))
            self._last_command_s = now_s

    def cycle(self, now_s: float) -> None:
        """Wait for the robot's next state, and answer it.

        Raises:
            LinkError: the robot is gone.
        """
        try:
            self._observe(self._connection.read())
            if self._connection.moving:
                self._watch(now_s)
                self._answer()
        except FciReflexError as error:
            self._on_reflex(error)

    def recover(self) -> None:
        """Recover from a reflex.

        Raises:
            LinkError: the robot is gone.
        """
        try:
            if self._connection.recover():
                self.fault, self._latched = "", False
        except FciReflexError as error:
            self.fault, self._latched = str(error), True

    def _watch(self, now_s: float) -> None:
        silence_s = now_s - self._last_command_s
        if self._status is RobotStatus.ARMED and silence_s >= self._description.watchdog_s:
            self._hold()
            self.witness.saw_hold(silence_s)

    def _hold(self) -> None:
        self._stream.brake()
        self._status = RobotStatus.HOLDING

    def _answer(self) -> None:
        # The robot has gone on by itself while states were missed, so the stream does the same.
        missed = min(round((self._sample.time_s - self._answered_s) / TICK_S) - 1, CATCH_UP_MAX)
        for _ in range(missed):
            self._stream.step()
        self._answered_s = self._sample.time_s
        command = self._stream.step()
        last = self._status is not RobotStatus.ARMED and self._stream.at_rest
        self._connection.send(command, self._sample, last=last)
        self._moving_cycles += 1
        if self._moving_cycles > 100 and not last:
            self.success_rate_min = min(self.success_rate_min, self._sample.success_rate)

    def _on_reflex(self, error: FciReflexError) -> None:
        self._status = RobotStatus.HOLDING
        self.reflexes.append(str(error))
        self.fault = str(error)
        # After any other stop the arm does not move again before a person has looked at it.
        self._latched = not error.is_of_commands
        if error.is_of_commands:
            self.recover()

    def _observe(self, sample: FciSample) -> None:
        self._sample = sample
        self.cycles += 1
        self.witness.saw_joints(sample.joint_pos, sample.joint_vel)
        if not (self._connection.moving or self._latched):
            self.fault = "; ".join(filter(None, (self._refusal, _AT_FAULT.get(sample.mode))))

    def _check_flange(self) -> None:
        expected = flange_position(self._description, self._sample.joint_pos)
        found = self._connection.flange_position()
        if not np.abs(expected - found).max() <= FLANGE_TOLERANCE_M:  # NaN is refused, too
            where = (np.round(position, 3).tolist() for position in (expected, found))
            raise ProtocolError(
                "fci: the flange of {} is expected at {} m, the robot has it at {} m".format(
                    self._description.name, *where
                )
            )
