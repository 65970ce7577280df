"""Commands the arm: makes a setpoint, filters it, sends it, and checks what was sent against the limits."""

from collections import Counter
from dataclasses import replace

import numpy as np

from wpg.hardware_bridge.axes import in_row, positions, velocities
from wpg.hardware_bridge.control.safety import SafetyFilter
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.gripper import GripperSetpoint
from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.robot import JointCommand, Robot, Vector
from wpg.hardware_bridge.setpoints import SetpointGenerator


class Motion:
    """Moves the arm from where it stands towards a target, one servo period at a time.

    If the robot reports a gripper, it moves along at its own speed. While the arm brakes or is held, the
    gripper stays as it is, so that it keeps what it holds.

    Args:
        robot: the robot that is commanded.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.dt_s = robot.description.servo_dt_s
        """Servo period."""
        self._gripper: GripperSetpoint | None = None
        self._pace = 1.0
        self._describe()
        self._tick = 0
        self.limit_violations = 0
        """Commands outside the published limits, as a check finds them that is independent of the filter."""

    def _describe(self) -> None:
        """Take over the limits that the robot's description has now."""
        self._description = self._robot.description
        self._setpoints = SetpointGenerator(self._description, self.dt_s)
        self._setpoints.set_pace(self._pace)
        self._filter = SafetyFilter(self._description, self.dt_s)
        self._checker = LimitChecker(self._description)

    @property
    def events(self) -> Counter[str]:
        """How often the filter had to act, by cause."""
        return self._filter.events

    @property
    def at_rest(self) -> bool:
        """Whether the commands stand still."""
        return self._filter.at_rest

    @property
    def joint_pos(self) -> Vector:
        """Last position sent, (num_joints,) rad."""
        return self._filter.joint_pos

    @property
    def target(self) -> Vector:
        """Joint target, (num_joints,) rad; after a start or braking, where the arm stands."""
        return self._setpoints.target

    @property
    def stop_pos(self) -> Vector:
        """Where the arm would come to rest if it braked now, (num_joints,) rad."""
        return self._filter.stop_pos

    @property
    def gripper_is_there(self) -> bool:
        """Whether the gripper's command has reached its target; True as well if there is no gripper."""
        return self._gripper is None or self._gripper.is_there

    def start(self, joint_pos: Vector, gripper_m: float | None = None) -> None:
        """Begin with an arm that was armed at rest at ``joint_pos`` (num_joints,) rad.

        ``gripper_m`` is the opening that the robot reports; None if it moves no gripper.
        """
        if self._robot.description is not self._description:
            # Once they are connected, servos may report narrower limits.
            self._describe()
        self._filter.start(joint_pos)
        self._setpoints.reset(joint_pos)
        gripper = self._robot.description.gripper
        self._gripper = None if gripper_m is None or gripper is None else GripperSetpoint(gripper, gripper_m)
        opening_m = None if self._gripper is None else gripper_m
        self._checker = LimitChecker(self._robot.description, gripper=self._gripper is not None)
        self._checker.start(in_row(joint_pos, opening_m))

    def resume(self) -> None:
        """Go on after braking, from the last command sent."""
        self._setpoints.reset(self._filter.joint_pos)
        if self._gripper is not None:
            self._gripper.start(self._gripper.opening_m)

    def set_pace(self, pace: float) -> None:
        """Set the share of the full speed that the arm uses, in (0, 1]."""
        self._pace = pace
        self._setpoints.set_pace(pace)

    def set_target(self, joint_pos: Vector) -> None:
        """Head for ``joint_pos`` (num_joints,) rad."""
        self._setpoints.set_target(joint_pos)

    def set_opening(self, opening_m: float) -> None:
        """Set the gripper's target opening; ``inf`` opens it fully."""
        if self._gripper is not None:
            self._gripper.set_target(opening_m)

    def follow(self) -> JointCommand:
        """Send the next command towards the target; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        try:
            command = self._setpoints.step()
        except BridgeError:
            self.events["no_setpoint"] += 1
            return self.brake()
        return self.play(command)

    def play(self, command: JointCommand) -> JointCommand:
        """Send a setpoint that was planned elsewhere, filtered to the limits; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        if self._gripper is not None:
            self._gripper.step(self._pace * self.dt_s)
        return self._send(self._filter.follow(command))

    def brake(self) -> JointCommand:
        """Send the next command on the quickest way to rest; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        return self._send(self._filter.brake())

    def stand(self) -> JointCommand:
        """The position that the device holds the arm at, as a command that is not sent."""
        return JointCommand(joint_pos=self.joint_pos, joint_vel=np.zeros_like(self.joint_pos))

    def _send(self, command: JointCommand) -> JointCommand:
        if self._gripper is not None:
            command = replace(command, gripper_m=self._gripper.opening_m)
        sent = self._robot.write(command)
        if sent.gripper_m is None:
            sent = replace(sent, gripper_m=command.gripper_m)
        position = positions(sent)
        if not np.isfinite(position).all():
            # The filter bounds the next command by the last one sent: from NaN it would let everything pass.
            self.limit_violations += 1
            sent, position = command, positions(command)
        self._filter.sent(sent)
        self._tick += 1
        if self._checker.check(position, velocities(sent), self._tick):
            self.limit_violations += 1
        self._checker.accept(position, self._tick)
        return sent
