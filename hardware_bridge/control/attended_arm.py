"""An arm that is armed where it stands, watched while it moves, and left stopped."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.checks import check_stance
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.hazard_monitor import HazardMonitor
from wpg.hardware_bridge.control.mode_commander import ModeCommander
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.rate_timer import RateTimer
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.control.target_limiter import TargetLimiter
from wpg.hardware_bridge.robot import Robot, RobotState
from wpg.hardware_bridge.sources.source import Feed


class AttendedArm:
    """What a policy's run and a planned motion share: the parts that read, watch and command a robot.

    Args:
        robot: not yet connected.
        safety: thresholds, and the box of the tool.
        emergency: a request is heeded while the robot is armed and left.
        feed: tells how old the readings from outside the robot are; None if none are needed.
    """

    def __init__(
        self,
        robot: Robot,
        safety: SafetyConfig,
        *,
        clock: Clock,
        emergency: EmergencyStop,
        feed: Feed | None = None,
    ) -> None:
        self._robot = robot
        self.motion = Motion(robot)
        self.limiter = TargetLimiter(robot.description, safety)
        self.reader = StateReader(robot, clock)
        self.timer = RateTimer(robot.description.servo_dt_s, clock)
        self.modes = ModeCommander(robot, self.reader, emergency, clock)
        self.monitor = HazardMonitor(
            safety,
            reader=self.reader,
            timer=self.timer,
            motion=self.motion,
            modes=self.modes,
            limiter=self.limiter,
            feed=feed,
        )

    def check_place(self, state: RobotState, margin_m: float = 0.0) -> None:
        """Check that the arm may be armed where it stands, its tool at most ``margin_m`` outside its box.

        Raises:
            BridgeError: it may not.
        """
        check_stance(state, self._robot.description)
        self.limiter.check_start(state.joint_pos, margin_m)

    def start(self) -> RobotState:
        """Begin to command a robot that has just armed, from where it stands; returns its state.

        Raises:
            StaleStateError: it reports no state.
            LinkError: the link is dead.
        """
        state = self.reader.first()
        self.motion.start(state.joint_pos, state.gripper_m)
        return state
