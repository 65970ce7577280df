"""The way of a command to the robot: set-point, safety filter, driver, and an audit of what was sent."""

from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.robot import JointCommand, Robot, Vector
from wpg.hardware_bridge.safety import SafetyFilter
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.hardware_bridge.witness import CommandJudge, count


class Motion:
    """Moves the arm from where it stands towards a target, one servo period at a time.

    Args:
        robot: what is commanded.
    """

    def __init__(self, robot: Robot) -> None:
        description = robot.description
        self._robot = robot
        self._setpoints = SetpointGenerator(description, description.servo_dt_s)
        self._filter = SafetyFilter(description, description.servo_dt_s)
        self._judge = CommandJudge(description)
        self._tick = 0
        self.limit_violations = 0
        """Commands that left the published limits, by an audit that knows nothing of the filter."""

    @property
    def events(self) -> dict[str, int]:
        """How often the filter had to act, by cause."""
        return self._filter.events

    @property
    def at_rest(self) -> bool:
        """The commands stand still."""
        return self._filter.at_rest

    @property
    def joint_pos(self) -> Vector:
        """Last position sent, (num_joints,) rad."""
        return self._filter.joint_pos

    @property
    def target(self) -> Vector:
        """Where the arm is told to go, (num_joints,) rad; where it stands after a start and after braking."""
        return self._setpoints.target

    @property
    def stop_pos(self) -> Vector:
        """Where braking from now on ends, (num_joints,) rad."""
        return self._filter.stop_pos

    def start(self, joint_pos: Vector) -> None:
        """Begin from an arm that was armed at rest at ``joint_pos`` (num_joints,) rad."""
        self._filter.start(joint_pos)
        self._setpoints.reset(joint_pos)
        self._judge.start(joint_pos)

    def resume(self) -> None:
        """Go on after braking, from the last command sent."""
        self._setpoints.reset(self._filter.joint_pos)

    def set_pace(self, pace: float) -> None:
        """Part of the usual speed to use, in (0, 1]."""
        self._setpoints.set_pace(pace)

    def set_target(self, joint_pos: Vector) -> None:
        """Head for ``joint_pos`` (num_joints,) rad."""
        self._setpoints.set_target(joint_pos)

    def follow(self) -> JointCommand:
        """Send the next command towards the target; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        try:
            command = self._setpoints.step()
        except BridgeError:
            count(self.events, "no_setpoint")
            return self.brake()
        return self.play(command)

    def play(self, command: JointCommand) -> JointCommand:
        """Send a set-point that was planned elsewhere, as far as the limits allow; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        return self._send(self._filter.follow(command))

    def brake(self) -> JointCommand:
        """Send the next command on the quickest way to rest; returns what was sent.

        Raises:
            LinkError: the link is dead.
        """
        return self._send(self._filter.brake())

    def _send(self, command: JointCommand) -> JointCommand:
        sent = self._robot.write(command)
        self._filter.sent(sent)
        self._tick += 1
        if self._judge.judge(sent.joint_pos, sent.joint_vel, self._tick):
            self.limit_violations += 1
        self._judge.accept(sent.joint_pos, self._tick)
        return sent
